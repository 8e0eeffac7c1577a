package exports

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func section(id byte, content []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(content))), content...)
}

// exporting is a module that exports functions of these names, with a section before and after.
func exporting(names ...string) []byte {
	content := binary.AppendUvarint(nil, uint64(len(names)))
	for i, name := range names {
		content = binary.AppendUvarint(content, uint64(len(name)))
		content = append(append(content, name...), 0)
		content = binary.AppendUvarint(content, uint64(1000*i))
	}
	return slices.Concat([]byte(header), section(1, []byte{0}), section(exportSection, content), section(11, make([]byte, 300)))
}

func TestTrimKeepsWhatEnvoyNeeds(t *testing.T) {
	got, err := Trim(exporting(Kept...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exporting(Kept...), got); diff != "" {
		t.Errorf("what is needed is not all (-want +got):\n%s", diff)
	}
	all := append(slices.Clone(Kept), "proxy_on_response_body", "proxy_on_http_call_response")
	got, err = Trim(exporting(all...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exporting(Kept...), got); diff != "" {
		t.Errorf("more is left than is needed (-want +got):\n%s", diff)
	}
}

func TestTrimReplacesCallbacksOfTheSDK(t *testing.T) {
	want := exporting(Kept...)
	i := slices.Index(Kept, "proxy_on_tick")
	renamed := slices.Clone(Kept)
	renamed[i] = "crowd_on_tick"
	got, err := Trim(exporting(append(renamed, "proxy_on_tick")...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the module's own callback is not in the SDK's place (-want +got):\n%s", diff)
	}
}

func TestTrimRefuses(t *testing.T) {
	whole := exporting(Kept...)
	for name, module := range map[string][]byte{
		"nothing":            nil,
		"something else":     []byte("\x7fELF"),
		"no exports":         []byte(header),
		"a missing export":   exporting(Kept[1:]...),
		"a section cut off":  whole[:len(whole)-1],
		"too many announced": slices.Concat([]byte(header), section(exportSection, []byte{200, 1, 'a', 0, 0})),
		"too few announced":  slices.Concat([]byte(header), section(exportSection, []byte{0, 1, 'a', 0, 0})),
	} {
		if _, err := Trim(module); !errors.Is(err, ErrModule) || strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzTrim trims anything: it fails, or what it returns is as it should be.
func FuzzTrim(f *testing.F) {
	f.Add(exporting(Kept...))
	f.Add(exporting(append(slices.Clone(Kept), "proxy_on_foreign_function")...))
	f.Add(exporting())
	f.Fuzz(func(t *testing.T, module []byte) {
		once, err := Trim(module)
		if err != nil {
			return
		}
		twice, err := Trim(once)
		if err != nil {
			t.Fatalf("what Trim has made is refused: %v", err)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("something is left to trim (-once +twice):\n%s", diff)
		}
	})
}
