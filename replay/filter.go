package replay

import (
	"slices"
	"strings"

	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/xds/route"
)

// routes are those that a filter's match makes: one, which takes what fits. A match of routes must say something of the
// path; a filter's need not.
func routes(m route.Match) route.Config {
	if m.Path == "" && m.Prefix == "" && m.PathTemplate == "" && m.SafeRegex == "" {
		m.Prefix = "/"
	}
	return route.Config{Routes: []route.Route{{Name: "filter", Match: m, Policy: route.Policy{Topic: "filter"}}}}
}

func (f Filter) validate(r *report) {
	for i, name := range f.Routes {
		if name == "" {
			r.addf(item("filter.routes", i), "is empty (allowed: the name of a route)")
		}
	}
	if f.Match == nil {
		return
	}
	for _, e := range routes(*f.Match).Validate() {
		path, _ := strings.CutPrefix(e.Path, "routes[0]")
		r.addf("filter"+path, "%s", e.Message)
	}
}

// wanted returns what says whether a message passes the filter, which is valid. It is safe for concurrent use.
func (f Filter) wanted() func(*flow.Message) bool {
	var table *route.Table
	if f.Match != nil {
		var err error
		if table, err = route.Compile(routes(*f.Match)); err != nil {
			panic("BUG: a valid filter does not compile: " + err.Error())
		}
	}
	return func(m *flow.Message) bool {
		r := &m.Record
		switch {
		case len(f.Routes) > 0 && !slices.Contains(f.Routes, r.Route):
			return false
		case len(f.Keys) > 0 && (r.Key == nil || !slices.Contains(f.Keys, string(r.Key))):
			return false
		case table == nil:
			return true
		}
		asked := route.Request{Method: r.Method, Authority: r.Authority, Path: r.Path, Headers: make([][2]string, len(r.Headers))}
		for i, h := range r.Headers {
			asked.Headers[i] = [2]string{strings.ToLower(h.Name), h.Value}
		}
		return table.Match(&asked) != nil
	}
}
