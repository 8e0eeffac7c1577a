package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// one is a document of one route, as change makes it.
func one(change func(c *Config, r *Route)) Config {
	c := Config{Routes: []Route{{Name: "leads", Match: Match{Path: "/leads"}, Policy: Policy{Topic: "leads"}}}}
	change(&c, &c.Routes[0])
	return c
}

// The messages themselves are in routefile/testdata; here are the bounds, from both sides, and what YAML cannot
// say.
func TestValidateBounds(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for name, test := range map[string]struct {
		change func(c *Config, r *Route)
		paths  []string // of the errors
	}{
		"nothing special":       {func(*Config, *Route) {}, nil},
		"no routes":             {func(c *Config, _ *Route) { c.Routes = []Route{} }, nil},
		"nil routes":            {func(c *Config, _ *Route) { c.Routes = nil }, []string{"routes"}},
		"name of 64":            {func(_ *Config, r *Route) { r.Name = long(64) }, nil},
		"name of 65":            {func(_ *Config, r *Route) { r.Name = long(65) }, []string{"routes[0].name"}},
		"topic of 249":          {func(_ *Config, r *Route) { r.Topic = long(249) }, nil},
		"topic of 250":          {func(_ *Config, r *Route) { r.Topic = long(250) }, []string{"routes[0].topic"}},
		"topic .":               {func(_ *Config, r *Route) { r.Topic = "." }, []string{"routes[0].topic"}},
		"topic ...":             {func(_ *Config, r *Route) { r.Topic = "..." }, nil},
		"largest body":          {func(_ *Config, r *Route) { r.MaxBody = MaxMaxBody }, nil},
		"larger body":           {func(_ *Config, r *Route) { r.MaxBody = MaxMaxBody + 1 }, []string{"routes[0].max_body"}},
		"negative body":         {func(_ *Config, r *Route) { r.MaxBody = -1 }, []string{"routes[0].max_body"}},
		"smallest buffer":       {func(c *Config, _ *Route) { c.Uplink.MaxBufferBytes = 2 << 20 }, nil},
		"smaller buffer":        {func(c *Config, _ *Route) { c.Uplink.MaxBufferBytes = 2<<20 - 1 }, []string{"uplink.max_buffer_bytes"}},
		"small buffer, default": {func(c *Config, _ *Route) { c.Defaults.MaxBody, c.Uplink.MaxBufferBytes = 9<<20, 9<<20 }, []string{"uplink.max_buffer_bytes"}},
		"largest buffer":        {func(c *Config, _ *Route) { c.Uplink.MaxBufferBytes = 256 << 20 }, nil},
		"larger buffer":         {func(c *Config, _ *Route) { c.Uplink.MaxBufferBytes = 256<<20 + 1 }, []string{"uplink.max_buffer_bytes"}},
		"largest batch":         {func(c *Config, _ *Route) { c.Uplink.MaxBatchBytes = 32 << 20 }, nil},
		"larger batch":          {func(c *Config, _ *Route) { c.Uplink.MaxBatchBytes = 32<<20 + 1 }, []string{"uplink.max_batch_bytes"}},
		"batch over buffer":     {func(c *Config, _ *Route) { c.Uplink.MaxBufferBytes, c.Uplink.MaxBatchBytes = 2<<20, 2<<20+1 }, []string{"uplink.max_batch_bytes"}},
		"negative timeout":      {func(c *Config, _ *Route) { c.Uplink.UnreachableTimeout = -1 }, []string{"uplink.unreachable_timeout"}},
		"cluster of Istio":      {func(c *Config, _ *Route) { c.Uplink.Cluster = "outbound|9001||collector.crowd.svc.cluster.local" }, nil},
		"cluster of two lines":  {func(c *Config, _ *Route) { c.Uplink.Cluster = "a\nb" }, []string{"uplink.cluster"}},
		"no such level":         {func(_ *Config, r *Route) { r.Ack = "tape" }, []string{"routes[0].ack"}},
		"level of the defaults": {func(c *Config, _ *Route) { c.Defaults.Ack = "tape" }, []string{"defaults.ack"}},
		"most streams":          {func(c *Config, _ *Route) { c.Uplink.Streams = 8 }, nil},
		"more streams":          {func(c *Config, _ *Route) { c.Uplink.Streams = 9 }, []string{"uplink.streams"}},
		"negative streams":      {func(c *Config, _ *Route) { c.Uplink.Streams = -1 }, []string{"uplink.streams"}},
		"no such spool":         {func(c *Config, _ *Route) { c.Uplink.Spool = "maybe" }, []string{"uplink.spool"}},
		"regex of 1024":         {func(_ *Config, r *Route) { r.Match = Match{SafeRegex: long(1024)} }, nil},
		"regex of 1025":         {func(_ *Config, r *Route) { r.Match = Match{SafeRegex: long(1025)} }, []string{"routes[0].match.safe_regex"}},
		"most names to deny":    {func(_ *Config, r *Route) { r.RecordHeaders.Deny = slices.Repeat([]string{"a"}, 256) }, nil},
		"more names to deny": {func(_ *Config, r *Route) { r.RecordHeaders.Deny = slices.Repeat([]string{"a"}, 257) }, []string{
			"routes[0].record_headers.deny"}},
		"more names to allow": {func(_ *Config, r *Route) { r.RecordHeaders.Allow = slices.Repeat([]string{"a"}, 257) }, []string{
			"routes[0].record_headers.allow"}},
		"most regexes": {func(c *Config, _ *Route) {
			c.Routes = slices.Repeat(c.Routes, 334)
			for i := range c.Routes { // of 2,990 instructions
				c.Routes[i].Name, c.Routes[i].Match = fmt.Sprint(i), Match{SafeRegex: "/(a{1000})(b{1000})(c{980})" + fmt.Sprint(100+i)}
			}
		}, nil},
		"more regexes": {func(c *Config, _ *Route) {
			c.Routes = slices.Repeat(c.Routes, 1000)
			for i := range c.Routes {
				c.Routes[i].Name, c.Routes[i].Match = fmt.Sprint(i), Match{SafeRegex: "/(a{1000})(b{1000})(c{980})" + fmt.Sprint(100+i)}
			}
		}, []string{"routes[334].match.safe_regex"}},
		"one regex again and again": {func(c *Config, _ *Route) {
			c.Routes = slices.Repeat(c.Routes, 1000)
			for i := range c.Routes {
				c.Routes[i].Name, c.Routes[i].Match = fmt.Sprint(i), Match{SafeRegex: "/(a{1000})(b{1000})(c{983})"}
			}
		}, nil},
		"status 299":           {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 299} }, nil},
		"status 300":           {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 300} }, []string{"routes[0].answer.status"}},
		"204 with the default": {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 204} }, []string{"routes[0].answer"}},
		"205 without a body":   {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 205, Body: new("")} }, nil},
		"body for default 204": {func(c *Config, r *Route) {
			c.Defaults.Answer, r.Answer = &Answer{Status: 204, Body: new("")}, &Answer{Body: new("x")}
		}, []string{"routes[0].answer"}},
		"longest wait": {func(c *Config, r *Route) {
			c.Defaults.AckTimeout, r.AckTimeout = Duration(time.Hour), Duration(time.Hour)
		}, nil},
		"longer wait": {func(c *Config, r *Route) {
			c.Defaults.AckTimeout, r.AckTimeout = Duration(time.Hour+1), Duration(time.Hour+1)
		}, []string{"defaults.ack_timeout", "routes[0].ack_timeout"}},
		"negative wait": {func(c *Config, r *Route) {
			c.Defaults.AckTimeout, r.AckTimeout = -1, -1
		}, []string{"defaults.ack_timeout", "routes[0].ack_timeout"}},
	} {
		var paths []string
		for _, e := range one(test.change).Validate() {
			paths = append(paths, e.Path)
			if !strings.Contains(e.Message, "(allowed: ") {
				t.Errorf("%s: %q does not say what is allowed", name, e.Message)
			}
		}
		if diff := cmp.Diff(test.paths, paths); diff != "" {
			t.Errorf("%s: fields with errors (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever the levels: a document is refused exactly where it asks for disk without a spool.
func TestValidateSpool(t *testing.T) {
	levels := []Level{"", LevelMemory, LevelDisk, LevelKafka}
	for _, spool := range []Spool{"", SpoolOn, SpoolOff} {
		for _, byDefault := range levels {
			for _, own := range levels {
				c := one(func(c *Config, r *Route) { c.Uplink.Spool, c.Defaults.Ack, r.Ack = spool, byDefault, own })
				// Two more that take the defaults' level, and must not be complained of.
				for _, name := range []string{"a", "b"} {
					c.Routes = append(c.Routes, Route{Name: name, Match: Match{Path: "/" + name}, Policy: Policy{Topic: "t"}})
				}
				var want, got []string
				if spool == SpoolOff && byDefault == LevelDisk {
					want = append(want, "defaults.ack")
				}
				if spool == SpoolOff && own == LevelDisk {
					want = append(want, "routes[0].ack")
				}
				for _, e := range c.Validate() {
					got = append(got, e.Path)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("spool %q, defaults %q, route %q (-want +got):\n%s", spool, byDefault, own, diff)
				}
			}
		}
	}
}

func TestValidateHosts(t *testing.T) {
	for _, host := range []string{
		"shop.example", "Shop.Example", "localhost", "10.0.0.1", "a_b", "*", "*.example", "*.shop.example", "shop.*", "10.0.*", "[::1]", "[2001:DB8::1]",
	} {
		if _, err := parseHost(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	for _, host := range []string{
		"", ".", "*.", ".*", "*.*", "**", "*a", "a*", "a.*.b", "*.a.*", "shop.example:80", "*:80", "::1", "[::1]:80", "[10.0.0.1]", "[fe80::1%eth0]", "[]",
		".a", "a..b", "a/b", "a b", "http://a", "bücher.example",
	} {
		if _, err := parseHost(host); err == nil {
			t.Errorf("%q passed", host)
		}
	}
}

func TestWarnings(t *testing.T) {
	post, jsonOnly := []string{"POST"}, []ValueMatch{{Name: "Content-Type", Exact: new("application/json")}}
	for name, test := range map[string]struct {
		earlier, later Match
		warns          bool
	}{
		"same path":                {Match{Path: "/a"}, Match{Path: "/a"}, true},
		"other path":               {Match{Path: "/a"}, Match{Path: "/b"}, false},
		"prefix of path":           {Match{Prefix: "/a"}, Match{Path: "/a/b", Methods: post}, true},
		"prefix of prefix":         {Match{Prefix: "/a"}, Match{Prefix: "/ab"}, true},
		"path under prefix, later": {Match{Path: "/a"}, Match{Prefix: "/a"}, false},
		"longer prefix first":      {Match{Prefix: "/ab"}, Match{Prefix: "/a"}, false},
		"same regex":               {Match{SafeRegex: "/a+"}, Match{SafeRegex: "/a+", Methods: post}, true},
		"same method":              {Match{Prefix: "/", Methods: post}, Match{Path: "/a", Methods: post}, true},
		"narrower earlier":         {Match{Prefix: "/", Methods: post}, Match{Path: "/a"}, false},
		"any host":                 {Match{Path: "/a", Hosts: []string{"a", "*"}}, Match{Path: "/a"}, true},
		"same hosts, other order":  {Match{Path: "/a", Hosts: []string{"a", "b"}}, Match{Path: "/a", Hosts: []string{"B", "a"}}, true},
		"other host":               {Match{Path: "/a", Hosts: []string{"a"}}, Match{Path: "/a", Hosts: []string{"b"}}, false},
		"same header":              {Match{Path: "/a", Headers: jsonOnly}, Match{Path: "/a", Headers: jsonOnly}, true},
		"other header": {
			Match{Path: "/a", Headers: jsonOnly},
			Match{Path: "/a", Headers: []ValueMatch{{Name: "content-type", Prefix: new("application/json")}}}, false,
		},
		"wildcard of host":  {Match{Path: "/a", Hosts: []string{"*.b"}}, Match{Path: "/a", Hosts: []string{"x.a.b", "*.a.b"}}, true},
		"one host left":     {Match{Path: "/a", Hosts: []string{"*.b"}}, Match{Path: "/a", Hosts: []string{"x.b", "b"}}, false},
		"prefix of host":    {Match{Path: "/a", Hosts: []string{"a.*"}}, Match{Path: "/a", Hosts: []string{"a.b.*", "a.c"}}, true},
		"host of all":       {Match{Path: "/a", Hosts: []string{"a"}}, Match{Path: "/a"}, false},
		"fewer methods":     {Match{Path: "/a", Methods: []string{"GET", "POST"}}, Match{Path: "/a", Methods: post}, true},
		"more methods":      {Match{Path: "/a", Methods: post}, Match{Path: "/a", Methods: []string{"GET", "POST"}}, false},
		"more conditions":   {Match{Path: "/a", Headers: jsonOnly}, Match{Path: "/a", Headers: append(jsonOnly[:1:1], ValueMatch{Name: "x"})}, true},
		"present, of exact": {Match{Path: "/a", Headers: []ValueMatch{{Name: "content-type"}}}, Match{Path: "/a", Headers: jsonOnly}, true},
		"prefix, of exact": {
			Match{Path: "/a", Headers: []ValueMatch{{Name: "content-type", Prefix: new("application/")}}}, Match{Path: "/a", Headers: jsonOnly}, true,
		},
		"regex, of exact": {
			Match{Path: "/a", Headers: []ValueMatch{{Name: "content-type", SafeRegex: new(".*/json")}}}, Match{Path: "/a", Headers: jsonOnly}, true,
		},
		"same parameter": {
			Match{Path: "/a", QueryParameters: []ValueMatch{{Name: "p"}}}, Match{Path: "/a", QueryParameters: []ValueMatch{{Name: "p", Exact: new("")}}}, true,
		},
		"parameter's case": {
			Match{Path: "/a", QueryParameters: []ValueMatch{{Name: "p"}}}, Match{Path: "/a", QueryParameters: []ValueMatch{{Name: "P"}}}, false,
		},
		"template of path":           {Match{PathTemplate: "/a/{b}"}, Match{Path: "/a/1"}, true},
		"template of template":       {Match{PathTemplate: "/a/{b}/*"}, Match{PathTemplate: "/{a}/b/c"}, false},
		"wider template":             {Match{PathTemplate: "/{a}/*/**"}, Match{PathTemplate: "/a/b/c/{d}"}, true},
		"rest of prefix":             {Match{PathTemplate: "/a/**"}, Match{Prefix: "/a/b"}, true},
		"rest of shorter prefix":     {Match{PathTemplate: "/a/**"}, Match{Prefix: "/a"}, false},
		"one segment of prefix":      {Match{PathTemplate: "/a/*"}, Match{Prefix: "/a/b"}, false},
		"prefix of template":         {Match{Prefix: "/a/"}, Match{PathTemplate: "/a/{b}"}, true},
		"longer prefix of template":  {Match{Prefix: "/a/b"}, Match{PathTemplate: "/a/{b}"}, false},
		"prefix of regex":            {Match{Prefix: "/a"}, Match{SafeRegex: "/ab?c"}, true},
		"regex of path":              {Match{SafeRegex: "/a[0-9]+"}, Match{Path: "/a12"}, true},
		"regex of template":          {Match{SafeRegex: ".*"}, Match{PathTemplate: "/{a}"}, false},
		"regex that is the template": {Match{SafeRegex: "/a"}, Match{PathTemplate: "/a"}, false},
		"present, in two ways": {
			Match{Path: "/a", Headers: []ValueMatch{{Name: "x"}}},
			Match{Path: "/a", Headers: []ValueMatch{{Name: "X", Present: new(true)}}}, true,
		},
	} {
		c := Config{Routes: []Route{
			{Name: "unrelated", Match: Match{Path: "/unrelated"}, Policy: Policy{Topic: "t"}},
			{Name: "earlier", Match: test.earlier, Policy: Policy{Topic: "t"}},
			{Name: "later", Match: test.later, Policy: Policy{Topic: "t"}},
		}}
		if errs := c.Validate(); errs != nil {
			t.Fatalf("%s: %v", name, errs)
		}
		var want []FieldError
		if test.warns {
			want = []FieldError{{Path: "routes[2].match", Message: "never matches: routes[1] (earlier) comes before it and takes all that it would"}}
		}
		if diff := cmp.Diff(want, c.Warnings()); diff != "" && !(want == nil && len(c.Warnings()) == 0) {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWarningsOfContradictions(t *testing.T) {
	absent := new(false)
	for name, test := range map[string]struct {
		route Route
		want  string
	}{
		"tunnels":  {Route{Match: Match{Methods: []string{"CONNECT"}}}, "routes[0].match: never matches: a tunnel (CONNECT) has no end to wait for, and is never absorbed"},
		"not only": {Route{Match: Match{Methods: []string{"CONNECT", "GET"}}}, ""},
		"upgrades": {Route{Match: Match{Headers: []ValueMatch{{Name: "Upgrade"}}}}, "routes[0].match: never matches: an upgrade has no end to wait for, and is never absorbed"},
		"header":   {Route{Match: Match{Headers: []ValueMatch{{Name: "x"}, {Name: "X", Present: absent}}}}, "routes[0].match: never matches: its conditions on the header x exclude each other"},
		"values":   {Route{Match: Match{Headers: []ValueMatch{{Name: "x", Exact: new("1")}, {Name: "x", Prefix: new("2")}}}}, ""},
		"parameter's values": {Route{Match: Match{QueryParameters: []ValueMatch{{Name: "p", Exact: new("1")}, {Name: "p", Prefix: new("2")}}}},
			"routes[0].match: never matches: its conditions on the query parameter p exclude each other"},
		"one value": {Route{Match: Match{Headers: []ValueMatch{{Name: "x", Exact: new("12")}, {Name: "x", Prefix: new("1")}, {Name: "x"}}}}, ""},
		"parameter": {Route{Match: Match{QueryParameters: []ValueMatch{{Name: "p", Present: absent}, {Name: "p"}}}}, "routes[0].match: never matches: its conditions on the query parameter p exclude each other"},
		"nothing":   {Route{Policy: Policy{Sample: new(Percent(0))}}, "routes[0].sample: is 0%: the route takes nothing"},
		"some":      {Route{Policy: Policy{Sample: new(Percent(1))}}, ""},
	} {
		test.route.Name, test.route.Topic, test.route.Match.Path = "r", "t", "/"
		c := Config{Routes: []Route{test.route}}
		got := ""
		for _, w := range c.Warnings() {
			got += w.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A sample leaves something to later routes.
func TestSamplesHideNothing(t *testing.T) {
	c := Config{Defaults: Policy{Topic: "t"}, Routes: []Route{
		{Name: "some", Match: Match{Prefix: "/"}, Policy: Policy{Sample: new(Percent(999_999))}},
		{Name: "rest", Match: Match{Path: "/a"}},
	}}
	if got := c.Warnings(); got != nil {
		t.Errorf("%v", got)
	}
}

// Thousands of routes on one path and host must not take minutes to compare.
func TestWarningsOfManyAlike(t *testing.T) {
	c := Config{Defaults: Policy{Topic: "t"}}
	for i := range 10_000 {
		c.Routes = append(c.Routes, Route{Name: fmt.Sprint(i), Match: Match{Path: "/", Headers: []ValueMatch{{Name: "x", Exact: new(fmt.Sprint(i))}}}})
	}
	began := time.Now()
	if got := c.Warnings(); got != nil {
		t.Errorf("%v", got[0])
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}
