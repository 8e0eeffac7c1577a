package flow

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// BenchmarkEngine sends to a target that answers at once, and commits as soon as that is wanted.
func BenchmarkEngine(b *testing.B) {
	for _, concurrency := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(concurrency), func(b *testing.B) {
			o := Options{
				Send:      func(context.Context, Attempt) Outcome { return Outcome{Verdict: Delivered, Status: 200} },
				Attempted: func(Attempt, Outcome) {},
				Order:     ByKey, MaxAttempts: 3, Failures: 10, Of: 20, MaxBufferBytes: 256 << 20, Log: slog.New(slog.DiscardHandler),
			}
			e := New(o, Limits{Rate: math.Inf(1), KeyRate: math.Inf(1), Concurrency: concurrency})
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { e.Run(ctx) })
			running.Go(func() {
				for {
					select {
					case <-ctx.Done():
						return
					case <-e.CommitWanted():
						e.Committed(e.Uncommitted())
					}
				}
			})
			p, err := e.Open("leads", 0, 0, "")
			if err != nil {
				b.Fatal(err)
			}
			keys := make([][]byte, 10_000)
			for i := range keys {
				keys[i] = fmt.Append(nil, "customer ", i)
			}
			received := time.Now()
			b.ReportAllocs()
			var n int64
			for b.Loop() {
				m := &Message{Topic: "leads", Offset: n, Record: record.Record{Key: keys[n%10_000], Received: received}}
				if err := p.Offer(ctx, m); err != nil {
					b.Fatal(err)
				}
				n++
			}
			if c := p.Close(ctx); c.Offset < n-int64(3*concurrency) {
				b.Errorf("done as far as %d of %d", c.Offset, n)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
			cancel()
			running.Wait()
		})
	}
}
