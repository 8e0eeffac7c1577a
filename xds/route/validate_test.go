package route

import (
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
		"status 299":            {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 299} }, nil},
		"status 300":            {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 300} }, []string{"routes[0].answer.status"}},
		"204 with the default":  {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 204} }, []string{"routes[0].answer"}},
		"205 without a body":    {func(_ *Config, r *Route) { r.Answer = &Answer{Status: 205, Body: new("")} }, nil},
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
