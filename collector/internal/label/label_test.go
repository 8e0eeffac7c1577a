package label

import (
	"strings"
	"testing"
)

func TestSet(t *testing.T) {
	s := NewSet(2)
	for _, c := range []struct{ in, want string }{
		{"leads", "leads"},
		{"", Unknown},
		{"\xff", Other},
		{strings.Repeat("x", maxLength+1), Other},
		{"tracking", "tracking"},
		{"one too many", Other},
		{"leads", "leads"},
	} {
		if got := s.Value(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
