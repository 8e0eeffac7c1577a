package e2e

import (
	"flag"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/e2e/load"
)

var steady = flag.Duration("steady", time.Minute, "how long the load of BenchmarkGrowth/time lasts")

// The load of growthOverTime, of each level, and how often it looks.
const (
	steadyConnections = 16
	steadyPace        = 32 * time.Millisecond
	steadyEvery       = 2 * time.Second
	// steadySpool is small, so that the collector soon has all the memory that it is to have: Pebble takes up to 4
	// memtables, which each are 1/32 of a spool, or 64 MiB where that is less.
	steadySpool = "256MiB"
	// steadyGrowth is by how much the last third may have more memory than the one before it, and be flat.
	steadyGrowth = 1.05
)

// growthOverTime has clients at a steady pace use all levels, and says how much memory Envoy and the collector have in each
// third of the time. What Envoy has beside its own heap is code, and the Wasm VM's.
func growthOverTime(b *testing.B) {
	s := prepareStackOn(b, kafka.Start(b, kafka.Config{}), faultRoutes([]string{"steady"}), 1, "--spool-max-bytes", steadySpool)
	s.workers = 1
	s.startEnvoy()
	memory := []struct {
		of   string
		read func() int
	}{
		{"Envoy", func() int { return usage(b, s.envoy.PID()).Resident }},
		{"Envoy without its heap", func() int { return usage(b, s.envoy.PID()).Resident - s.envoyStat("server.memory_physical_size") }},
		{"the collector", func() int { return usage(b, s.collectors[0].cmd.Process.Pid).Resident }},
	}
	for b.Loop() {
		samples := make([][]float64, len(memory))
		var all sync.WaitGroup
		results := make([]load.Result, len(levels))
		errs := make([]error, len(levels))
		for i, level := range levels {
			all.Go(func() {
				results[i], errs[i] = load.Run(b.Context(), load.Config{
					Address: strings.TrimPrefix(s.gateway, "http://"), Request: post("shop.example", "/steady/"+level),
					Connections: steadyConnections, Duration: *steady, Pace: steadyPace,
				})
			})
		}
		ticks := time.NewTicker(steadyEvery)
		defer ticks.Stop()
		for began := time.Now(); time.Since(began) < *steady; {
			<-ticks.C
			for i, m := range memory {
				samples[i] = append(samples[i], float64(m.read())/mebibyte)
			}
		}
		all.Wait()
		s.settled()
		answers := 0
		for i, r := range results {
			if errs[i] != nil || r.Statuses[http.StatusOK] != r.Answers() || r.Unanswered > 0 {
				b.Errorf("%s: answered %v, %d not at all: %v", levels[i], r.Statuses, r.Unanswered, errs[i])
			}
			answers += r.Answers()
		}
		b.ReportMetric(float64(answers)/steady.Seconds(), "requests/s")
		t := newTable("Memory under a steady load for "+steady.String(), "MiB, median of", "first third", "second", "last", "last to second")
		for i, m := range memory {
			part := len(samples[i]) / 3
			first, second, last := median(samples[i][:part]), median(samples[i][part:2*part]), median(samples[i][2*part:])
			t.add(m.of, first, second, last, last/second)
			if last > second*steadyGrowth {
				b.Errorf("%s grew: %.1f, %.1f, %.1f MiB: %.1f", m.of, first, second, last, samples[i])
			}
		}
		t.print()
	}
}
