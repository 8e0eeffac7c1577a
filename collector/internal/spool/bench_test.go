package spool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// BenchmarkAppend stores batches of uplinks, each of which waits for its batch before it sends the next, and delivers
// them at once, or only when all are stored. It reports the middle and the slowest hundredth of the waits, and how many
// bytes the disk wrote for each of the batches'.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name    string
		uplinks int
		bytes   int
		topics  int
		late    bool
	}{
		{"1 uplink, 64 KiB", 1, 64 << 10, 1, false},
		{"16 uplinks, 1 KiB", 16, 1 << 10, 4, false},
		{"16 uplinks, 64 KiB", 16, 64 << 10, 4, false},
		{"16 uplinks, 64 KiB, delivered late", 16, 64 << 10, 4, true},
		{"one topic, delivered late", 16, 64 << 10, 1, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), MaxBytes: 16 << 30, MaxMemoryBytes: 256 << 20})
			record := make([]byte, c.bytes)
			for i := range record {
				record[i] = byte(rand.Uint32())
			}
			deliver := func() {
				s.Deliver(func(e *Entry, done func([]Undeliverable)) { time.AfterFunc(5*time.Millisecond, func() { done(nil) }) })
			}
			if !c.late {
				deliver()
			}
			b.SetBytes(int64(c.bytes))
			b.ResetTimer()
			var mu sync.Mutex
			var waits []time.Duration
			var uplinks sync.WaitGroup
			for u := range c.uplinks {
				uplinks.Go(func() {
					stored := make(chan error)
					for i := u; i < b.N; i += c.uplinks {
						begun := time.Now()
						s.Append(Entry{
							Sequence: uint64(i), Topic: fmt.Sprint("topic ", i%c.topics), Records: [][]byte{record},
						}, func(err error) { stored <- err })
						if err := <-stored; err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						waits = append(waits, time.Since(begun))
						mu.Unlock()
					}
				})
			}
			uplinks.Wait()
			b.StopTimer()
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "µs/p50")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "µs/p99")
			if c.late {
				deliver()
			}
			eventually(b, "everything is delivered", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.entries == 0
			})
			m := s.db.Metrics()
			written := m.WAL.BytesWritten + total(m, func(l *pebble.LevelMetrics) uint64 {
				return l.TableBytesFlushed + l.TableBytesCompacted
			})
			b.ReportMetric(float64(written)/float64(b.N*c.bytes), "written/byte")
			closeSpool(b, s, patience)
		})
	}
}

func total(m *pebble.Metrics, value func(*pebble.LevelMetrics) uint64) (n uint64) {
	for i := range m.Levels {
		n += value(&m.Levels[i])
	}
	return n
}
