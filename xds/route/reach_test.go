package route

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReach(t *testing.T) {
	for name, test := range map[string]struct {
		matches []Match
		want    Reach
	}{
		"nothing": {nil, Reach{}},
		"every kind": {
			[]Match{{SafeRegex: "/c[0-9]+|/cd"}, {PathTemplate: "/shops/{shop}/orders"}, {Prefix: "/b/"}, {Path: "/a"}, {PathTemplate: "/d/e"}},
			Reach{[]string{"/a"}, []string{"/b/", "/c", "/d/e", "/shops/"}},
		},
		"what others have": {
			[]Match{{Prefix: "/a/b"}, {Path: "/a/b/c"}, {Path: "/a/b"}, {Prefix: "/a/b/d"}, {Path: "/a/c"}, {Path: "/a/c", Methods: []string{"PUT"}}, {Prefix: "/a/b"}},
			Reach{[]string{"/a/c"}, []string{"/a/b"}},
		},
		"what only begins alike": {
			[]Match{{Path: "/a"}, {Path: "/a/b"}, {Prefix: "/a/c"}, {Path: "/a/ca"}, {Path: "/"}},
			Reach{[]string{"/", "/a", "/a/b"}, []string{"/a/c"}},
		},
		"every path":        {[]Match{{Path: "/a"}, {Prefix: "/"}, {PathTemplate: "/a/{b}"}}, Reach{nil, []string{"/"}}},
		"templates of all":  {[]Match{{PathTemplate: "/{a}/b"}, {Prefix: "/b"}}, Reach{nil, []string{"/"}}},
		"regexes of all":    {[]Match{{SafeRegex: ".*/leads"}, {Prefix: "/b"}}, Reach{nil, []string{""}}},
		"regexes, anchored": {[]Match{{SafeRegex: "^/leads/[a-z]+$"}}, Reach{nil, []string{"/leads/"}}},
		"regexes, any case": {[]Match{{SafeRegex: "(?i)/leads"}}, Reach{nil, []string{"/"}}},
	} {
		c := Config{Routes: []Route{}}
		for _, m := range test.matches {
			c.Routes = append(c.Routes, Route{Match: m})
		}
		if diff := cmp.Diff(test.want, c.Reach()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// checkReach holds a document's reach against a request that one of its routes takes.
func checkReach(t *testing.T, c Config, taken Request) {
	t.Helper()
	reach := c.Reach()
	if !slices.Contains(reach.Paths, pathOf(taken.Path)) && !reach.begins(taken.Path) {
		t.Errorf("%+v is out of %+v, the reach of %+v", taken, reach, c.Routes)
	}
	if !slices.IsSorted(reach.Paths) || !slices.IsSorted(reach.Prefixes) {
		t.Errorf("%+v is out of order", reach)
	}
	for i, prefix := range reach.Prefixes {
		begun := func(text string) bool { return strings.HasPrefix(text, prefix) }
		if slices.ContainsFunc(slices.Delete(slices.Clone(reach.Prefixes), i, i+1), begun) || slices.ContainsFunc(reach.Paths, begun) {
			t.Errorf("%q is not the only one of %+v", prefix, reach)
		}
	}
}
