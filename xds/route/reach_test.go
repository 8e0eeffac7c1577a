package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

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

// checkReach holds a document's reach against the requests that its table takes, and returns how many those are.
func checkReach(t *testing.T, c Config, requests ...Request) (taken int) {
	t.Helper()
	table, reach := compile(t, c), c.Reach()
	for _, r := range requests {
		if table.Match(&r) == nil {
			continue
		}
		taken++
		begins := func(prefix string) bool { return strings.HasPrefix(r.Path, prefix) }
		if !slices.Contains(reach.Paths, beforeQuery.FindString(r.Path)) && !slices.ContainsFunc(reach.Prefixes, begins) {
			t.Errorf("%+v is out of %+v, the reach of %+v", r, reach, c.Routes)
		}
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
	return taken
}

// TestReachHoldsWhatIsTaken is about documents of few routes, as the reach of many is soon everything.
func TestReachHoldsWhatIsTaken(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	taken := 0
	for range 2_000 {
		c := Config{Routes: []Route{}}
		for i := range d.IntN(4) {
			c.Routes = append(c.Routes, Route{Name: fmt.Sprint(i), Match: d.match(), Policy: d.policy()})
		}
		var requests []Request
		for range 20 {
			requests = append(requests, d.request())
		}
		if taken += checkReach(t, c, requests...); t.Failed() {
			return
		}
	}
	if taken < 1_000 {
		t.Errorf("only %d requests are taken", taken)
	}
}

func FuzzReach(f *testing.F) {
	f.Add("/a", "/a/", "/a/{b}", "/a[0-9]+", "/a/1?b")
	f.Add("/", "/", "/**", ".*", "/")
	f.Add("/a", "/b", "/*/", "^(?i)/a|/b", "/A#")
	f.Fuzz(func(t *testing.T, path, prefix, template, regex, requested string) {
		all := Config{Routes: []Route{}}
		for _, m := range []Match{{Path: path}, {Prefix: prefix}, {PathTemplate: template}, {SafeRegex: regex}} {
			one := Config{Routes: []Route{{Name: fmt.Sprint(len(all.Routes)), Match: m, Policy: Policy{Topic: "t"}}}}
			if one.Validate() == nil {
				all.Routes = append(all.Routes, one.Routes...)
				checkReach(t, one, Request{Path: requested}, Request{Path: path}, Request{Path: prefix + requested}, Request{Path: template})
			}
		}
		checkReach(t, all, Request{Path: requested})
	})
}
