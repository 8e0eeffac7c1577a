package flow

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 500, 2: 1000, 3: 2000, 7: 32_000, 8: 60_000, 20: 60_000, 5000: 60_000} {
		want *= time.Millisecond
		if got := Backoff(n, 500*time.Millisecond, time.Minute, 0); got != want {
			t.Errorf("backoff %d = %v, want %v", n, got, want)
		}
		if got := Backoff(n, 500*time.Millisecond, time.Minute, 1); got != want/2 {
			t.Errorf("backoff %d = %v at least, want %v", n, got, want/2)
		}
	}
}

// TestWhatBecomesOfAMessage has one message, and outcomes of its attempts.
func TestWhatBecomesOfAMessage(t *testing.T) {
	const delivered = "delivered"
	f, r := failed(500), func(after time.Duration) Outcome {
		return Outcome{Verdict: Failed, Status: 429, RetryAfter: after, Reason: "it failed"}
	}
	for name, c := range map[string]struct {
		outcomes []Outcome // and then delivered
		change   func(*Options, *Message)
		class    string
		reason   string
		waits    []time.Duration // between attempts, at most; half of it at least
		exact    bool
	}{
		"at once":     {class: delivered},
		"two retries": {outcomes: []Outcome{f, f}, class: delivered, waits: []time.Duration{time.Second, 2 * time.Second}},
		"retry-after": {outcomes: []Outcome{r(time.Minute)}, class: delivered, waits: []time.Duration{time.Minute}, exact: true},
		"short retry-after": {outcomes: []Outcome{r(time.Millisecond)}, class: delivered,
			waits: []time.Duration{time.Second}},
		"long retry-after": {outcomes: []Outcome{r(time.Hour)}, class: delivered, waits: []time.Duration{5 * time.Minute},
			exact: true},
		"exhausted": {outcomes: []Outcome{f, f, f, f}, class: ClassExhausted,
			reason: "3 attempts have failed, the last one because: it failed",
			waits:  []time.Duration{time.Second, 2 * time.Second}},
		"rejected": {outcomes: []Outcome{f, {Verdict: Rejected, Status: 404, Reason: "the answer was 404"}}, class: ClassRejected,
			reason: "the answer was 404", waits: []time.Duration{time.Second}},
		"unsendable": {outcomes: []Outcome{{Verdict: Unsendable, Reason: "no method"}}, class: ClassMalformed,
			reason: "no method"},
		"unreadable": {change: func(_ *Options, m *Message) { m.Unreadable = "no headers" }, class: ClassMalformed,
			reason: "no headers"},
		"canceled": {outcomes: []Outcome{{Verdict: Canceled}}, class: delivered, waits: []time.Duration{time.Second}, exact: true},
		"too old": {change: func(_ *Options, m *Message) { m.Record.Received = m.Record.Received.Add(-time.Hour) },
			class: ClassExpired, reason: "the request is 1h0m0s old, and max_age is 10m0s"},
		"too old by its timestamp": {change: func(_ *Options, m *Message) {
			m.Timestamp, m.Record.Received = m.Record.Received.Add(-time.Hour), time.Time{}
		}, class: ClassExpired, reason: "the request is 1h0m0s old, and max_age is 10m0s"},
		"too old for another attempt": {outcomes: []Outcome{f, r(5 * time.Minute)},
			change: func(_ *Options, m *Message) { m.Record.Received = m.Record.Received.Add(-6 * time.Minute) },
			class:  ClassExpired, reason: "the request is 11m1s old, and max_age is 10m0s", waits: []time.Duration{time.Second}},
		"old, and young since the start": {change: func(o *Options, m *Message) {
			o.AgeSince = m.Record.Received
			m.Record.Received = m.Record.Received.Add(-time.Hour)
		}, class: delivered},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			m := from(7, 1, each)[0]
			o := options()
			o.MaxAttempts, o.MaxAge, o.InitialBackoff = 3, 10*time.Minute, time.Second
			if c.change != nil {
				c.change(&o, m)
			}
			q := newQueue(o, unlimited(1), begin)
			p, _ := q.open("leads", 0, 7, "")
			q.add(p, m)
			now := begin
			var waits []time.Duration
			var last Outcome
			for n := 0; ; n++ {
				j, at := q.next(now)
				if j == nil && at.IsZero() {
					break
				}
				if j == nil {
					waits = append(waits, at.Sub(now))
					now = at
					n--
					continue
				}
				if j.letter != nil {
					want := Letter{Class: c.class, Reason: c.reason, Attempts: n, Last: last}
					if name == "too old for another attempt" {
						waits = waits[:1]
					}
					if diff := cmp.Diff(want, *j.letter); diff != "" {
						t.Errorf("letter (-want +got):\n%s", diff)
					}
					q.buried(j, true)
					continue
				}
				if j.attempt.Number != n+1 && last.Verdict != Canceled {
					t.Errorf("attempt %d, want %d", j.attempt.Number, n+1)
				}
				last = Outcome{Verdict: Delivered}
				if n < len(c.outcomes) {
					last = c.outcomes[n]
				}
				if last.Verdict == Delivered && c.class != delivered {
					t.Error("it is sent once more")
				}
				q.ended(j, last, now, 0.5)
			}
			if p.tracker.First() != 8 || q.held != 0 || q.bytes != 0 {
				t.Errorf("first %d, %d held", p.tracker.First(), q.held)
			}
			for i, wait := range c.waits {
				if !c.exact {
					c.waits[i] = wait * 3 / 4 // as random says
				}
			}
			if !slices.Equal(waits, c.waits) {
				t.Errorf("waits %v, want %v", waits, c.waits)
			}
		})
	}
}

func TestRetriesAreSpread(t *testing.T) {
	o := options()
	o.Failures, o.Of = 100, 100
	o.Send = func(_ context.Context, a Attempt) Outcome {
		if a.Number == 1 {
			return failed(500)
		}
		return Outcome{Verdict: Delivered}
	}
	run(t, o, unlimited(50), func(r *rig) {
		r.commit()
		r.feed(0, from(0, 50, each)...)
		r.after(time.Second)
		r.expect(100)
		at := map[time.Duration]bool{}
		for _, a := range r.sent() {
			at[a.at] = true
			if a.Number == 2 && (a.at < 250*time.Millisecond || a.at > 500*time.Millisecond) {
				t.Errorf("a retry after %v", a.at)
			}
		}
		if len(at) < 40 {
			t.Errorf("%d different times", len(at))
		}
	})
}

// down is a target that is not there until a time.
func down(until time.Duration, o Outcome) func(r **rig) func(context.Context, Attempt) Outcome {
	return func(r **rig) func(context.Context, Attempt) Outcome {
		return func(ctx context.Context, a Attempt) Outcome {
			if time.Since((*r).start) < until {
				return o
			}
			return ok(ctx, a)
		}
	}
}

// TestBreaker has a target that is away for an hour.
func TestBreaker(t *testing.T) {
	refused := failed(0)
	for name, c := range map[string]struct {
		order       Order
		concurrency int
		key         func(int) string
		outcome     Outcome
		first       time.Duration // how long it opens at first
	}{
		"keys":          {ByKey, 10, each, refused, 5 * time.Second},
		"one at a time": {ByKey, 1, each, refused, 5 * time.Second},
		"partition":     {ByPartition, 1, each, refused, 5 * time.Second},
		"one key":       {ByKey, 10, all("a"), refused, 5 * time.Second},
		"retry-after": {Unordered, 10, each, Outcome{Verdict: Failed, Status: 429, RetryAfter: 30 * time.Second},
			30 * time.Second},
		"long retry-after": {Unordered, 10, each, Outcome{Verdict: Failed, Status: 503, RetryAfter: time.Hour},
			5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			o.Order, o.MaxAttempts, o.MaxBackoff = c.order, 11, time.Second
			var r *rig
			o.Send = down(time.Hour, c.outcome)(&r)
			run(t, o, unlimited(c.concurrency), func(rig *rig) {
				r = rig
				r.commit()
				r.feed(0, from(0, 1000, c.key)...)
				r.after(time.Minute)
				attempts := r.sent()
				opened := attempts[9].at
				for _, a := range attempts[10:] {
					if wait := a.at - opened; wait > 0 {
						if wait < c.first || wait > c.first+time.Second {
							t.Errorf("open for %v, want %v", wait, c.first)
						}
						break
					}
				}
				if s := r.State(); s.Breaker != "open" || !s.Until.After(time.Now()) || s.UnderWay != 0 {
					t.Errorf("state %+v", s)
				}
				if s := r.State(); s.Held > 40 && c.order == ByKey && c.concurrency > 1 && c.key(0) != c.key(1) {
					t.Errorf("%d read while it is open", s.Held)
				}
				r.after(time.Hour - time.Second)
				if n := len(r.sent()); n > 50 {
					t.Errorf("%d attempts in an hour", n)
				}
				// The longest delay, the longest backoff, and what is sent then.
				r.after(time.Hour + 5*time.Minute + 2*time.Second)
				if s := r.State(); s.Breaker != "closed" {
					t.Errorf("state %+v", s)
				}
				r.after(time.Hour + 12*time.Minute)
				if s := r.State(); s.Held != 0 || s.Waiting != 0 {
					t.Errorf("state %+v", s)
				}
				if n := len(r.letters()); n != 0 {
					t.Errorf("%d are buried", n)
				}
			})
		})
	}
}

// TestOutageThatAnswers has a target that answers, and fails, for an hour, and nothing to try but what has failed before; or
// that knows nobody.
func TestOutageThatAnswers(t *testing.T) {
	for _, c := range []struct {
		order            Order
		messages, status int
	}{{ByPartition, 1000, 500}, {ByKey, 3, 401}, {ByKey, 3, 403}} {
		o := options()
		o.Order = c.order
		var r *rig
		o.Send = down(time.Hour, failed(c.status))(&r)
		run(t, o, unlimited(10), func(rig *rig) {
			r = rig
			r.commit()
			r.feed(0, from(0, c.messages, each)...)
			r.after(time.Hour + 6*time.Minute)
			if s := r.State(); s.Held != 0 || len(r.letters()) != 0 {
				t.Errorf("%d: state %+v, %d are buried", c.status, s, len(r.letters()))
			}
		})
	}
}

func TestOneProbeAtATime(t *testing.T) {
	o := options()
	var r *rig
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		if time.Since(r.start) < time.Second {
			return failed(0)
		}
		time.Sleep(time.Minute)
		return failed(500)
	}
	run(t, o, unlimited(10), func(rig *rig) {
		r = rig
		r.commit()
		r.feed(0, from(0, 1000, each)...)
		r.after(4 * time.Second)
		n := len(r.sent())
		r.after(6 * time.Second)
		r.expect(n + 1)
		if s := r.State(); s.Breaker != "half-open" || s.UnderWay != 1 {
			t.Errorf("state %+v", s)
		}
		r.after(66 * time.Second)
		r.expect(n + 1)
		if s := r.State(); s.Breaker != "open" || s.Until.Sub(r.start) != 75*time.Second {
			t.Errorf("state %+v, in %v", s, s.Until.Sub(r.start))
		}
		r.after(76 * time.Second)
		r.expect(n + 2)
	})
}

// TestPoison has messages fail for ever that are few, or as many as may be ready, or all that there are.
func TestPoison(t *testing.T) {
	for name, c := range map[string]struct {
		order    Order
		poison   func(offset int64) bool
		buried   int
		within   time.Duration // the others are done
		open     bool          // by then
		inTheEnd time.Duration
	}{
		"few":                 {ByKey, func(n int64) bool { return n%100 == 7 && n < 1000 }, 10, 15 * time.Second, false, 100 * time.Hour},
		"many":                {ByKey, func(n int64) bool { return n%20 == 7 }, 100, 30 * time.Second, false, 100 * time.Hour},
		"the first":           {ByKey, func(n int64) bool { return n < 50 }, 50, 6 * time.Hour, true, 300 * time.Hour},
		"the last":            {ByKey, func(n int64) bool { return n >= 1990 }, 10, time.Minute, true, time.Hour},
		"one, in a partition": {ByPartition, func(n int64) bool { return n == 500 }, 1, 4 * time.Hour, true, 4 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			o.Order = c.order
			var opened atomic.Bool
			var r *rig
			o.Send = func(ctx context.Context, a Attempt) Outcome {
				if c.poison(a.Offset) {
					return failed(500)
				}
				return ok(ctx, a)
			}
			o.Attempted = func(Attempt, Outcome) {
				if r.State().Breaker != "closed" {
					opened.Store(true)
				}
			}
			run(t, o, Limits{Rate: 100, KeyRate: math.Inf(1), Concurrency: 4}, func(rig *rig) {
				r = rig
				r.commit()
				r.feed(0, from(0, 2000, each)...)
				r.after(c.within)
				done := map[int64]bool{}
				for _, a := range r.sent() {
					done[a.Offset] = a.Offset < 1000
				}
				maps.DeleteFunc(done, func(_ int64, early bool) bool { return !early })
				if len(done) != 1000 {
					t.Errorf("%d of the first 1000 have been sent", len(done))
				}
				if opened.Load() != c.open {
					t.Errorf("opened: %v, want %v", opened.Load(), c.open)
				}
				r.after(c.inTheEnd)
				if n := len(r.letters()); n != c.buried {
					t.Errorf("%d are buried, want %d", n, c.buried)
				}
			})
		})
	}
}

// TestProbeWithoutResult has the probe's partition closed under it.
func TestProbeWithoutResult(t *testing.T) {
	o := options()
	var r *rig
	o.Send = func(ctx context.Context, a Attempt) Outcome {
		if time.Since(r.start) < time.Second {
			return failed(0)
		}
		if a.Partition == 0 {
			return hang(ctx, a)
		}
		return ok(ctx, a)
	}
	run(t, o, unlimited(10), func(rig *rig) {
		r = rig
		r.commit()
		p := r.feed(0, from(0, 100, each)...)
		r.after(6 * time.Second)
		n := len(r.sent())
		r.feed(1, from(0, 100, each)...)
		r.expect(n)
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		p.Close(ctx)
		r.expect(n + 100)
		if s := r.State(); s.Breaker != "closed" {
			t.Errorf("state %+v", s)
		}
	})
}
