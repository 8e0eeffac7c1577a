package replay

import (
	"testing"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/xds/route"
)

func TestFilter(t *testing.T) {
	m := &flow.Message{Record: record.Record{
		Route: "leads", Key: []byte("42"), Method: "POST", Authority: "Shop.Example:8443", Path: "/api/leads?source=web",
		Headers: []record.Header{{Name: "X-Tenant", Value: "a"}, {Name: "content-type", Value: "application/json"}},
	}}
	keyless := *m
	keyless.Record.Key = nil
	tenant := func(value string) *route.Match {
		return &route.Match{Headers: []route.ValueMatch{{Name: "x-tenant", Exact: &value}}}
	}
	for name, test := range map[string]struct {
		filter         Filter
		wants, keyless bool
	}{
		"nothing given":          {Filter{}, true, true},
		"its route":              {Filter{Routes: []string{"orders", "leads"}}, true, true},
		"another route":          {Filter{Routes: []string{"orders"}}, false, false},
		"its key":                {Filter{Keys: []string{"41", "42"}}, true, false},
		"an empty key":           {Filter{Keys: []string{""}}, false, false},
		"its header":             {Filter{Match: tenant("a")}, true, true},
		"another header":         {Filter{Match: tenant("b")}, false, false},
		"an empty match":         {Filter{Match: &route.Match{}}, true, true},
		"its path":               {Filter{Match: &route.Match{PathTemplate: "/api/{what}"}}, true, true},
		"another path":           {Filter{Match: &route.Match{Prefix: "/apis"}}, false, false},
		"its host":               {Filter{Match: &route.Match{Hosts: []string{"*.example"}}}, true, true},
		"its parameter":          {Filter{Match: &route.Match{QueryParameters: []route.ValueMatch{{Name: "source", Exact: new("web")}}}}, true, true},
		"another method":         {Filter{Match: &route.Match{Methods: []string{"GET"}}}, false, false},
		"its route, another key": {Filter{Routes: []string{"leads"}, Keys: []string{"1"}}, false, false},
		"all of it":              {Filter{Routes: []string{"leads"}, Keys: []string{"42"}, Match: tenant("a")}, true, false},
	} {
		var r report
		if test.filter.validate(&r); r != nil {
			t.Errorf("%s: %v", name, r)
		}
		wanted := test.filter.wanted()
		if wanted(m) != test.wants || wanted(&keyless) != test.keyless {
			t.Errorf("%s: %t, and %t without a key", name, wanted(m), wanted(&keyless))
		}
	}
}
