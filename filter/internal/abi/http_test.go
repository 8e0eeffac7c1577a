package abi

import (
	"bytes"
	"testing"
)

// FuzzHeaderMap reads bytes as a header map: what is one is written again as it was read, up to the lengths that it says.
func FuzzHeaderMap(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(AppendHeaderMap(nil, nil))
	f.Add(AppendHeaderMap(nil, [][2]string{{":path", "/leads"}, {"x-empty", ""}, {"x", "\xff\x00"}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		headers, err := ReadHeaderMap(nil, raw)
		if err != nil {
			return
		}
		again := AppendHeaderMap(nil, headers)
		if len(again) > len(raw) {
			t.Fatalf("%q has become longer: %q", raw, again)
		}
		for i, h := range headers { // what stands between the texts is the host's
			back, err := ReadHeaderMap(nil, again)
			if err != nil || len(back) != len(headers) || back[i] != h {
				t.Fatalf("%q reads as %q, and that as %q", raw, headers, back)
			}
		}
		if bytes.Equal(raw[:4], again[:4]) != true {
			t.Fatalf("count of %q differs from that of %q", raw, again)
		}
	})
}

func TestHeaderMapIsRefusedWhereItIsCut(t *testing.T) {
	whole := AppendHeaderMap(nil, [][2]string{{":path", "/leads"}, {"accept", "*/*"}})
	for n := range whole {
		if headers, err := ReadHeaderMap(nil, whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes read as %q", n, len(whole), headers)
		}
	}
}
