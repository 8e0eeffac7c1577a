package flow

import (
	"maps"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// slack is how much later than it might have something may be sent without the rate becoming lower for it: timers and
// goroutines are late now and then.
const slack = 100 * time.Millisecond

// unit is what a request takes of a bucket: a bucket holds one request and what comes in within slack, which is a fraction.
const unit = 1000

// bucket is a token bucket.
type bucket struct{ limiter *rate.Limiter }

func newBucket(perSecond float64) bucket {
	limit, burst := inUnits(perSecond)
	return bucket{rate.NewLimiter(limit, burst)}
}

func (b bucket) set(now time.Time, perSecond float64) {
	limit, burst := inUnits(perSecond)
	if limit != b.limiter.Limit() {
		b.limiter.SetBurstAt(now, burst)
		b.limiter.SetLimitAt(now, limit)
	}
}

// inUnits returns a rate and a bucket's size. The size does not matter where there is no limit, and is small so that a
// limit holds as soon as there is one.
func inUnits(perSecond float64) (rate.Limit, int) {
	if perSecond*unit >= math.MaxInt32 {
		return rate.Inf, unit
	}
	return rate.Limit(perSecond * unit), unit + int(perSecond*unit*slack.Seconds())
}

// take takes a request's tokens if they are there.
func (b bucket) take(now time.Time) { b.limiter.AllowN(now, unit) }

// at returns when there is enough for n requests, which is now if there is already, and zero if that is never.
func (b bucket) at(now time.Time, n int) time.Time {
	limit := b.limiter.Limit()
	missing := float64(n*unit) - b.limiter.TokensAt(now)
	switch {
	case limit == 0:
		return time.Time{}
	case limit == rate.Inf || missing <= 0:
		return now
	}
	// A nanosecond more, so that rounding does not leave it short then.
	wait := min(math.Ceil(missing/float64(limit)*float64(time.Second))+1, float64(farAway))
	return now.Add(time.Duration(wait))
}

// farAway is later than anything that is waited for.
const farAway = 365 * 24 * time.Hour

// has returns for how many requests there is enough.
func (b bucket) has(now time.Time) int {
	switch b.limiter.Limit() {
	case 0:
		return 0
	case rate.Inf:
		return math.MaxInt
	}
	return int(b.limiter.TokensAt(now) / unit)
}

// full reports whether the bucket has forgotten all that was taken.
func (b bucket) full(now time.Time) bool {
	return b.limiter.TokensAt(now) >= float64(b.limiter.Burst())
}

// gate is a rate of some of the lanes, those of a key or a route; lanes that are too early wait in it.
type gate struct {
	bucket
	parked fifo[*lane]
	alarm  alarm
}

func (q *queue) newGate(perSecond float64) *gate {
	g := &gate{bucket: newBucket(perSecond)}
	g.alarm.ring = func(now time.Time) { q.unpark(g, now) }
	return g
}

// park has a lane wait in a gate.
func (q *queue) park(l *lane, g *gate, now time.Time) {
	g.parked.push(l)
	if g.alarm.index == 0 {
		q.setGateAlarm(g, g.at(now, 1))
	}
}

func (q *queue) setGateAlarm(g *gate, at time.Time) {
	if !at.IsZero() {
		q.alarms.set(&g.alarm, at)
	}
}

// unpark lets as many lanes go on as the gate has tokens for, which they take when they begin.
func (q *queue) unpark(g *gate, now time.Time) {
	n := min(g.has(now), g.parked.len())
	for range n {
		q.makeReady(g.parked.pop())
	}
	if g.parked.len() > 0 {
		q.setGateAlarm(g, g.at(now, n+1))
	}
}

// openGate lets all go on: they come back if they are still too early.
func (q *queue) openGate(g *gate) {
	q.alarms.stop(&g.alarm)
	for g.parked.len() > 0 {
		q.makeReady(g.parked.pop())
	}
}

// gateFor returns the first of the gates of a message that is closed, or nil, and the gates that it has.
func (q *queue) gateFor(p *partition, m *held, now time.Time) (closed *gate, gates [2]*gate) {
	if m.Record.Key != nil && !math.IsInf(q.limits.KeyRate, 1) {
		gates[0] = q.keyGate(p, string(m.Record.Key), now)
	}
	gates[1] = q.routes[m.Record.Route]
	for _, g := range gates {
		if g != nil && g.has(now) == 0 {
			return g, gates
		}
	}
	return nil, gates
}

// fewGates is how many gates of keys a partition may keep for nothing.
const fewGates = 1000

// keyGate returns the gate of a key. A partition has gates for those keys whose buckets are not full.
func (q *queue) keyGate(p *partition, key string, now time.Time) *gate {
	if g := p.gates[key]; g != nil {
		return g
	}
	if len(p.gates) >= max(p.sweepAt, fewGates) {
		maps.DeleteFunc(p.gates, func(_ string, g *gate) bool { return g.parked.len() == 0 && g.full(now) })
		p.sweepAt = 2 * len(p.gates)
	}
	g := q.newGate(q.limits.KeyRate)
	p.gates[key] = g
	return g
}
