package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

// growthOfRoutes compares absorbing with 10 to 10,000 routes that are told apart by path, by host and by template.
func growthOfRoutes(b *testing.B) {
	const routesRounds = 5
	broker := kafka.Start(b, kafka.Config{})
	for _, c := range []struct {
		name, match, host, path string
		counts                  []int
	}{
		{"paths", "{path: /r%d/leads}", "shop.example", "/r%d/leads", []int{10, 100, 1_000, 10_000}},
		{"hosts", `{path: /leads, hosts: ["h%d.example"]}`, "h%d.example", "/leads", []int{10, 10_000}},
		{"templates", `{path_template: "/r%d/{id}/leads"}`, "shop.example", "/r%d/7/leads", []int{10, 10_000}},
	} {
		b.Run(c.name, func(b *testing.B) {
			sides := make([]*side, len(c.counts))
			for i, n := range c.counts {
				s := newStackOn(b, broker, manyRoutes(n, c.match), 1)
				middle := func(format string) string { return strings.Replace(format, "%d", fmt.Sprint(n/2), 1) }
				sides[i] = &side{
					name: fmt.Sprintf("%d-routes", n), pid: s.envoy.PID(), address: strings.TrimPrefix(s.gateway, "http://"),
					request: post(middle(c.host), middle(c.path)),
				}
			}
			ratios := compareCosts(b, routesRounds, sides...)
			t := newTable("Routes, told apart by their "+c.name, "routes", "Envoy µs/request", "ratio", "Envoy MiB")
			for i, s := range sides {
				t.add(c.counts[i], median(s.cost), ratios[i], usage(b, s.pid).Resident/mebibyte)
			}
			t.print()
		})
	}
}
