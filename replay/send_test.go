package replay

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequestConfig(t *testing.T) {
	c, err := Source{File: "replay.yaml"}.parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	r := c.withDefaults().request(nil)
	if got := r.Paths[0].Pattern.ReplaceAllString("/v1/a", r.Paths[0].Substitution); got != "/v2/a" {
		t.Errorf("rewritten: %s", got)
	}
	if r.HTTP1 || !r.HTTP2 || r.Host != "crm.example" || r.Set[0].File != "token" || r.Set[1].Value != "b" || r.Remove[0] != "cookie" {
		t.Errorf("%+v", r)
	}
	for status, want := range map[int][2]bool{200: {true, false}, 409: {true, false}, 404: {false, false}, 500: {false, true}, 505: {false, false}} {
		if got := [2]bool{r.Expected(status), r.Retriable(status)}; got != want {
			t.Errorf("%d: expected and retriable %v, want %v", status, got, want)
		}
	}
	defaults := Config{}.withDefaults().request(nil)
	if !defaults.HTTP1 || !defaults.HTTP2 {
		t.Errorf("%+v", defaults)
	}
	for status, want := range map[int][2]bool{204: {true, false}, 302: {false, false}, 400: {false, false}, 401: {false, true}, 403: {false, true}, 429: {false, true}, 503: {false, true}} {
		if got := [2]bool{defaults.Expected(status), defaults.Retriable(status)}; got != want {
			t.Errorf("%d: expected and retriable by default %v, want %v", status, got, want)
		}
	}
}

func TestSubstitution(t *testing.T) {
	const path = "/a$b/c"
	pattern := regexp.MustCompile(`(\w)\$(\w)`)
	for substitution, want := range map[string]string{
		``: "//c", `\2-\1`: "/b-a/c", `\0\0`: "/a$ba$b/c", `$1`: "/$1/c", `${1}`: "/${1}/c", `\\1`: `/\1/c`, `\11`: "/a1/c", `é\1`: "/éa/c", `$$\\`: `/$$\/c`,
	} {
		template, err := expansion(substitution, pattern.NumSubexp())
		if err != nil {
			t.Errorf("%s: %v", substitution, err)
			continue
		}
		if diff := cmp.Diff(want, pattern.ReplaceAllString(path, template)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", substitution, diff)
		}
	}
	for _, substitution := range []string{`\`, `a\`, `\3`, `\x`, `\$`, `\é`} {
		if template, err := expansion(substitution, pattern.NumSubexp()); err == nil {
			t.Errorf("%s is %s", substitution, template)
		}
	}
}
