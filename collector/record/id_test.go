package record

import (
	"testing"
	"time"
)

func TestID(t *testing.T) {
	at := time.UnixMilli(0x0123456789ab)
	seen := map[ID]bool{}
	for range 10000 {
		id := NewID(at)
		s := id.String()
		if s[:15] != "01234567-89ab-7" || s[19] < '8' || s[19] > 'b' && s[19] != 'a' {
			t.Fatalf("%s is not a UUID of version 7 at that time", s)
		}
		back, err := ParseID(s)
		if err != nil || back != id {
			t.Fatalf("ParseID(%s) = %v, %v", s, back, err)
		}
		if seen[id] {
			t.Fatalf("%s came twice", s)
		}
		seen[id] = true
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "01234567-89ab-7000-8000-00000000000", "01234567-89ab-7000-8000-00000000000g",
		"0123456789ab-7000-8000-00000000000000", "{1234567-89ab-7000-8000-000000000000",
	} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	}
}
