package flow

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// maxBurying is how many messages may be on their way to the dead-letter topic before no more are read. Partitions have equal
// shares of it, so that one does not stop the others. Each takes a goroutine or two, and a crash would send each again.
const maxBurying = 1000

// queue is the engine without goroutines and clock: it holds the messages and says what to do next.
//
//	           ┌────────────── again: its time has come ◀─ waiting (alarm) ◀── failed ─┐
//	           ▼                                                                       │
//	add ─▶ ready ──── next: its turn, and all limits allow it ────▶ under way ─ ended ─┼─▶ done ─▶ the lane's next is ready
//	        │  ▲                                                                       │       ▲
//	        ▼  └───── a token is there ◀── parked (gate of its key or route)           ▼       │
//	      doomed ─────────── unreadable or too old ──────────────────────────────▶ burying ────┘
//
// What moves is a lane: the messages that are sent one after another. Only its first is looked at, so whatever that waits
// for holds up nothing else. Lanes take turns within their partition, and partitions take turns.
//
// Invariants:
//   - a lane with messages is in exactly one place: its partition's ready or doomed, a gate's parked, the alarms, graves,
//     or a job that next has given out;
//   - running, what is done and uncommitted, and up to concurrency of what is being buried are together never made more
//     than twice the concurrency by what next gives out.
//
// It is not safe for concurrent use.
type queue struct {
	options Options
	limits  Limits
	share   float64
	lease   time.Time // zero: for ever

	partitions []*partition // those that are open or closing
	ring       fifo[*partition]
	graves     fifo[*job] // burials of messages that have been attempted, to begin
	doomed     int        // lanes in partitions' doomed

	alarms  alarms
	bucket  bucket
	routes  map[string]*gate
	breaker *breaker
	pace    pace
	limiter adaptivelimiter.AdaptiveLimiter[any] // nil unless adaptive

	running, burying, uncommitted int
	held, bytes                   int
	failing                       int // those of held that have failed
	taken                         int // messages that were delivered or rejected so far

	commitWanted chan struct{}
}

// lane is messages that are sent one after another, the first of which is looked at.
type lane struct {
	partition *partition
	key       string
	mapped    bool // in partition.lanes
	messages  fifo[*held]
	retry     alarm
}

// held is a message, and what has become of it so far.
type held struct {
	*Message
	size   int
	tries  int // attempts
	failed int // those of them that count against MaxAttempts
	probes int // those of them that were the circuit breaker's, and that the target was there to answer
	last   Outcome

	failing     bool // it has failed
	takenBefore int  // queue.taken when it failed last
}

// job is something to do for a lane's first message: an attempt, or a burial if there is a letter.
type job struct {
	lane    *lane
	message *held
	attempt Attempt
	letter  *Letter

	pass   pass
	permit adaptivelimiter.Permit
}

func newQueue(o Options, l Limits, now time.Time) *queue {
	q := &queue{
		options: o, share: 1, breaker: newBreaker(o), bucket: newBucket(0),
		commitWanted: make(chan struct{}, 1),
	}
	q.setLimits(l, now)
	return q
}

func (q *queue) setLimits(l Limits, now time.Time) {
	l.RouteRates = maps.Clone(l.RouteRates)
	l.Concurrency = max(l.Concurrency, 1)
	switch {
	case !l.Adaptive:
		q.limiter, q.pace = nil, pace{}
	case q.limiter == nil || l.Concurrency != q.limits.Concurrency:
		q.limiter = newLimiter(l.Concurrency)
	}
	q.limits = l
	q.setRates(now)
}

func (q *queue) setShare(share float64, now time.Time) {
	q.share = share
	q.setRates(now)
}

func (q *queue) setRates(now time.Time) {
	q.bucket.set(now, q.rate(now))
	old := q.routes
	q.routes = make(map[string]*gate, len(q.limits.RouteRates))
	for route, rate := range q.limits.RouteRates {
		g := old[route]
		if g == nil {
			g = q.newGate(0)
		}
		g.set(now, q.shared(rate))
		q.routes[route] = g
	}
	for _, g := range old {
		q.openGate(g)
	}
	for _, p := range q.partitions {
		for _, g := range p.gates {
			g.set(now, q.limits.KeyRate)
			q.openGate(g)
		}
		if math.IsInf(q.limits.KeyRate, 1) {
			clear(p.gates)
		}
	}
	q.releaseAll()
}

// shared is this member's share of a rate.
func (q *queue) shared(rate float64) float64 {
	if math.IsInf(rate, 1) {
		return rate
	}
	return rate * q.share
}

// rate is what may be sent a second.
func (q *queue) rate(now time.Time) float64 {
	return q.pace.rate(now, q.shared(q.limits.Rate))
}

// exposed is what a crash would repeat. What is being buried counts among it, but no more than leaves room for others:
// the dead-letter topic may be away for long.
func (q *queue) exposed() int {
	return q.running + q.uncommitted + min(q.burying, q.limits.Concurrency)
}

// full reports whether a partition should read no more for now.
func (q *queue) full(p *partition) bool {
	concurrency := q.limits.Concurrency
	return p.held > 0 && p.bytes >= q.options.MaxBufferBytes/max(len(q.partitions), 1) ||
		p.ready.len() >= concurrency && !q.needsProbe(p) ||
		q.options.Order == ByPartition && p.held > concurrency ||
		p.doomed.len()+p.burying >= q.maxBurying() ||
		p.held > 0 && p.tracker.Overflows(p.busy+1)
}

// maxBurying is a partition's share of it.
func (q *queue) maxBurying() int { return max(1, maxBurying/max(1, len(q.partitions))) }

// needsProbe reports whether another message should be read though enough are ready: those that are may be what keeps the
// circuit breaker open, as each of them has failed before.
func (q *queue) needsProbe(p *partition) bool {
	return !q.breaker.circuit.IsClosed() &&
		!slices.ContainsFunc(p.ready.all(), func(l *lane) bool { return l.messages.front().tries == 0 })
}

// add takes a partition's next message.
func (q *queue) add(p *partition, m *Message) {
	if !p.tracker.Read(m.Offset) {
		return
	}
	h := &held{Message: m, size: m.Size()}
	p.held++
	q.held++
	q.resize(p, h.size)
	var key string
	switch {
	case q.options.Order == ByKey && m.Record.Key != nil:
		key = string(m.Record.Key)
	case q.options.Order != ByPartition:
		l := &lane{partition: p}
		l.messages.push(h)
		q.makeReady(l)
		return
	}
	l := p.lanes[key]
	if l == nil {
		l = &lane{partition: p, key: key, mapped: true}
		p.lanes[key] = l
	}
	l.messages.push(h)
	if l.messages.len() == 1 {
		q.makeReady(l)
	}
}

func (q *queue) resize(p *partition, bytes int) {
	p.bytes += bytes
	q.bytes += bytes
}

// makeReady has a lane's first message wait for its turn.
func (q *queue) makeReady(l *lane) {
	p := l.partition
	if reason := l.messages.front().Unreadable; reason != "" {
		q.doom(l, Letter{Class: ClassMalformed, Reason: reason})
		return
	}
	p.ready.push(l)
	if !p.inRing {
		p.inRing = true
		q.ring.push(p)
	}
}

// doom gives a lane's first message up without an attempt.
func (q *queue) doom(l *lane, letter Letter) {
	m := l.messages.front()
	letter.Attempts, letter.Last = m.tries, m.last
	l.partition.doomed.push(&job{lane: l, message: m, letter: &letter})
	q.doomed++
}

// next returns what to do now. If that is nothing, it returns when to ask again if nothing else happens before; zero:
// never.
func (q *queue) next(now time.Time) (*job, time.Time) {
	q.alarms.ring(now)
	for {
		if j := q.nextBurial(); j != nil {
			return j, now
		}
		probe, at := q.admits(now)
		if at.After(now) || at.IsZero() {
			return nil, earliest(at, q.alarms.next())
		}
		l := q.pick(probe)
		if l == nil {
			return nil, q.alarms.next()
		}
		m := l.messages.front()
		if age := q.age(m, now); q.options.MaxAge > 0 && age > q.options.MaxAge {
			q.doom(l, Letter{Class: ClassExpired, Reason: fmt.Sprintf("the request is %v old, and max_age is %v",
				age.Round(time.Second), q.options.MaxAge)})
		} else if closed, gates := q.gateFor(l.partition, m, now); closed != nil {
			q.park(l, closed, now)
		} else {
			return q.begin(l, gates, now), now
		}
		q.release(l.partition)
	}
}

func (q *queue) nextBurial() *job {
	if q.graves.len() > 0 {
		return q.graves.pop()
	}
	if q.doomed == 0 || q.exposed() >= 2*q.limits.Concurrency {
		return nil
	}
	for _, p := range q.partitions {
		if p.doomed.len() == 0 || p.burying >= q.maxBurying() {
			continue
		}
		i := slices.IndexFunc(p.doomed.all(), func(j *job) bool { return p.mayBegin(j.message) })
		if i < 0 {
			continue
		}
		j := p.doomed.take(i)
		q.doomed--
		p.busy++
		p.burying++
		q.burying++
		return j
	}
	return nil
}

// admits returns when an attempt may begin, as far as that is not a matter of which, zero if something else must happen
// before; and whether it is the circuit breaker's probe.
func (q *queue) admits(now time.Time) (probe bool, at time.Time) {
	if !q.lease.IsZero() && now.After(q.lease) ||
		q.ring.len() == 0 || q.running >= q.limits.Concurrency || q.exposed() >= 2*q.limits.Concurrency ||
		q.limiter != nil && !q.limiter.CanAcquirePermit() {
		return false, time.Time{}
	}
	ok, probe, at := q.breaker.admits(now)
	if !ok {
		return false, at
	}
	if q.pace.slowed {
		q.bucket.set(now, q.rate(now))
	}
	return probe, q.bucket.at(now, 1)
}

// pick takes the lane out whose turn it is. For a probe that is one whose message has been tried least, so that a message
// that always fails does not keep the circuit breaker open.
func (q *queue) pick(probe bool) *lane {
	if probe {
		return q.pickProbe()
	}
	for range q.ring.len() {
		p := q.ring.pop()
		i := slices.IndexFunc(p.ready.all(), p.mayBeginLane)
		var l *lane
		if i >= 0 {
			l = p.ready.take(i)
		}
		if p.inRing = p.ready.len() > 0; p.inRing {
			q.ring.push(p)
		}
		if l != nil {
			return l
		}
	}
	return nil
}

func (q *queue) pickProbe() *lane {
	var from *partition
	var best int
	for _, p := range q.ring.all() {
		for i, l := range p.ready.all() {
			if p.mayBeginLane(l) && (from == nil || l.messages.front().tries < from.ready.all()[best].messages.front().tries) {
				from, best = p, i
			}
		}
	}
	if from == nil {
		return nil
	}
	return from.ready.take(best)
}

// age is how old a message's request is.
func (q *queue) age(m *held, now time.Time) time.Duration {
	received := m.Record.Received
	if received.IsZero() {
		received = m.Timestamp
	}
	if received.Before(q.options.AgeSince) {
		received = q.options.AgeSince
	}
	return max(now.Sub(received), 0)
}

// earliest returns the earlier of two times, of which one that is zero never comes.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
