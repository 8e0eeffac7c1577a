package route

import (
	"strings"
	"testing"
	"testing/quick"
)

func TestCharset(t *testing.T) {
	const characters = alphanumerics + "!#$%&'*+-.^_`|~"
	for i := range 256 {
		if s := string([]byte{byte(i)}); tokenChars.holds(s) != strings.Contains(characters, s) {
			t.Errorf("%q: %v", s, tokenChars.holds(s))
		}
	}
	same := func(s string) bool { return tokenChars.holds(s) == (strings.Trim(s, characters) == "") }
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	for s, want := range map[string]bool{"": true, "abc": true, "a c": false, "é": false, "ab\xff": false, "\x80": false} {
		if tokenChars.holds(s) != want || !same(s) {
			t.Errorf("%q: %v, want %v", s, tokenChars.holds(s), want)
		}
	}
}
