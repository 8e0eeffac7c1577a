package resources

import (
	"fmt"
	"testing"

	"github.com/marceloboeira/crowd/xds/route"
)

// BenchmarkBuild is what a change costs the xDS server, by the number of routes.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := route.Config{Defaults: route.Policy{Topic: "t"}}
			for i := range n {
				c.Routes = append(c.Routes, route.Route{Name: fmt.Sprint(i), Match: route.Match{Path: fmt.Sprintf("/r%d/leads", i)}})
			}
			in := Input{Routes: c, Filter: Filter{Path: "/etc/crowd/crowd.wasm"}, Gateway: &Gateway{
				Collectors: []Address{{"10.0.0.1", 9001}}, Upstream: &Address{"api", 80},
			}}
			for b.Loop() {
				if _, err := Build(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
