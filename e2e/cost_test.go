package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

// What is compared runs in turn, so that whatever else happens on the machine happens to both, and medians are taken.
const (
	costRounds      = 11
	costRequests    = 8_000 // of each round
	costConnections = 16
)

// side is one of two Envoys that are compared.
type side struct {
	name    string
	pid     int
	request func() *http.Request
	status  int
	// each round's CPU of Envoy, user and system, in µs per request.
	cost []float64
}

// compareCosts has both sides answer the same load in turn and reports the median of each, and that of the rounds' ratios of
// the second to the first.
func compareCosts(b *testing.B, sides [2]*side) {
	b.Helper()
	for _, s := range sides {
		costOf(b, s) // warms up
		s.cost = nil
	}
	b.ResetTimer()
	for b.Loop() {
		for range costRounds {
			for _, s := range sides {
				costOf(b, s)
			}
		}
	}
	var ratios []float64
	for round := range sides[0].cost {
		ratios = append(ratios, sides[1].cost[round]/sides[0].cost[round])
	}
	for _, s := range sides {
		b.ReportMetric(median(s.cost), "µs/"+s.name)
		b.Logf("%s: %.1f µs of Envoy's CPU a request (median of %.1f)", s.name, median(s.cost), s.cost)
	}
	b.ReportMetric(median(ratios), "ratio")
	b.Logf("ratio: %.2f (median of %.2f)", median(ratios), ratios)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// costOf sends one round to a side and notes what it cost.
func costOf(b *testing.B, s *side) {
	b.Helper()
	before := cpu(b, s.pid)
	var left, failed atomic.Int64
	left.Store(costRequests)
	var all sync.WaitGroup
	for range costConnections {
		client := newClient(false)
		all.Go(func() {
			defer client.CloseIdleConnections()
			for left.Add(-1) >= 0 {
				response, err := client.Do(s.request())
				if err != nil {
					failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != s.status {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		b.Fatalf("%s: %d requests failed", s.name, failed.Load())
	}
	s.cost = append(s.cost, float64((cpu(b, s.pid)-before).Microseconds())/costRequests)
}

// clockTick is USER_HZ, the unit of times in /proc, which is 100 on every architecture of Linux that Go knows.
const clockTick = time.Second / 100

// cpu returns what a process has used, user and system (proc(5), /proc/pid/stat, fields 14 and 15).
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// posts returns requests of 512 bytes.
func posts(b *testing.B, url, host string) func() *http.Request {
	body := bytes.Repeat([]byte("x"), 512)
	return func() *http.Request {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		r.Host = host
		return r
	}
}

// BenchmarkRoutes compares absorbing with 10 routes and with 10,000, by path, by host and by template.
func BenchmarkRoutes(b *testing.B) {
	for name, match := range map[string]string{
		"paths":     "{path: /r%d/leads}",
		"hosts":     `{path: /leads, hosts: ["h%d.example"]}`,
		"templates": `{path_template: "/r%d/{id}/leads"}`,
	} {
		b.Run(name, func(b *testing.B) {
			broker := kafka.Start(b, kafka.Config{})
			var sides [2]*side
			for i, n := range []int{10, 10_000} {
				var routes strings.Builder
				routes.WriteString("defaults: {topic: leads}\nroutes:\n")
				for r := range n {
					fmt.Fprintf(&routes, "  - {name: r%d, match: "+match+"}\n", r, r)
				}
				s := newStackOn(b, broker, routes.String(), 1)
				path := map[string]string{"paths": "/r%d/leads", "hosts": "/leads", "templates": "/r%d/7/leads"}[name]
				if name != "hosts" {
					path = fmt.Sprintf(path, n/2)
				}
				sides[i] = &side{
					name: fmt.Sprintf("%d-routes", n), pid: s.envoy.PID(), status: http.StatusOK,
					request: posts(b, s.gateway+path, fmt.Sprintf("h%d.example", n/2)),
				}
			}
			compareCosts(b, sides)
		})
	}
}

// BenchmarkPassThrough compares an Envoy that is configured by hand, and forwards requests to a backend, with the same one
// with the filter in it, whose routes take other requests.
func BenchmarkPassThrough(b *testing.B) {
	filtered := newFilterStack(b)
	bootstrap := filtered.bootstrap("127.0.0.1:1")
	filtered.start(withStaticFilter(b, bootstrap, `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}]}`))
	bare := newFilterStack(b)
	bare.start(withoutFilter(b, bootstrap))
	var sides [2]*side
	for i, s := range []*stack{bare, filtered} {
		sides[i] = &side{
			name: []string{"bare", "filtered"}[i], pid: s.envoy.PID(), status: http.StatusOK, request: posts(b, s.gateway+"/other", "shop.example"),
		}
	}
	compareCosts(b, sides)
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
