package route

import (
	"fmt"
	"testing"
	"time"
)

func compile(t testing.TB, c Config) *Table {
	t.Helper()
	table, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestMatch(t *testing.T) {
	header := func(h ValueMatch) Match { return Match{Path: "/", Headers: []ValueMatch{h}} }
	for name, test := range map[string]struct {
		match   Match
		matches []Request
		misses  []Request
	}{
		"path": {
			Match{Path: "/a"},
			[]Request{{Path: "/a"}, {Path: "/a?b"}, {Path: "/a#b?c"}, {Path: "/a?#"}},
			[]Request{{Path: "/A"}, {Path: "/a/"}, {Path: "/%61"}, {Path: "//a"}, {Path: ""}, {Path: "?/a"}},
		},
		"prefix": {
			Match{Prefix: "/a/"},
			[]Request{{Path: "/a/"}, {Path: "/a/b?c"}, {Path: "/a/../b"}},
			[]Request{{Path: "/a"}, {Path: "/a?/"}, {Path: "/A/"}, {Path: ""}},
		},
		"safe_regex": {
			Match{SafeRegex: "/a|/b[0-9]+"},
			[]Request{{Path: "/a"}, {Path: "/b12?c"}},
			[]Request{{Path: "/ab"}, {Path: "/x/a"}, {Path: "/b12/"}, {Path: "/a\n"}, {Path: "/b"}},
		},
		"path_template": {
			Match{PathTemplate: "/shops/{shop}/orders"},
			[]Request{{Path: "/shops/7/orders"}, {Path: "/shops/a%2Fb/orders?x"}},
			[]Request{{Path: "/shops//orders"}, {Path: "/shops/7/orders/"}, {Path: "/shops/7"}, {Path: "/shops/7/8/orders"}, {Path: "shops/7/orders"}, {Path: ""}},
		},
		"path_template, rest": {
			Match{PathTemplate: "/a/*/**"},
			[]Request{{Path: "/a/b/"}, {Path: "/a/b/c/d"}, {Path: "/a/b//"}},
			[]Request{{Path: "/a/b"}, {Path: "/a//b"}, {Path: "/a"}},
		},
		"path_template, a variable that is called as a segment": {
			Match{PathTemplate: "/shop/{shop}/*/{order}/order"}, []Request{{Path: "/shop/7/8/9/order"}}, []Request{{Path: "/7/7/8/9/order"}},
		},
		"path_template, slash": {Match{PathTemplate: "/a/"}, []Request{{Path: "/a/"}}, []Request{{Path: "/a"}, {Path: "/a//"}}},
		"query parameter, exact": {
			Match{Path: "/", QueryParameters: []ValueMatch{{Name: "a", Exact: new("1")}}},
			[]Request{{Path: "/?a=1"}, {Path: "/?b&a=1&a=2#c"}},
			[]Request{{Path: "/"}, {Path: "/?a=2&a=1"}, {Path: "/?A=1"}, {Path: "/?a=%31"}, {Path: "/#?a=1"}, {Path: "/?b=1#&a=1"}},
		},
		"query parameters, present and absent": {
			Match{Path: "/", QueryParameters: []ValueMatch{{Name: "a"}, {Name: "b", Present: new(false)}}},
			[]Request{{Path: "/?a"}, {Path: "/?a=&c"}},
			[]Request{{Path: "/?a&b"}, {Path: "/?=a"}, {Path: "/?&"}},
		},
		"query parameters, prefix and safe_regex": {
			Match{Path: "/", QueryParameters: []ValueMatch{{Name: "a", Prefix: new("x")}, {Name: "b", SafeRegex: new("[0-9]+")}}},
			[]Request{{Path: "/?b=12&a=xy"}},
			[]Request{{Path: "/?b=12&a=y"}, {Path: "/?b=1a&a=x"}},
		},
		"unclosed quotation": {Match{SafeRegex: `/\Q(a`}, []Request{{Path: "/(a"}}, []Request{{Path: "/(a)"}}},
		"methods": {
			Match{Path: "/", Methods: []string{"POST", "PUT"}},
			[]Request{{Path: "/", Method: "POST"}, {Path: "/", Method: "PUT"}},
			[]Request{{Path: "/", Method: "post"}, {Path: "/", Method: "GET"}, {Path: "/"}},
		},
		"host": {
			Match{Path: "/", Hosts: []string{"Shop.Example"}},
			[]Request{{Path: "/", Authority: "shop.example"}, {Path: "/", Authority: "SHOP.example:8080"}},
			[]Request{{Path: "/", Authority: "a.shop.example"}, {Path: "/", Authority: "shop.example."}, {Path: "/"}, {Path: "/", Authority: ":80"}},
		},
		"host's suffix": {
			Match{Path: "/", Hosts: []string{"*.shop.example"}},
			[]Request{{Path: "/", Authority: "a.shop.example:1"}, {Path: "/", Authority: "a.B.shop.Example"}},
			[]Request{{Path: "/", Authority: "shop.example"}, {Path: "/", Authority: ".shop.example"}},
		},
		"host's prefix": {
			Match{Path: "/", Hosts: []string{"shop.*"}},
			[]Request{{Path: "/", Authority: "shop.example"}, {Path: "/", Authority: "SHOP.a.b:80"}},
			[]Request{{Path: "/", Authority: "shop."}, {Path: "/", Authority: "shop.:80"}, {Path: "/", Authority: "a.shop.b"}},
		},
		"host's address": {
			Match{Path: "/", Hosts: []string{"[2001:DB8::1]", "10.0.0.1"}},
			[]Request{{Path: "/", Authority: "[2001:db8::1]"}, {Path: "/", Authority: "[2001:DB8::1]:80"}, {Path: "/", Authority: "10.0.0.1:80"}},
			[]Request{{Path: "/", Authority: "2001:db8::1"}, {Path: "/", Authority: "[2001:db8::2]"}},
		},
		"any host": {Match{Path: "/", Hosts: []string{"a", "*"}}, []Request{{Path: "/"}, {Path: "/", Authority: "b:1"}}, nil},
		"no letter but ASCII's": {
			Match{Path: "/", Hosts: []string{"kelvin"}}, nil, []Request{{Path: "/", Authority: "\u212aelvin"}},
		},
		"header, present": {
			header(ValueMatch{Name: "X-A"}),
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", ""}}}},
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-b", "1"}}}},
		},
		"header, absent": {
			header(ValueMatch{Name: "x-a", Present: new(false)}),
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-b", "1"}}}},
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", ""}}}, {Path: "/", Headers: [][2]string{{"x-a", ""}, {"x-b", ""}}}},
		},
		"header, exact": {
			header(ValueMatch{Name: "x-a", Exact: new("1,2")}),
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", "1,2"}}}, {Path: "/", Headers: [][2]string{{"x-a", "1"}, {"x-b", ""}, {"x-a", "1,2"}}}},
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-a", "1"}, {"x-a", "2"}}}, {Path: "/", Headers: [][2]string{{"x-a", "1, 2"}}}},
		},
		"header, exactly nothing": {
			header(ValueMatch{Name: "x-a", Exact: new("")}),
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", ""}}}, {Path: "/", Headers: [][2]string{{"x-a", "1"}, {"x-a", ""}}}},
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-a", ","}}}},
		},
		"header, prefix": {
			header(ValueMatch{Name: "x-a", Prefix: new("Be")}),
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", "Bearer"}}}},
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-a", "bearer"}}}, {Path: "/", Headers: [][2]string{{"x-a", "B"}}}},
		},
		"header, safe_regex": {
			header(ValueMatch{Name: "x-a", SafeRegex: new("[0-9]*")}),
			[]Request{{Path: "/", Headers: [][2]string{{"x-a", "12"}}}, {Path: "/", Headers: [][2]string{{"x-a", ""}}}},
			[]Request{{Path: "/"}, {Path: "/", Headers: [][2]string{{"x-a", "12a"}}}},
		},
		"all headers": {
			Match{Path: "/", Headers: []ValueMatch{{Name: "x-a"}, {Name: "x-b"}}},
			[]Request{{Path: "/", Headers: [][2]string{{"x-b", ""}, {"x-a", ""}}}},
			[]Request{{Path: "/", Headers: [][2]string{{"x-b", ""}}}, {Path: "/", Headers: [][2]string{{"x-a", ""}}}},
		},
	} {
		table := compile(t, one(func(_ *Config, r *Route) { r.Match = test.match }))
		for _, request := range test.matches {
			if table.Match(&request) == nil {
				t.Errorf("%s: %+v is not matched", name, request)
			}
		}
		for _, request := range test.misses {
			if table.Match(&request) != nil {
				t.Errorf("%s: %+v is matched", name, request)
			}
		}
	}
}

// mixed has routes of every kind for the same paths, the general ones first where they have conditions.
var mixed = Config{Routes: []Route{
	{Name: "regex-post", Match: Match{SafeRegex: "/a/[0-9]+", Methods: []string{"POST"}}, Policy: Policy{Topic: "t"}},
	{Name: "prefix-put", Match: Match{Prefix: "/a", Methods: []string{"PUT"}}, Policy: Policy{Topic: "t"}},
	{Name: "path-header", Match: Match{Path: "/a/1", Headers: []ValueMatch{{Name: "x-a", Exact: new("1")}}}, Policy: Policy{Topic: "t"}},
	{Name: "long-prefix", Match: Match{Prefix: "/a/1"}, Policy: Policy{Topic: "t"}},
	{Name: "path-host", Match: Match{Path: "/a/2", Hosts: []string{"*.example"}}, Policy: Policy{Topic: "t"}},
	{Name: "regex", Match: Match{SafeRegex: "/a/.*"}, Policy: Policy{Topic: "t"}},
	{Name: "root", Match: Match{Prefix: "/"}, Policy: Policy{Topic: "t"}},
}}

func TestFirstMatchWins(t *testing.T) {
	table := compile(t, mixed)
	for _, test := range []struct {
		request Request
		want    string
	}{
		{Request{Method: "POST", Path: "/a/1"}, "regex-post"},
		{Request{Method: "PUT", Path: "/a/1"}, "prefix-put"},
		{Request{Path: "/a/1", Headers: [][2]string{{"x-a", "1"}}}, "path-header"},
		{Request{Path: "/a/1"}, "long-prefix"},
		{Request{Path: "/a/12"}, "long-prefix"},
		{Request{Path: "/a/2", Authority: "a.example"}, "path-host"},
		{Request{Path: "/a/2"}, "regex"},
		{Request{Path: "/a"}, "root"},
		{Request{Path: "/"}, "root"},
	} {
		if got := table.Match(&test.request); got == nil || got.Name != test.want {
			t.Errorf("%+v takes %v, want %s", test.request, got, test.want)
		}
	}
	if got := table.Match(&Request{Method: "OPTIONS", Path: "*"}); got != nil {
		t.Errorf("* takes %s", got.Name)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := compile(t, mixed)
	for _, request := range []Request{
		{Method: "POST", Path: "/a/1?x", Authority: "a.example:80"},
		{Method: "GET", Path: "/a/1", Headers: [][2]string{{":path", "/a/1"}, {"x-a", "1"}}},
		{Method: "GET", Path: "/a/2", Authority: "x.a.example"},
		{Method: "GET", Path: "/a/x"},
		{Method: "GET", Path: "x"},
	} {
		if n := testing.AllocsPerRun(100, func() { table.Match(&request) }); n != 0 {
			t.Errorf("%+v: %v allocations", request, n)
		}
	}
}

func TestRuleDefaults(t *testing.T) {
	rule := func(c Config) *Rule { return compile(t, c).Match(&Request{Path: "/leads"}) }
	const builtIn, document, mine = 5 * time.Second, time.Minute, time.Hour
	for name, test := range map[string]struct {
		change            func(c *Config, r *Route)
		ack               Level
		ackTimeout        time.Duration
		maxBody, status   int
		body, contentType string
	}{
		"built in": {func(*Config, *Route) {}, LevelMemory, builtIn, 1 << 20, 200, `{"status":"OK"}`, "application/json;charset=UTF-8"},
		"document's": {func(c *Config, _ *Route) {
			c.Defaults = Policy{
				Ack: LevelDisk, AckTimeout: Duration(document), MaxBody: 5,
				Answer: &Answer{Status: 202, Body: new("ok"), ContentType: "text/plain"},
			}
		}, LevelDisk, document, 5, 202, "ok", "text/plain"},
		"route's, field by field": {func(c *Config, r *Route) {
			c.Defaults = Policy{
				Ack: LevelDisk, AckTimeout: Duration(document), MaxBody: 5,
				Answer: &Answer{Status: 202, ContentType: "text/plain"},
			}
			r.Ack, r.AckTimeout, r.MaxBody, r.Answer = LevelKafka, Duration(mine), 6, &Answer{Body: new("mine")}
		}, LevelKafka, mine, 6, 202, "mine", "text/plain"},
		"no body, no type": {func(_ *Config, r *Route) {
			r.Answer = &Answer{Status: 204, Body: new("")}
		}, LevelMemory, builtIn, 1 << 20, 204, "", ""},
	} {
		got := rule(one(test.change))
		if got.Ack != test.ack || got.AckTimeout != test.ackTimeout || got.MaxBody != test.maxBody ||
			got.Status != test.status || string(got.Body.With("id")) != test.body || got.ContentType != test.contentType {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestUplinkDefaults(t *testing.T) {
	want := Uplink{
		Cluster: "crowd_collector", Streams: 2, Spool: SpoolOn,
		MaxBufferBytes: 64 << 20, MaxBatchBytes: 256 << 10, UnreachableTimeout: 30e9,
	}
	if got := compile(t, one(func(*Config, *Route) {})).Uplink(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want.Cluster, want.Streams, want.Spool = "other", 8, SpoolOff
	if got := compile(t, one(func(c *Config, _ *Route) {
		c.Uplink.Cluster, c.Uplink.Streams, c.Uplink.Spool = "other", 8, SpoolOff
	})).Uplink(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// many returns a table of n routes of one shape, and a request that takes one in its middle.
func many(t testing.TB, shape string, n int) (*Table, Request) {
	t.Helper()
	c := Config{Defaults: Policy{Topic: "t"}, Routes: []Route{}}
	for i := range n {
		var m Match
		switch shape {
		case "paths":
			m = Match{Path: fmt.Sprintf("/path/%d", i)}
		case "prefixes":
			m = Match{Prefix: fmt.Sprintf("/path/%d/", i), Methods: []string{"POST"}}
		case "templates":
			m = Match{PathTemplate: fmt.Sprintf("/%d/{id}/orders", i)}
		case "regexes":
			m = Match{SafeRegex: fmt.Sprintf("/path/%d/[0-9]+", i)}
		case "anchored":
			m = Match{SafeRegex: fmt.Sprintf("^/path/%d/[0-9]+$", i)}
		case "hosts":
			m = Match{Path: "/path", Hosts: []string{fmt.Sprintf("h%d.example", i)}}
		case "wildcards":
			m = Match{Path: "/path", Hosts: []string{fmt.Sprintf("*.h%d.example", i), fmt.Sprintf("h%d.*", i)}}
		}
		c.Routes = append(c.Routes, Route{Name: fmt.Sprint(i), Match: m})
	}
	i := n / 2
	return compile(t, c), Request{
		Method: "POST",
		Authority: map[string]string{
			"hosts": fmt.Sprintf("h%d.example", i), "wildcards": fmt.Sprintf("a.h%d.example", i),
		}[shape],
		Path: map[string]string{
			"paths": fmt.Sprintf("/path/%d", i), "prefixes": fmt.Sprintf("/path/%d/a", i), "templates": fmt.Sprintf("/%d/7/orders", i),
			"regexes": fmt.Sprintf("/path/%d/7", i), "anchored": fmt.Sprintf("/path/%d/7", i), "hosts": "/path", "wildcards": "/path",
		}[shape],
	}
}

var shapes = []string{"paths", "prefixes", "templates", "regexes", "anchored", "hosts", "wildcards"}

// TestMatchDoesNotGrow counts the routes whose conditions are looked at, whatever the size of the table.
func TestMatchDoesNotGrow(t *testing.T) {
	for _, shape := range shapes {
		for _, n := range []int{10, 10_000} {
			table, request := many(t, shape, n)
			if rule := table.Match(&request); rule == nil || rule.Name != fmt.Sprint(n/2) {
				t.Fatalf("%s: %+v takes %v", shape, request, rule)
			}
			candidates := 0
			table.index.visit(request.Path, func(h *hostIndex) {
				h.visit(request.Authority, func(list []int) { candidates += len(list) })
			})
			if candidates != 1 {
				t.Errorf("%s: %d candidates of %d routes", shape, candidates, n)
			}
		}
	}
}

// BenchmarkMatch is to show that the time does not follow the number of routes.
func BenchmarkMatch(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{10, 10_000} {
			table, request := many(b, shape, n)
			b.Run(fmt.Sprintf("%s/%d", shape, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if table.Match(&request) == nil {
						b.Fatal(request)
					}
				}
			})
		}
	}
}
