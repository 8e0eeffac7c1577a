package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/e2e/kafka"
)

var against = flag.String("against", "", "another crowd, whose collector runs in turn with that of ../bin")

// A round of BenchmarkCollector has so many records. Each case has so many rounds, of which the first does not count.
const (
	collectRecords = 40_000
	collectRounds  = 6
)

// collectCase is a load of a collector.
type collectCase struct {
	uplinks, batch int
	underWay       int // batches of an uplink at most
	pace           int // records a second, of all uplinks; 0: as many as it takes
}

// The last one is what an Envoy worker with 64 connections does whose clients wait.
var collectCases = []collectCase{
	{1, 1, 256, 40_000}, {1, 16, 16, 40_000}, {1, 64, 16, 40_000}, {1, 200, 16, 40_000}, {4, 64, 16, 40_000}, {4, 64, 16, 0}, {1, 32, 2, 0},
}

// BenchmarkCollector says what a record of 512 bytes costs a collector, from an uplink's stream to Kafka's
// acknowledgement: CPU from /proc, and allocations. Uplinks and a real Kafka are other processes on the same machine.
func BenchmarkCollector(b *testing.B) {
	for _, spool := range []bool{false, true} {
		name := "direct"
		if spool {
			name = "spool"
		}
		b.Run(name, func(b *testing.B) {
			broker := kafka.Start(b, kafka.Config{})
			sides := []*collectSide{startCollectSide(b, "", absolute(b, crowdBinary), broker, spool)}
			if *against != "" {
				sides = append(sides, startCollectSide(b, "-against", *against, broker, spool))
			}
			for _, c := range collectCases {
				b.Run(fmt.Sprintf("uplinks=%d/batch=%d/under-way=%d/pace=%d", c.uplinks, c.batch, c.underWay, c.pace), func(b *testing.B) {
					for b.Loop() {
						runCollectCase(b, c, sides)
					}
				})
			}
		})
	}
}

func runCollectCase(b *testing.B, c collectCase, sides []*collectSide) {
	rounds := make([][]collectRound, len(sides))
	uplinks := make([][]*uplink, len(sides))
	for i, s := range sides {
		for range c.uplinks {
			uplinks[i] = append(uplinks[i], newUplink(b, s.address, c.batch, record.LevelDisk))
		}
	}
	for range collectRounds {
		for i, s := range sides {
			rounds[i] = append(rounds[i], s.round(b, c, uplinks[i]))
		}
	}
	for i, s := range sides {
		for unit, value := range map[string]func(collectRound) float64{
			"µs/record":       func(r collectRound) float64 { return r.cpu },
			"allocs/record":   func(r collectRound) float64 { return r.allocations },
			"kafka-µs/record": func(r collectRound) float64 { return r.kafka },
			"records/s":       func(r collectRound) float64 { return r.rate },
			"p50-ms":          func(r collectRound) float64 { return r.p50 },
			"p99-ms":          func(r collectRound) float64 { return r.p99 },
		} {
			var values []float64
			for _, r := range rounds[i][1:] {
				values = append(values, value(r))
			}
			b.ReportMetric(median(values), unit+s.suffix)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// collectSide is a collector that is measured.
type collectSide struct {
	*process
	kafka          *kafka.Broker
	suffix         string // of the units of what is reported
	address, admin string
	records        float64 // that it was sent
}

func startCollectSide(b *testing.B, suffix, binary string, broker *kafka.Broker, spool bool) *collectSide {
	b.Helper()
	directory := "off"
	if spool {
		directory = b.TempDir()
	}
	p := start(b, exec.Command(binary, "collector", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--kafka",
		broker.Addr(), "--spool", directory))
	s := &collectSide{
		process: p, kafka: broker, suffix: suffix, admin: p.waitFor(`collector listening.* admin=(\S+)`),
		address: p.waitFor(`collector listening.* address=(\S+)`),
	}
	eventually(b, "the collector is ready", func() bool {
		response, err := http.Get("http://" + s.admin + "/readyz") //nolint:noctx // a test's own address
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return s
}

// collectRound is what one round came to.
type collectRound struct {
	cpu         float64 // µs a record
	kafka       float64 // Kafka's
	allocations float64 // a record
	rate        float64 // records a second, acknowledged
	p50, p99    float64 // ms until a batch was acknowledged
}

func (s *collectSide) round(b *testing.B, c collectCase, uplinks []*uplink) collectRound {
	b.Helper()
	batches := max(1, collectRecords/c.uplinks/c.batch)
	var interval time.Duration
	if c.pace > 0 {
		interval = time.Second * time.Duration(c.uplinks*c.batch) / time.Duration(c.pace)
	}
	before := get(b, "http://"+s.admin+"/metrics")
	began, used, byKafka := time.Now(), usage(b, s.cmd.Process.Pid).CPU, usage(b, s.kafka.PID()).CPU
	var mu sync.Mutex
	var waits []time.Duration
	var all sync.WaitGroup
	for i, u := range uplinks {
		all.Go(func() {
			time.Sleep(interval * time.Duration(i) / time.Duration(len(uplinks))) // or they would send at the same time
			own := u.send(batches, interval, c.underWay)
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, own...)
		})
	}
	all.Wait()
	took := time.Since(began)
	records := float64(batches * c.batch * c.uplinks)
	if b.Failed() || len(waits) != batches*c.uplinks {
		b.FailNow()
	}
	s.records += records
	var after string
	eventually(b, "everything is in Kafka", func() bool { // what has come by the spool may not be
		after = get(b, "http://"+s.admin+"/metrics")
		return total(b, after, "crowd_delivered_total", nil) == s.records
	})
	used, byKafka = usage(b, s.cmd.Process.Pid).CPU-used, usage(b, s.kafka.PID()).CPU-byKafka
	slices.Sort(waits)
	ms := func(share int) float64 { return waits[len(waits)*share/100].Seconds() * 1e3 }
	return collectRound{
		cpu: float64(used.Microseconds()) / records, kafka: float64(byKafka.Microseconds()) / records, rate: records / took.Seconds(), p50: ms(50), p99: ms(99),
		allocations: (total(b, after, "go_memstats_mallocs_total", nil) - total(b, before, "go_memstats_mallocs_total", nil)) / records,
	}
}
