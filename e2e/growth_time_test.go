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
	steadyPace        = 16 * time.Millisecond
	steadyEvery       = 2 * time.Second
	// steadyGrowth is by how much the last third may have more memory than the one before it, and be flat.
	steadyGrowth = 1.05
)

// growthOverTime has clients at a steady pace use all levels, and says how much memory Envoy, the Wasm VM in it and the
// collector have in each third of the time.
func growthOverTime(b *testing.B) {
	s := prepareStackOn(b, kafka.Start(b, kafka.Config{}), faultRoutes([]string{"steady"}), 1)
	s.workers = 1
	s.startEnvoy()
	memory := map[string]func() int{
		"Envoy":         func() int { return usage(b, s.envoy.PID()).Resident },
		"the VM in it":  func() int { return vmMemory(b, s.envoy.PID()) },
		"the collector": func() int { return usage(b, s.collectors[0].cmd.Process.Pid).Resident },
	}
	for b.Loop() {
		samples := map[string][]float64{}
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
			for name, read := range memory {
				samples[name] = append(samples[name], float64(read())/mebibyte)
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
		for _, name := range []string{"Envoy", "the VM in it", "the collector"} {
			part := len(samples[name]) / 3
			first, second, last := median(samples[name][:part]), median(samples[name][part:2*part]), median(samples[name][2*part:])
			t.add(name, first, second, last, last/second)
			if last > second*steadyGrowth {
				b.Errorf("%s grew: %.1f, %.1f, %.1f MiB: %.1f", name, first, second, last, samples[name])
			}
		}
		t.print()
	}
}

func vmMemory(b *testing.B, pid int) int { return pid }
