package route

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKey(t *testing.T) {
	request := &Request{
		Method: "POST", Authority: "shop.example:8080", Path: "/a?b=c",
		Headers: [][2]string{{":path", "/other"}, {"x-a", "1"}, {"x-b", "2"}, {"x-a", "3"}, {"x-empty", ""}},
	}
	for format, want := range map[string][]byte{
		"":                                 nil,
		"all":                              []byte("all"),
		"100%%":                            []byte("100%"),
		"%%REQ(x-a)%%":                     []byte("%REQ(x-a)%"),
		"%REQ(x-a)%":                       []byte("1"),
		"%REQ(X-A)%":                       []byte("1"),
		"%REQ(x-none?x-b)%":                []byte("2"),
		"%REQ(x-a?x-b)%":                   []byte("1"),
		"%REQ(x-none)%":                    nil,
		"tenant-%REQ(x-none)%":             nil,
		"%REQ(x-none)%/%REQ(x-b)%":         []byte("/2"),
		"%REQ(x-empty)%":                   {},
		"%REQ(x-empty?x-a)%":               {},
		"%REQ(:path)%":                     []byte("/a?b=c"),
		"%REQ(authorization)%":             nil,
		"%PATH_VARIABLE(shop)%":            []byte("a"),
		"%PATH_VARIABLE(shop)%/%REQ(x-a)%": []byte("a/1"),
		"%REQ(:METHOD)% %REQ(:authority)%": []byte("POST shop.example:8080"),
	} {
		table, err := Compile(one(func(_ *Config, r *Route) {
			r.Key, r.Match, r.RecordHeaders.Deny = format, Match{PathTemplate: "/{shop}"}, []string{}
		}))
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if diff := cmp.Diff(want, table.Match(request).Key(request)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", format, diff)
		}
	}
	if key, err := parseKey("%REQ(:authority)%"); err != nil || key.of(&Request{}, nil) != nil {
		t.Errorf("no authority is not the null key, error %v", err)
	}
}

func FuzzKey(f *testing.F) {
	for _, format := range []string{"", "a", "%", "%%", "%REQ(x-a)%", "a-%REQ(:path?x-b)%%%", "%REQ(a?b?c)%", "%REQ(x)", "%REQ(x):1%", "%PROTOCOL%"} {
		f.Add(format, "x-a", "value")
	}
	f.Fuzz(func(t *testing.T, format, name, value string) {
		literal, err := parseKey(strings.ReplaceAll(format, "%", "%%"))
		if err != nil || string(literal.of(&Request{}, nil)) != format {
			t.Errorf("%q is not itself when its percent signs are doubled: %v", format, err)
		}
		key, err := parseKey(format)
		if err != nil {
			if !strings.Contains(err.Error(), "(allowed: ") {
				t.Errorf("%q: %v does not say what is allowed", format, err)
			}
			return
		}
		request := &Request{Headers: [][2]string{{name, value}}}
		if got := key.of(request, nil); len(got) > len(format)*(len(value)+1) {
			t.Errorf("%q makes %d bytes of a header of %d", format, len(got), len(value))
		}
	})
}
