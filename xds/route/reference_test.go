package route

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// referenceMatch returns the index of the first matching route, or -1: the language as its documentation puts
// it, from the document itself, with no thought of speed. It shares no code with Table.
func referenceMatch(c Config, r Request) int {
	if r.Method == "CONNECT" || slices.ContainsFunc(r.Headers, func(h [2]string) bool {
		return h[0] == "upgrade" || h[0] == "content-type" && strings.Index(h[1], "application/grpc") == 0
	}) {
		return -1
	}
	for i, route := range c.Routes {
		if referenceHolds(route.Match, r) && (route.Sample == nil || route.Sample.takes(r.Draw, i)) {
			return i
		}
	}
	return -1
}

var (
	beforeQuery = regexp.MustCompile(`^[^?#]*`)
	port        = regexp.MustCompile(`:[^:\]]*$`)
)

func referenceHolds(m Match, r Request) bool {
	path := beforeQuery.FindString(r.Path)
	switch {
	case m.Path != "" && path != m.Path,
		m.Prefix != "" && !strings.HasPrefix(path, m.Prefix),
		m.SafeRegex != "" && !referenceRegex(m.SafeRegex, path),
		m.PathTemplate != "" && !referenceRegex(referenceTemplate(m.PathTemplate), path),
		len(m.Methods) > 0 && !slices.Contains(m.Methods, r.Method):
		return false
	}
	host := strings.ToLower(port.ReplaceAllString(r.Authority, ""))
	if len(m.Hosts) > 0 && !slices.ContainsFunc(m.Hosts, func(pattern string) bool {
		glob := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(pattern)), `\*`, ".+")
		return pattern == "*" || regexp.MustCompile(`(?s)^`+glob+`$`).MatchString(host)
	}) {
		return false
	}
	for _, h := range m.Headers {
		var values []string
		for _, pair := range r.Headers {
			if strings.EqualFold(pair[0], h.Name) {
				values = append(values, pair[1])
			}
		}
		if len(values) == 0 && !referenceFits(h, nil, "") ||
			len(values) > 0 && !slices.ContainsFunc(values, func(value string) bool { return referenceFits(h, values, value) }) {
			return false
		}
	}
	query := regexp.MustCompile(`^[^?#]*\?([^#]*)`).FindStringSubmatch(r.Path)
	for _, p := range m.QueryParameters {
		var values []string
		if query != nil {
			for _, pair := range strings.Split(query[1], "&") {
				if name, value, _ := strings.Cut(pair, "="); name == p.Name {
					values = append(values, value)
				}
			}
		}
		if !referenceFits(p, values, strings.Join(values[:min(1, len(values))], "")) {
			return false
		}
	}
	return true
}

func referenceFits(m ValueMatch, values []string, value string) bool {
	wanted := m.Present == nil || *m.Present
	return (len(values) > 0) == wanted &&
		(m.Exact == nil || value == *m.Exact) &&
		(m.Prefix == nil || strings.HasPrefix(value, *m.Prefix)) &&
		(m.SafeRegex == nil || referenceRegex(*m.SafeRegex, value))
}

var variable = regexp.MustCompile(`\\\{[A-Za-z0-9_]+\\\}`)

// referenceTemplate returns the template as a regular expression.
func referenceTemplate(template string) string {
	expr := variable.ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
	return "(?s)" + strings.ReplaceAll(strings.ReplaceAll(expr, `\*\*`, `.*`), `\*`, `[^/]+`)
}

// referenceRegex reports whether the longest of the leftmost matches is the whole text: so it is if any match is.
func referenceRegex(expr, text string) bool {
	regex := regexp.MustCompile(expr)
	regex.Longest()
	at := regex.FindStringIndex(text)
	return at != nil && at[0] == 0 && at[1] == len(text)
}

// checkMatch holds Match and Explain against the reference.
func checkMatch(t *testing.T, c Config, table *Table, r Request) {
	t.Helper()
	want := "no route"
	if i := referenceMatch(c, r); i >= 0 {
		want = c.Routes[i].Name
	}
	got := "no route"
	if rule := table.Match(&r); rule != nil {
		got = rule.Name
	}
	if got != want {
		t.Errorf("%+v of %+v: got %s, want %s", r, c.Routes, got, want)
	}
	explained := "no route"
	for i, step := range table.Explain(&r) {
		if step.Route != c.Routes[i].Name || step.Reason == "" || step.Matched != referenceHolds(c.Routes[i].Match, r) {
			t.Errorf("%+v: step %d is %+v", r, i, step)
		}
		if step.Matched && step.Sample.takes(r.Draw, i) && explained == "no route" {
			explained = step.Route
		}
	}
	if explained != want {
		t.Errorf("%+v: explained as %s, want %s", r, explained, want)
	}
}

// dice make documents and requests of so few different parts that they meet.
type dice struct{ *rand.Rand }

func (d dice) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d dice) path() string {
	return "/" + strings.Join([]string{d.pick("a", "b", "ab", ""), d.pick("/", "", "a"), d.pick("a", "b", "")}, "")
}

func (d dice) match() Match {
	var m Match
	switch d.IntN(6) {
	case 0:
		m.SafeRegex = d.pick("/a*", "/(a|ab)/?", "/[^/]+", ".*b", "(?i)/A", `/\Qa`, "^/a.*$", "^/ab?/$|^/b", `\A/a`, "^(/a|/b)", "(^/a)b?", "^*/a", "^^/a", "/a^b", "(?m)^/a", "(?s)/.*", "/", "")
		if m.SafeRegex == "" {
			m.SafeRegex = "/a/.*"
		}
	case 5:
		m.PathTemplate = "/" + d.pick("a", "b", "*", "{x}", "**")
		if m.PathTemplate != "/**" {
			m.PathTemplate += d.pick("", "/", "/a", "/*", "/{y}", "/**")
		}
	case 1, 2:
		m.Path = d.path()
	default:
		m.Prefix = d.path()
	}
	if d.IntN(3) == 0 {
		m.Methods = []string{d.pick("GET", "POST"), "PUT"}
	}
	if d.IntN(3) == 0 {
		m.Hosts = []string{d.pick("a.b", "*.b", "a.*", "A.B", "[::1]", "*", "x.b", "x.a.c", "x.*"), d.pick("a.c", "*.a.c", "*.c", "x.a.*")}[:1+d.IntN(2)]
	}
	if d.IntN(3) == 0 {
		h := ValueMatch{Name: d.pick("x-a", "X-B")}
		value := d.pick("1", "1,2", "12")
		switch d.IntN(5) {
		case 0:
			h.Exact = &value
		case 1:
			h.Prefix = &value
		case 2:
			h.SafeRegex = new("[12,]+")
		case 3:
			h.Present = new(d.IntN(2) == 0)
		}
		m.Headers = append(m.Headers, h)
	}
	if d.IntN(4) == 0 {
		p := ValueMatch{Name: d.pick("p", "q")}
		switch d.IntN(4) {
		case 0:
			p.Exact = new(d.pick("1", ""))
		case 1:
			p.Present = new(false)
		}
		m.QueryParameters = append(m.QueryParameters, p)
	}
	return m
}

func (d dice) policy() Policy {
	p := Policy{Topic: "t"}
	if d.IntN(4) == 0 {
		p.Sample = new(Percent(d.IntN(int(whole))))
	}
	return p
}

func (d dice) request() Request {
	r := Request{
		Method:    d.pick("GET", "POST", "PUT"),
		Authority: d.pick("a.b", "A.b:80", "x.b", "a.x:1", "x.a.c", "[::1]:80", "[::1]", ""),
		Path:      d.path() + d.pick("", "", "?/a", "#b", "?", "?p=1", "?p&q=1", "?q=2&p=1&p#x"),
		Draw:      d.Uint64(),
	}
	for range d.IntN(3) {
		r.Headers = append(r.Headers, [2]string{d.pick("x-a", "x-b"), d.pick("1", "2", "")})
	}
	return r
}

func TestMatchIsFirstMatch(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	for range 100 {
		c := Config{Routes: []Route{}}
		for i := range d.IntN(30) {
			c.Routes = append(c.Routes, Route{Name: fmt.Sprint(i), Match: d.match(), Policy: d.policy()})
		}
		table := compile(t, c)
		hidden := map[string]bool{}
		for _, warning := range c.Warnings() {
			hidden[warning.Path] = true
		}
		for range 20 {
			r := d.request()
			checkMatch(t, c, table, r)
			if i := referenceMatch(c, r); i >= 0 && hidden[fmt.Sprintf("routes[%d].match", i)] {
				t.Errorf("routes[%d] of %+v takes %+v in spite of the warning", i, c.Routes, r)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/a", "/a/", "/a/{b}", "/a[0-9]+", "*.shop.example", "x-a", "1", "POST", "a.shop.example:80", "/a/1?b")
	f.Add("/", "/", "/**", ".*", "[::1]", "x", "", "", "[::1]", "")
	f.Add("/a", "/b", "/*/", `\Q`, "a.*", "x-a", "1,1", "GET", "A.b", "#")
	f.Fuzz(func(t *testing.T, path, prefix, template, regex, host, header, value, method, authority, requested string) {
		c := Config{Routes: []Route{
			{Name: "header", Match: Match{Prefix: prefix, Headers: []ValueMatch{{Name: header, Exact: &value}}}, Policy: Policy{Topic: "t"}},
			{Name: "host", Match: Match{Path: path, Hosts: []string{host}}, Policy: Policy{Topic: "t"}},
			{Name: "parameter", Match: Match{Prefix: prefix, QueryParameters: []ValueMatch{{Name: header, Exact: &value}}}, Policy: Policy{Topic: "t"}},
			{Name: "template", Match: Match{PathTemplate: template, Hosts: []string{host}}, Policy: Policy{Topic: "t"}},
			{Name: "regex", Match: Match{SafeRegex: regex, Methods: []string{"POST"}}, Policy: Policy{Topic: "t"}},
			{Name: "prefix", Match: Match{Prefix: prefix}, Policy: Policy{Topic: "t"}},
			{Name: "path", Match: Match{Path: path}, Policy: Policy{Topic: "t"}},
		}}
		table, err := Compile(c)
		if err != nil || !utf8.ValidString(template) { // as every document is, and the reference's regexes have to be
			return
		}
		checkMatch(t, c, table, Request{
			Method: method, Authority: authority, Path: requested,
			Headers: [][2]string{{strings.ToLower(header), value}, {":path", requested}},
		})
	})
}
