package envoy

import (
	"fmt"
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	tests := []struct {
		name   string
		writes []string
		want   string
	}{
		{"nothing", nil, ""},
		{"short", []string{"one\n", "two\n"}, "; its last words:\none\ntwo"},
		{"long", []string{strings.Repeat("x", tailBytes), "\nend\n"}, "; its last words:\nend"},
	}
	for _, tt := range tests {
		var l tail
		for _, w := range tt.writes {
			fmt.Fprint(&l, w)
		}
		if got := l.quoted(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
