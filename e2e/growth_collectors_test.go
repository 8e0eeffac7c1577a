package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/e2e/load"
)

// A round of growthOfCollectors.
const (
	shareDuration    = 2 * time.Second
	shareConnections = 64
)

// shareRound is what one came to.
type shareRound struct {
	rate             float64 // requests a second
	envoy, collector float64 // µs of CPU a request; of all collectors
	p99              float64 // ms
	stored           []int   // by each collector
}

// growthOfCollectors has an Envoy with one worker send to 1, 2 and 4 collectors.
func growthOfCollectors(b *testing.B) {
	broker := kafka.Start(b, kafka.Config{})
	var stacks []*stack
	for _, n := range []int{1, 2, 4} {
		s := prepareStackOn(b, broker, faultRoutes([]string{fmt.Sprintf("share-%d", n)}), n)
		s.workers = 1
		s.startEnvoy()
		stacks = append(stacks, s)
	}
	t := newTable("Collectors behind one Envoy worker", "ack", "collectors", "requests/s", "p99 ms", "Envoy µs/request", "collectors µs/request",
		"ratio of the sums", "records by collector")
	for b.Loop() {
		for _, level := range levels[:2] {
			rounds := inTurn(stacks, func(s *stack) shareRound { return s.share(b, level) })
			sum := func(r shareRound) float64 { return r.envoy + r.collector }
			one := medianOf(rounds[0], sum)
			for i, s := range stacks {
				t.add(level, len(s.collectors), medianOf(rounds[i], func(r shareRound) float64 { return r.rate }),
					medianOf(rounds[i], func(r shareRound) float64 { return r.p99 }),
					medianOf(rounds[i], func(r shareRound) float64 { return r.envoy }),
					medianOf(rounds[i], func(r shareRound) float64 { return r.collector }),
					medianOf(rounds[i], sum)/one, shares(rounds[i]))
			}
		}
	}
	t.print()
}

// share sends what the Envoy takes.
func (s *stack) share(b *testing.B, level string) shareRound {
	b.Helper()
	stored := func() (by []int) {
		s.ledger().observe()
		for _, c := range s.collectors {
			by = append(by, int(ledger{c}.total("crowd_stored_total", fmt.Sprintf("level=%q", level))))
		}
		return by
	}
	used := func() (cpu time.Duration) {
		for _, c := range s.collectors {
			cpu += usage(b, c.cmd.Process.Pid).CPU
		}
		return cpu
	}
	before, envoy, collectors := stored(), usage(b, s.envoy.PID()).CPU, used()
	result, err := load.Run(b.Context(), load.Config{
		Address:     strings.TrimPrefix(s.gateway, "http://"),
		Request:     post("shop.example", fmt.Sprintf("/share-%d/%s", len(s.collectors), level)),
		Connections: shareConnections, Duration: shareDuration,
	})
	if err != nil {
		b.Fatal(err)
	}
	if result.Statuses[http.StatusOK] != result.Answers() || result.Unanswered > 0 {
		b.Fatalf("answered %v, %d not at all", result.Statuses, result.Unanswered)
	}
	s.settled()
	answers := float64(result.Answers())
	r := shareRound{
		rate: result.Rate(), p99: result.Quantile(99).Seconds() * 1e3, stored: stored(),
		envoy:     float64((usage(b, s.envoy.PID()).CPU - envoy).Microseconds()) / answers,
		collector: float64((used() - collectors).Microseconds()) / answers,
	}
	arrived := 0
	for i := range r.stored {
		r.stored[i] -= before[i]
		arrived += r.stored[i]
	}
	if arrived != result.Answers() {
		b.Fatalf("of %d requests answered %d are stored", result.Answers(), arrived)
	}
	return r
}

// shares says which part each collector got, over all rounds, the largest first.
func shares(rounds []shareRound) string {
	by, all := make([]int, len(rounds[0].stored)), 0
	for _, r := range rounds {
		for i, n := range r.stored {
			by[i] += n
			all += n
		}
	}
	slices.Sort(by)
	slices.Reverse(by)
	var parts []string
	for _, n := range by {
		parts = append(parts, fmt.Sprintf("%d %%", (100*n+all/2)/all))
	}
	return strings.Join(parts, ", ")
}
