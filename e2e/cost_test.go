package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/e2e/load"
)

// What is compared runs in turn, so that whatever else happens on the machine happens to both, and medians are taken.
const (
	costRounds      = 11    // of BenchmarkPassThrough
	costRequests    = 8_000 // of each round
	costConnections = 16
)

// side is one of the Envoys that are compared.
type side struct {
	name    string
	pid     int
	address string
	request []byte
	// each round's CPU of Envoy, user and system, in µs per request.
	cost []float64
}

// compareCosts has all sides answer the same load in turn, and reports the median of each. It returns, for each, the median of
// the rounds' ratios to the first.
func compareCosts(b *testing.B, rounds int, sides ...*side) (ratios []float64) {
	b.Helper()
	for _, s := range sides {
		costOf(b, s) // warms up
		s.cost = nil
	}
	b.ResetTimer()
	for b.Loop() {
		for range rounds {
			for _, s := range sides {
				costOf(b, s)
			}
		}
	}
	for _, s := range sides {
		of := make([]float64, len(s.cost))
		for round := range of {
			of[round] = s.cost[round] / sides[0].cost[round]
		}
		ratios = append(ratios, median(of))
		b.ReportMetric(median(s.cost), "µs/"+s.name)
		b.Logf("%s: %.1f µs of Envoy's CPU a request (median of %.1f), ratio %.2f (of %.2f)", s.name, median(s.cost), s.cost, median(of), of)
	}
	b.ReportMetric(ratios[len(ratios)-1], "ratio")
	return ratios
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// costOf sends one round to a side and notes what it cost.
func costOf(b *testing.B, s *side) {
	b.Helper()
	before := usage(b, s.pid)
	result, err := load.Run(b.Context(), load.Config{
		Address: s.address, Request: s.request, Connections: costConnections, Requests: costRequests,
	})
	if err != nil {
		b.Fatalf("%s: %v", s.name, err)
	}
	if result.Statuses[http.StatusOK] != costRequests {
		b.Fatalf("%s: of %d requests answered %v", s.name, costRequests, result.Statuses)
	}
	s.cost = append(s.cost, float64((usage(b, s.pid).CPU-before.CPU).Microseconds())/costRequests)
}

// usage returns what a process uses.
func usage(t testing.TB, pid int) load.Usage {
	t.Helper()
	u, err := load.UsageOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// post returns a request of 512 bytes.
func post(host, path string) []byte { return load.Post(host, path, bytes.Repeat([]byte("x"), 512)) }

// BenchmarkPassThrough compares an Envoy that is configured by hand, and forwards requests to a backend, with the same one
// with the filter in it, whose routes take other requests; and with the gateway, where such requests pass the filter by.
func BenchmarkPassThrough(b *testing.B) {
	filtered := newFilterStack(b)
	quiet := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }) // echo's answers say no length
	filtered.backend = quiet
	bootstrap := filtered.bootstrap("127.0.0.1:1")
	filtered.start(withStaticFilter(b, bootstrap, `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}]}`))
	bare := newFilterStack(b)
	bare.start(withoutFilter(b, bootstrap))
	broker := kafka.Start(b, kafka.Config{})
	for _, with := range []struct {
		name string
		*stack
	}{
		{"filter", filtered},
		{"gateway-10-routes", newStackOn(b, broker, manyRoutes(10, "{path: /r%d/leads}"), 1)},
		{"gateway-10000-routes", newStackOn(b, broker, manyRoutes(10_000, "{path: /r%d/leads}"), 1)},
	} {
		b.Run(with.name, func(b *testing.B) {
			with.backend = quiet
			sides := make([]*side, 2)
			for i, s := range []*stack{bare, with.stack} {
				sides[i] = &side{
					name: []string{"bare", with.name}[i], pid: s.envoy.PID(), address: strings.TrimPrefix(s.gateway, "http://"),
					request: post("shop.example", "/r7/other"),
				}
			}
			compareCosts(b, costRounds, sides...)
		})
	}
}

// manyRoutes is a document of n routes, with their numbers in match.
func manyRoutes(n int, match string) string {
	var routes strings.Builder
	routes.WriteString("defaults: {topic: leads}\nroutes:\n")
	for r := range n {
		fmt.Fprintf(&routes, "  - {name: r%d, match: "+match+"}\n", r, r)
	}
	return routes.String()
}

// withoutFilter puts one that is never created in the filter's place.
func withoutFilter(b *testing.B, bootstrap []byte) []byte {
	b.Helper()
	return withFilter(b, bootstrap, func(filter map[string]any) {
		delete(filter, "configDiscovery")
		filter["disabled"] = true
		filter["typed_config"] = map[string]any{"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}
	})
}
