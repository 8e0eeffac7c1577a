package flow

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

// TestClose closes a partition, of whose messages the first is under way, and waits for three seconds at most.
func TestClose(t *testing.T) {
	takes := func(d time.Duration, o Outcome) func(context.Context, Attempt) Outcome {
		return func(ctx context.Context, _ Attempt) Outcome {
			select {
			case <-time.After(d):
				return o
			case <-ctx.Done():
				return Outcome{Verdict: Canceled}
			}
		}
	}
	buries := func(d time.Duration) func(context.Context, *Message, Letter) error {
		return func(ctx context.Context, _ *Message, _ Letter) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	delivered, rejected := Outcome{Verdict: Delivered}, Outcome{Verdict: Rejected, Status: 400}
	for name, c := range map[string]struct {
		send   func(context.Context, Attempt) Outcome
		bury   func(context.Context, *Message, Letter) error
		took   time.Duration
		offset int64
	}{
		"answered":              {takes(2*time.Second, delivered), nil, time.Second, 1},
		"not answered":          {takes(time.Minute, delivered), nil, 3 * time.Second, 0},
		"failed":                {takes(2*time.Second, failed(500)), nil, time.Second, 0},
		"rejected":              {takes(2*time.Second, rejected), buries(time.Second), 2 * time.Second, 1},
		"being buried":          {takes(0, rejected), buries(2 * time.Second), time.Second, 1},
		"cannot be buried":      {takes(0, rejected), buries(time.Minute), 3 * time.Second, 0},
		"waiting":               {takes(0, Outcome{Verdict: Failed, RetryAfter: time.Minute}), nil, 0, 0},
		"answered all the same": {func(ctx context.Context, _ Attempt) Outcome { <-ctx.Done(); return delivered }, nil, 3 * time.Second, 1},
		"rejected all the same": {func(ctx context.Context, _ Attempt) Outcome { <-ctx.Done(); return rejected }, buries(0), 3 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			send := c.send
			first := true
			o.Send = func(ctx context.Context, a Attempt) Outcome {
				if first {
					first = false
					return send(ctx, a)
				}
				return ok(ctx, a)
			}
			if c.bury != nil {
				o.Bury = c.bury
			}
			run(t, o, unlimited(1), func(r *rig) {
				r.commit()
				p := r.feed(0, from(0, 10, all("a"))...)
				r.after(time.Second)
				ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Second)
				defer cancel()
				before := time.Now()
				commit := p.Close(ctx)
				if took := time.Since(before); took != c.took {
					t.Errorf("Close took %v, want %v", took, c.took)
				}
				if commit.Topic != "leads" || commit.Partition != 0 || commit.Offset != c.offset || commit.Metadata != "" {
					t.Errorf("commit %+v, want offset %d", commit, c.offset)
				}
				r.expect(1)
				if s := r.State(); s.Held != 0 || s.HeldBytes != 0 || s.UnderWay != 0 || s.Waiting != 0 {
					t.Errorf("state %+v", s)
				}
				if err := p.Offer(r.t.Context(), from(10, 1, each)[0]); !errors.Is(err, ErrClosed) {
					t.Errorf("Offer to what is closed: %v", err)
				}
				r.Committed([]Commit{commit})
				// Its next time.
				again, err := r.Open("leads", 0, commit.Offset, commit.Metadata)
				if err != nil {
					t.Fatal(err)
				}
				r.offer(again, from(int(commit.Offset), 10-int(commit.Offset), all("a"))...)
				r.expect(1 + 10 - int(c.offset))
				if again.tracker.First() != 10 {
					t.Errorf("done as far as %d", again.tracker.First())
				}
			})
		})
	}
}

func TestWhatIsDoneBehindIsNotSentAgain(t *testing.T) {
	o := options()
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		if a.Offset == 3 && a.Partition == 0 {
			return hang(ctx, a)
		}
		return ok(ctx, a)
	}
	run(t, o, unlimited(2), func(r *rig) {
		r.commit()
		p := r.feed(0, from(0, 100, each)...)
		r.expect(100)
		ctx, cancel := context.WithCancel(r.t.Context())
		cancel()
		commit := p.Close(ctx)
		if commit.Offset != 3 || commit.Metadata == "" {
			t.Errorf("commit %+v", commit)
		}
		again, err := r.Open("leads", 1, commit.Offset, commit.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		r.offer(again, from(3, 100, each)...)
		r.expect(100 + 1 + 3)
		bad, err := r.Open("leads", 2, 5, "not ours")
		if err == nil {
			t.Error("no error for bad metadata")
		}
		r.offer(bad, from(5, 1, each)...)
		r.expect(100 + 1 + 3 + 1)
	})
}

// TestManyAreClosedAtOnce closes partitions in all states, with more of their messages to be buried than are sent at once.
func TestManyAreClosedAtOnce(t *testing.T) {
	o := options()
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		switch a.Offset % 4 {
		case 0:
			return failed(500)
		case 1:
			return Outcome{Verdict: Rejected, Status: 400}
		case 2:
			return hang(ctx, a)
		}
		return ok(ctx, a)
	}
	o.Bury = func(ctx context.Context, _ *Message, _ Letter) error {
		<-ctx.Done()
		return ctx.Err()
	}
	l := unlimited(10)
	l.KeyRate, l.RouteRates = 0.1, map[string]float64{"slow": 0.1}
	run(t, o, l, func(r *rig) {
		r.commit()
		var partitions []*Partition
		for id := range int32(20) {
			messages := from(0, 100, func(i int) string { return each(i % 50) })
			for i, m := range messages {
				if i%5 == 0 {
					m.Record.Route = "slow"
				}
				if i%7 == 0 {
					m.Unreadable = "no"
				}
			}
			partitions = append(partitions, r.feed(id, messages...))
		}
		r.after(time.Second)
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		var closing sync.WaitGroup
		for _, p := range partitions {
			closing.Go(func() { p.Close(ctx) })
		}
		closing.Wait()
		if s := r.State(); s.Held != 0 || s.UnderWay != 0 || s.Waiting != 0 {
			t.Errorf("state %+v", s)
		}
		n := len(r.sent())
		r.feed(0, from(3, 1, each)...)
		r.after(10 * time.Minute) // the circuit breaker may be open
		r.expect(n + 1)
	})
}

// TestClosedAndNotCommitted counts what is done of a closed partition until it is committed, or lost.
func TestClosedAndNotCommitted(t *testing.T) {
	for _, lost := range []bool{false, true} {
		run(t, options(), unlimited(5), func(r *rig) {
			p := r.feed(0, from(0, 100, each)...)
			r.expect(10)
			commit := p.Close(r.t.Context())
			r.feed(1, from(0, 100, each)...)
			r.expect(10)
			if lost {
				r.Lost([]Commit{commit})
			} else {
				r.Committed([]Commit{commit})
			}
			r.expect(20)
			if commits := r.Uncommitted(); len(commits) != 1 || commits[0].Partition != 1 {
				t.Errorf("uncommitted %+v", commits)
			}
		})
	}
}

func TestOfferEndsWithItsContext(t *testing.T) {
	l := unlimited(1)
	l.Rate = 0
	run(t, options(), l, func(r *rig) {
		p := r.feed(0, from(0, 1, each)...)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		if err := p.Offer(ctx, from(1, 1, each)[0]); !errors.Is(err, context.DeadlineExceeded) || time.Since(r.start) != time.Second {
			t.Errorf("Offer: %v after %v", err, time.Since(r.start))
		}
		// And with the partition.
		offered := make(chan error)
		go func() { offered <- p.Offer(r.t.Context(), from(1, 1, each)[0]) }()
		synctest.Wait()
		p.Close(r.t.Context())
		if err := <-offered; !errors.Is(err, ErrClosed) {
			t.Errorf("Offer: %v", err)
		}
	})
}

// TestEnd ends the engine with messages in all states; run checks what is left.
func TestEnd(t *testing.T) {
	o := options()
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		switch a.Offset % 3 {
		case 0:
			<-ctx.Done()
			return Outcome{Verdict: Rejected, Status: 400}
		case 1:
			return failed(500)
		}
		return hang(ctx, a)
	}
	run(t, o, unlimited(10), func(r *rig) {
		p := r.feed(0, from(0, 100, each)...)
		r.after(time.Second)
		r.cancel()
		r.ended.Wait()
		if c := p.Close(r.t.Context()); c.Offset != 0 || c.Metadata != "" {
			t.Errorf("commit %+v", c)
		}
		if _, err := r.Open("leads", 1, 0, (offsets.State{}).Metadata); err != nil {
			t.Error(err)
		}
	})
}
