package flow

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	slow := func(context.Context, Attempt) Outcome {
		time.Sleep(time.Second)
		return Outcome{Verdict: Delivered}
	}
	for name, c := range map[string]struct {
		order Order
		key   func(int) string
		atOne int // how many are sent at once
	}{
		"one key":               {ByKey, all("a"), 1},
		"keys":                  {ByKey, each, 5},
		"no key":                {ByKey, all(""), 5},
		"partition":             {ByPartition, each, 1},
		"partition without key": {ByPartition, all(""), 1},
		"none":                  {Unordered, all("a"), 5},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			o.Order, o.Send = c.order, slow
			run(t, o, unlimited(5), func(r *rig) {
				r.commit()
				r.feed(0, from(0, 20, c.key)...)
				r.after(500 * time.Millisecond)
				r.expect(c.atOne)
				r.after(time.Minute)
				r.expect(20)
				if r.peak != c.atOne {
					t.Errorf("%d at once, want %d", r.peak, c.atOne)
				}
				if !slices.IsSortedFunc(r.sent(), func(a, b attempted) int { return int(a.Offset - b.Offset) }) && c.atOne == 1 {
					t.Error("out of order")
				}
			})
		})
	}
}

// TestNothingElseIsHeldUp has one key wait for whatever a key can wait for.
func TestNothingElseIsHeldUp(t *testing.T) {
	stuck := func(does func(context.Context, Attempt) Outcome) func(context.Context, Attempt) Outcome {
		return func(ctx context.Context, a Attempt) Outcome {
			if keyed(a, "stuck") {
				return does(ctx, a)
			}
			return ok(ctx, a)
		}
	}
	noDeadLetters := func(ctx context.Context, _ *Message, _ Letter) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, c := range map[string]struct {
		change func(*Options, *Limits, *Message)
		tries  int // of the stuck key
	}{
		"retry": {func(o *Options, _ *Limits, _ *Message) {
			o.Send = stuck(func(context.Context, Attempt) Outcome {
				return Outcome{Verdict: Failed, RetryAfter: time.Minute}
			})
		}, 1},
		"hanging": {func(o *Options, _ *Limits, _ *Message) { o.Send = stuck(hang) }, 1},
		"burial": {func(o *Options, _ *Limits, _ *Message) {
			o.Send = stuck(func(context.Context, Attempt) Outcome { return Outcome{Verdict: Rejected, Status: 400} })
			o.Bury = noDeadLetters
		}, 1},
		"unreadable": {func(o *Options, _ *Limits, m *Message) { o.Bury, m.Unreadable = noDeadLetters, "no" }, 0},
		"key rate":   {func(_ *Options, l *Limits, _ *Message) { l.KeyRate = 1. / 60 }, 1},
		"route rate": {func(_ *Options, l *Limits, _ *Message) { l.RouteRates = map[string]float64{"stuck": 0} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o, l := options(), unlimited(2)
			messages := append(from(0, 1000, all("stuck")), from(1000, 1000, each)...)
			for _, m := range messages[:1000] {
				m.Record.Route = "stuck"
			}
			c.change(&o, &l, messages[0])
			run(t, o, l, func(r *rig) {
				r.commit()
				r.feed(0, messages...)
				r.after(time.Second)
				r.expect(1000 + c.tries)
			})
		})
	}
}

// TestManyBurialsHoldUpNothing has more messages wait for the dead-letter topic than may be under way.
func TestManyBurialsHoldUpNothing(t *testing.T) {
	o := options()
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		if a.Offset%2 == 0 {
			return Outcome{Verdict: Rejected, Status: 400, Reason: "no"}
		}
		return ok(ctx, a)
	}
	o.Bury = func(ctx context.Context, _ *Message, _ Letter) error {
		<-ctx.Done()
		return ctx.Err()
	}
	run(t, o, unlimited(2), func(r *rig) {
		r.commit()
		r.feed(0, from(0, 200, each)...)
		r.after(time.Second)
		r.expect(200)
		if s := r.State(); s.UnderWay != 0 || s.Held != 100 {
			t.Errorf("state %+v", s)
		}
	})
}

// TestBurialsAreBounded has all messages of many partitions wait for the dead-letter topic.
func TestBurialsAreBounded(t *testing.T) {
	const partitions = 8
	o := options()
	o.Send = func(context.Context, Attempt) Outcome { return Outcome{Verdict: Rejected, Status: 400, Reason: "no"} }
	o.Bury = func(ctx context.Context, _ *Message, _ Letter) error {
		<-ctx.Done()
		return ctx.Err()
	}
	run(t, o, unlimited(2), func(r *rig) {
		r.commit()
		for p := range partitions {
			r.feed(int32(p), from(0, 1000, each)...)
		}
		r.after(time.Second)
		if s := r.State(); s.Held < maxBurying || s.Held > 2*maxBurying { // while there were fewer partitions, each had a larger share
			t.Errorf("%d held, want about %d", s.Held, maxBurying)
		}
	})
}

func TestKeysAndPartitionsTakeTurns(t *testing.T) {
	l := unlimited(2)
	l.Rate = 100
	run(t, options(), l, func(r *rig) {
		r.commit()
		r.feed(0, append(from(0, 100_000, all("hot")), from(100_000, 50, each)...)...)
		r.feed(1, from(0, 100_000, each)...)
		r.feed(2, from(0, 100_000, all(""))...)
		r.after(10 * time.Second)
		count := map[int32]int{}
		cold := 0
		for _, a := range r.sent() {
			count[a.Partition]++
			if a.Partition == 0 && !keyed(a.Attempt, "hot") {
				cold++
			}
		}
		for id := range int32(3) {
			if got := count[id]; got < 310 || got > 350 {
				t.Errorf("%d of partition %d were sent, want a third of 1,000", got, id)
			}
		}
		if cold != 50 {
			t.Errorf("%d of the other keys of partition 0 were sent, want 50", cold)
		}
	})
}

// TestNoMoreThanACrashMayRepeat has commits fail.
func TestNoMoreThanACrashMayRepeat(t *testing.T) {
	for _, adaptive := range []bool{false, true} {
		l := unlimited(5)
		l.Adaptive = adaptive
		run(t, options(), l, func(r *rig) {
			wanted := func() bool {
				select {
				case <-r.CommitWanted():
					return true
				default:
					return false
				}
			}
			p := r.feed(0, from(0, 4, each)...)
			r.expect(4)
			if wanted() {
				t.Error("a commit is wanted too early")
			}
			r.offer(p, from(4, 100, each)...)
			r.expect(10)
			if !wanted() {
				t.Error("no commit is wanted")
			}
			r.after(time.Hour)
			r.expect(10)
			commits := r.Uncommitted()
			if len(commits) != 1 || commits[0].Offset != 10 || commits[0].Metadata != "" {
				t.Errorf("commits %+v", commits)
			}
			r.Committed(commits)
			r.expect(20)
			r.Committed(r.Uncommitted())
			r.expect(30)
			r.commit()
			r.Committed(r.Uncommitted())
			r.expect(104)
		})
	}
}

func TestConcurrencyChanges(t *testing.T) {
	o := options()
	o.Send = func(context.Context, Attempt) Outcome {
		time.Sleep(time.Second)
		return Outcome{Verdict: Delivered}
	}
	run(t, o, unlimited(2), func(r *rig) {
		r.commit()
		r.feed(0, from(0, 1000, each)...)
		r.after(2500 * time.Millisecond)
		r.expect(6)
		r.SetLimits(unlimited(10))
		r.expect(14)
		r.SetLimits(unlimited(1))
		r.after(10*time.Second + time.Millisecond)
		if s := r.State(); s.UnderWay != 1 || s.Concurrency != 1 {
			t.Errorf("state %+v", s)
		}
	})
}

// TestMetadataOverflows has the first message hang, and more be done behind it than can be told.
func TestMetadataOverflows(t *testing.T) {
	var release chan struct{}
	o := options()
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		if keyed(a, "stuck") && a.Partition == 0 {
			<-release
		}
		return ok(ctx, a)
	}
	run(t, o, unlimited(200), func(r *rig) {
		release = make(chan struct{})
		r.commit()
		const n = 30_000
		key := func(i int) string {
			if i%2 == 0 {
				return "stuck"
			}
			return each(i)
		}
		p := r.feed(0, from(0, n, key)...)
		r.after(time.Second)
		first := len(r.sent())
		if first < 5_000 || first > n/2 {
			t.Errorf("%d are sent before metadata overflows", first)
		}
		r.Committed(r.Uncommitted())
		if !p.tracker.Overflows(2) || p.tracker.Uncommitted() != 0 {
			t.Errorf("overflows: %v, uncommitted %d", p.tracker.Overflows(2), p.tracker.Uncommitted())
		}
		r.feed(1, from(0, 1000, each)...)
		r.after(2 * time.Second)
		r.expect(first + 1000)
		close(release)
		r.after(3 * time.Second)
		r.expect(n + 1000)
	})
}

func TestMemoryIsShared(t *testing.T) {
	o := options()
	o.MaxBufferBytes = 100_000
	l := unlimited(2)
	l.Rate, o.Order = 0, ByKey
	big := func(offset, n, size int) []*Message {
		messages := from(offset, n, all("one"))
		for _, m := range messages {
			m.Record.Body = make([]byte, size)
		}
		return messages
	}
	run(t, o, l, func(r *rig) {
		r.commit()
		r.feed(0, big(0, 100, 10_000-256-3)...)
		r.feed(1, big(0, 100, 300_000)...)
		r.expect(0)
		// The first partition had all of it until there was the second.
		if s := r.State(); s.Held != 11 && s.Held != 6 {
			t.Errorf("state %+v", s)
		}
		r.SetLimits(unlimited(2))
		r.after(time.Second)
		r.expect(200)
		if s := r.State(); s.Held != 0 || s.HeldBytes != 0 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestReadsNoMoreThanIsOfUse(t *testing.T) {
	for name, c := range map[string]struct {
		order Order
		key   func(int) string
		held  int
	}{
		"ready":     {ByKey, each, 10},
		"partition": {ByPartition, each, 11},
		"hot key":   {ByKey, all("hot"), 1000}, // there may be others
	} {
		o := options()
		o.Order = c.order
		l := unlimited(10)
		l.Rate = 0
		t.Run(name, func(t *testing.T) {
			run(t, o, l, func(r *rig) {
				r.feed(0, from(0, 1000, c.key)...)
				r.expect(0)
				if s := r.State(); s.Held != c.held {
					t.Errorf("%d held, want %d", s.Held, c.held)
				}
			})
		})
	}
}

func TestStateAndSkip(t *testing.T) {
	o := options()
	o.Send = func(_ context.Context, a Attempt) Outcome {
		time.Sleep(time.Second)
		if a.Offset == 3 {
			return failed(500)
		}
		return Outcome{Verdict: Delivered}
	}
	l := unlimited(2)
	l.Rate = 10
	run(t, o, l, func(r *rig) {
		p := r.feed(0)
		p.Skip(2)
		if c := r.Uncommitted(); len(c) != 1 || c[0].Offset != 3 {
			t.Errorf("uncommitted %+v", c)
		}
		r.offer(p, from(3, 2, each)...)
		r.after(500 * time.Millisecond)
		r.SetShare(0.5)
		if s := r.State(); s.UnderWay != 2 || s.Held != 2 || s.HeldBytes < 2*256 || s.Waiting != 0 || s.Rate != 5 ||
			s.Concurrency != 2 || s.Breaker != "closed" || !s.Until.IsZero() {
			t.Errorf("state %+v", s)
		}
		r.after(1200 * time.Millisecond)
		if s := r.State(); s.UnderWay != 0 || s.Held != 1 || s.Waiting != 1 {
			t.Errorf("state %+v", s)
		}
		r.SetLimits(unlimited(1))
		r.SetShare(0)
		if s := r.State(); !math.IsInf(s.Rate, 1) {
			t.Errorf("state %+v", s)
		}
	})
}

// TestMoreIsLeftThanCanBeToldOf leaves every other message: what is sent behind the first of those is told in metadata, which
// ends before the messages do.
func TestMoreIsLeftThanCanBeToldOf(t *testing.T) {
	run(t, options(), unlimited(10), func(r *rig) {
		r.commit()
		p, err := r.Open("leads", 0, 0, "")
		if err != nil {
			r.t.Fatal(err)
		}
		full := make(chan int64, 1)
		go func() {
			for offset := int64(0); ; offset += 2 {
				if !p.Leave(offset) || errors.Is(p.Offer(r.t.Context(), from(int(offset+1), 1, all(""))[0]), ErrFull) {
					full <- offset
					return
				}
			}
		}()
		r.after(time.Hour)
		select {
		case offset := <-full:
			t.Logf("full at %d, %d sent", offset, len(r.sent()))
		default:
			t.Error("it waits for room, which there will never be")
		}
		if held, hopeless := p.Held(); held > 0 && !hopeless {
			t.Errorf("%d are held as if they could be sent", held)
		}
		if n := len(r.sent()); n < 10_000 {
			t.Errorf("%d have been sent", n)
		}
	})
}
