package flow

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// inWindows checks that any 10 s from the first to the last of some times have what the rate says, within 2 %, or one.
func inWindows(t *testing.T, times []time.Duration, rate float64) {
	t.Helper()
	want := rate * 10
	tolerance := max(want*0.02, 1)
	j := 0
	for i, begin := range times {
		for j < len(times) && times[j] < begin+10*time.Second {
			j++
		}
		if j == len(times) {
			break
		}
		if got := float64(j - i); math.Abs(got-want) > tolerance {
			t.Fatalf("rate %v: %v in the 10 s from %v on, want %v", rate, got, begin, want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, rate := range []float64{1, 3, 10, 19, 50, 333, 2000} {
		l := unlimited(100)
		l.Rate = rate
		run(t, options(), l, func(r *rig) {
			r.commit()
			r.feed(0, from(0, int(rate*60), each)...)
			r.after(30 * time.Second)
			var times []time.Duration
			for _, a := range r.sent() {
				times = append(times, a.at)
			}
			if want := rate * 30; math.Abs(float64(len(times))-want) > max(want*0.02, 1.01) {
				t.Errorf("rate %v: %d in 30 s", rate, len(times))
			}
			inWindows(t, times, rate)
		})
	}
}

// TestRateOfALateEngine asks for what is next later than it should, as timers do.
func TestRateOfALateEngine(t *testing.T) {
	for _, rate := range []float64{1, 3, 10, 19, 50, 333, 2000} {
		now := time.Now()
		begin := now
		l := unlimited(1000)
		l.Rate = rate
		q := newQueue(options(), l, now)
		p, _ := q.open("leads", 0, 0, "")
		var times []time.Duration
		offset := 0
		for now.Sub(begin) < time.Minute {
			for !q.full(p) {
				q.add(p, from(offset, 1, all(""))[0])
				offset++
			}
			j, at := q.next(now)
			if j != nil {
				times = append(times, now.Sub(begin))
				q.ended(j, Outcome{Verdict: Delivered}, now, 0)
				q.committed(p, p.tracker.State())
				continue
			}
			now = at.Add(time.Duration(rand.Int64N(int64(30 * time.Millisecond))))
		}
		inWindows(t, times, rate)
	}
}

func TestRateChanges(t *testing.T) {
	rated := func(rate float64) Limits {
		l := unlimited(10)
		l.Rate = rate
		return l
	}
	run(t, options(), rated(0), func(r *rig) {
		r.commit()
		r.feed(0, from(0, 100_000, each)...)
		r.after(time.Hour)
		r.expect(0)
		last := 0
		step := func(rate float64, d time.Duration, least, most int) {
			t.Helper()
			r.SetLimits(rated(rate))
			time.Sleep(d)
			n := len(r.sent())
			if got := n - last; got < least || got > most {
				t.Errorf("rate %v: %d in %v, want %d to %d", rate, got, d, least, most)
			}
			last = n
		}
		step(10, 10*time.Second, 99, 102)
		step(1000, 10*time.Second, 9_900, 10_100)
		step(1, 10*time.Second, 9, 12)
		step(0, time.Hour, 0, 0)
		step(100, time.Second, 95, 106)
		r.SetShare(0.5)
		step(100, 10*time.Second, 495, 510)
		r.SetShare(1)
		step(math.Inf(1), 0, 80_000, 100_000)
	})
}

func TestKeyAndRouteRates(t *testing.T) {
	for _, order := range []Order{ByKey, Unordered} {
		o := options()
		o.Order = order
		l := unlimited(10)
		l.Rate, l.KeyRate, l.RouteRates = 200, 4, map[string]float64{"slow": 20}
		run(t, o, l, func(r *rig) {
			r.commit()
			r.SetShare(0.5)
			slow := from(0, 2000, each)
			for _, m := range slow {
				m.Record.Route = "slow"
			}
			r.feed(0, slow...)
			r.feed(1, from(0, 1000, all("hot"))...)
			r.feed(2, from(0, 10_000, all(""))...)
			r.after(20 * time.Second)
			var slows []time.Duration
			rest := 0
			for _, a := range r.sent() {
				switch {
				case a.Record.Route == "slow":
					slows = append(slows, a.at)
				case !keyed(a.Attempt, "hot"):
					rest++
				}
			}
			inWindows(t, slows, 10)
			inWindows(t, r.times("hot"), 4)
			if all := len(r.sent()); all < 1980 || all > 2020 {
				t.Errorf("%d are sent, want 2000", all)
			}
			if rest < 1600 {
				t.Errorf("%d of the others are sent", rest)
			}
			r.SetLimits(unlimited(10))
			r.after(20*time.Second + time.Millisecond)
			r.expect(13_000)
		})
	}
}

// TestGatesOfKeysAreForgotten has more keys than may be remembered for nothing.
func TestGatesOfKeysAreForgotten(t *testing.T) {
	l := unlimited(10)
	l.Rate, l.KeyRate = 1000, 100
	run(t, options(), l, func(r *rig) {
		r.commit()
		p := r.feed(0, from(0, 20_000, each)...)
		r.after(30 * time.Second)
		r.expect(20_000)
		if n := len(p.gates); n > 2*fewGates {
			t.Errorf("%d gates", n)
		}
	})
}

func TestPace(t *testing.T) {
	now := time.Now()
	for base, back := range map[float64]time.Duration{100: 7 * time.Second, math.Inf(1): 27 * time.Second} {
		var p pace
		for range 300 { // 100 a second
			now = now.Add(10 * time.Millisecond)
			p.begun(now)
		}
		if got := p.rate(now, base); got != base {
			t.Errorf("rate %v before anything, want %v", got, base)
		}
		p.overloaded(now, base)
		p.overloaded(now, base)
		if got := p.rate(now, base); math.Abs(got-70) > 2 {
			t.Errorf("rate %v after one cut, want 70", got)
		}
		for after, want := range map[time.Duration]float64{3 * time.Second: 96, 6 * time.Second: 100, 9 * time.Second: 104, 18 * time.Second: 340} {
			if got := p.rate(now.Add(after), 1000); math.Abs(got-want) > 4 {
				t.Errorf("rate %v after %v, want %v", got, after, want)
			}
		}
		if got := p.rate(now, 10); got != 10 {
			t.Errorf("rate %v with another base, want 10", got)
		}
		p.overloaded(now, base)
		if got := p.rate(now.Add(back), base); got != base {
			t.Errorf("rate %v after %v, want %v", got, back, base)
		}
		for range 100 {
			now = now.Add(2 * time.Second)
			p.overloaded(now, base)
		}
		if got := p.rate(now, base); got < slowest || got > 2*slowest {
			t.Errorf("rate %v after 100 cuts", got)
		}
	}
}

// TestAdaptsToOverload has a target that answers 429 to what is more than 50 a second.
func TestAdaptsToOverload(t *testing.T) {
	o := options()
	o.Failures, o.Of, o.MaxAttempts = 1000, 1000, 1000
	var second time.Time
	n := 0
	var refused atomic.Int64
	o.Send = func(context.Context, Attempt) Outcome {
		if now := time.Now(); now.Sub(second) >= time.Second {
			second, n = now, 0
		}
		if n++; n > 50 {
			refused.Add(1)
			return failed(429)
		}
		return Outcome{Verdict: Delivered, Status: 200}
	}
	l := unlimited(1)
	l.Adaptive, l.Rate = true, 1000
	run(t, o, l, func(r *rig) {
		r.commit()
		r.feed(0, from(0, 50_000, each)...)
		r.after(20 * time.Second)
		before, refusedBefore := len(r.sent()), int(refused.Load())
		r.after(120 * time.Second)
		refusals := int(refused.Load()) - refusedBefore
		delivered := len(r.sent()) - before - refusals
		if delivered < 3000 || refusals > delivered {
			t.Errorf("%d delivered and %d refused in 100 s by a target of 50 a second", delivered, refusals)
		}
		if s := r.State(); s.Rate > 200 {
			t.Errorf("state %+v", s)
		}
		l.Adaptive = false
		r.SetLimits(l)
		if s := r.State(); s.Rate != 1000 {
			t.Errorf("state %+v", s)
		}
	})
}

// TestAdaptsToLatency has a target that does one request after another, however many come at once.
func TestAdaptsToLatency(t *testing.T) {
	o := options()
	var line chan struct{}
	var serial atomic.Bool
	o.Send = func(context.Context, Attempt) Outcome {
		if !serial.Load() {
			time.Sleep(50 * time.Millisecond)
			return Outcome{Verdict: Delivered, Status: 200}
		}
		line <- struct{}{}
		time.Sleep(20 * time.Millisecond)
		<-line
		return Outcome{Verdict: Delivered, Status: 200}
	}
	l := unlimited(50)
	l.Adaptive = true
	run(t, o, l, func(r *rig) {
		line = make(chan struct{}, 1)
		r.commit()
		r.feed(0, from(0, 100_000, each)...)
		r.after(time.Second)
		if s := r.State(); s.UnderWay > 2*fewFirst {
			t.Errorf("a target that is not known: %+v", s)
		}
		r.after(60 * time.Second)
		if s := r.State(); s.Concurrency < 40 {
			t.Errorf("a target that is well: %+v", s)
		}
		serial.Store(true)
		lowest := 50
		for i := range 150 {
			r.after(time.Duration(61+i) * time.Second)
			lowest = min(lowest, r.State().Concurrency)
		}
		if lowest > 25 {
			t.Errorf("a target that is slow: concurrency %d", lowest)
		}
	})
}

// Where the lease is over, nothing begins, and what is under way goes on.
func TestLease(t *testing.T) {
	run(t, options(), unlimited(10), func(r *rig) {
		r.commit()
		r.Lease(r.start.Add(5 * time.Second))
		r.after(6 * time.Second)
		r.feed(0, from(0, 3, each)...)
		r.after(time.Hour)
		r.expect(0)
		r.Lease(time.Now().Add(time.Second))
		r.expect(3)
	})
}
