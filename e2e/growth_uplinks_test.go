package e2e

import (
	"fmt"
	"testing"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/e2e/kafka"
)

// Uplinks send batches of so many records each; together, they have so many batches under way and, where there is a pace,
// send so many records a second.
const (
	growthBatch    = 32
	growthUnderWay = 64
	growthPace     = 20_000
)

// fan is a collector with its uplinks.
type fan struct {
	*collectSide
	load    collectCase
	uplinks []*uplink
}

// growthOfUplinks has 1 to 64 uplinks, each on a connection of its own, send to a collector the same in all.
func growthOfUplinks(b *testing.B) {
	broker := kafka.Start(b, kafka.Config{})
	var fans []*fan
	for _, n := range []int{1, 4, 16, 64} {
		f := &fan{
			collectSide: startCollectSide(b, "", absolute(b, crowdBinary), broker, true),
			load:        collectCase{uplinks: n, batch: growthBatch, underWay: growthUnderWay / n},
		}
		for range n {
			f.uplinks = append(f.uplinks, newUplink(b, f.address, growthBatch, record.LevelDisk))
		}
		fans = append(fans, f)
	}
	t := newTable("Uplinks of one collector, level disk", "offered", "uplinks", "records/s", "collector µs/record", "ratio", "ack p50 ms",
		"p99 ms", "collector MiB", "goroutines")
	for b.Loop() {
		for _, pace := range []int{growthPace, 0} {
			offered := "at most"
			if pace > 0 {
				offered = fmt.Sprintf("%d/s", pace)
			}
			rounds := inTurn(fans, func(f *fan) collectRound {
				f.load.pace = pace
				return f.round(b, f.load, f.uplinks)
			})
			one := medianOf(rounds[0], collectRound.ofCPU)
			for i, f := range fans {
				cpu := medianOf(rounds[i], collectRound.ofCPU)
				t.add(offered, f.load.uplinks, medianOf(rounds[i], func(r collectRound) float64 { return r.rate }), cpu, cpu/one,
					medianOf(rounds[i], func(r collectRound) float64 { return r.p50 }),
					medianOf(rounds[i], func(r collectRound) float64 { return r.p99 }),
					usage(b, f.cmd.Process.Pid).Resident/mebibyte,
					int(total(b, get(b, "http://"+f.admin+"/metrics"), "go_goroutines", nil)))
			}
		}
	}
	t.print()
}

func (r collectRound) ofCPU() float64 { return r.cpu }
