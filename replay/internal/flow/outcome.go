package flow

import (
	"fmt"
	"net/http"
	"time"
)

// begin makes a lane's first message an attempt.
func (q *queue) begin(l *lane, gates [2]*gate, now time.Time) *job {
	m := l.messages.front()
	m.tries++
	q.running++
	l.partition.busy++
	q.bucket.take(now)
	for _, g := range gates {
		if g != nil {
			g.take(now)
		}
	}
	q.pace.begun(now)
	j := &job{lane: l, message: m, pass: q.breaker.begin(),
		attempt: Attempt{Message: m.Message, Number: m.tries, Age: q.age(m, now)}}
	if q.limiter != nil {
		j.permit, _ = q.limiter.TryAcquirePermit()
	}
	return j
}

// ended says what became of an attempt. Random is from 0 to 1.
func (q *queue) ended(j *job, o Outcome, now time.Time, random float64) {
	q.running--
	l, m := j.lane, j.message
	q.breaker.end(j.pass, o, q.own(j, o), now)
	q.adapt(j, o, now)
	q.resize(l.partition, len(o.Answer)-len(m.last.Answer))
	m.size += len(o.Answer) - len(m.last.Answer)
	m.last = o
	switch o.Verdict {
	case Delivered:
		q.taken++
		q.done(l)
	case Rejected:
		q.taken++
		q.bury(l, ClassRejected, o.Reason)
	case Unsendable:
		q.bury(l, ClassMalformed, o.Reason)
	case Failed:
		if !m.failing {
			m.failing = true
			q.failing++
		}
		m.takenBefore = q.taken
		switch {
		case !j.pass.probe:
			m.failed++
		case answered(o):
			m.probes++
		}
		if max(m.failed, m.probes) >= q.options.MaxAttempts {
			q.bury(l, ClassExhausted, fmt.Sprintf("%d attempts have failed, the last one because: %s", m.tries, o.Reason))
			break
		}
		wait := Backoff(max(m.failed, 1), q.options.InitialBackoff, q.options.MaxBackoff, random)
		q.again(l, now.Add(max(wait, min(o.RetryAfter, q.options.MaxDelay))))
	case Canceled:
		m.tries--
		q.again(l, now.Add(q.options.InitialBackoff))
	default:
		panic("BUG: an attempt without a verdict")
	}
	q.settle(l.partition)
	if j.pass.probe {
		q.releaseAll()
	}
}

// own reports whether an attempt's failure may well be the message's own fault: it has failed before, and the target has
// taken others since, or answers the circuit breaker's probe where there are no others to try. Otherwise a few messages that
// always fail would make up most of the attempts, retries that they are, and the circuit breaker would stop everything else
// for them.
func (q *queue) own(j *job, o Outcome) bool {
	return j.message.failing && (q.taken > j.message.takenBefore || j.pass.probe && answered(o) && q.held == q.failing)
}

// answered reports whether a target was there that did not say itself that it is overloaded or away, or does not know who
// asks, which is no message's fault where the circuit breaker has opened. If such answers are all that ever comes of a message
// while that is open, and there is no other to try, it is the message's fault, and would stop everything behind it for ever.
func answered(o Outcome) bool {
	switch o.Status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

func (q *queue) adapt(j *job, o Outcome, now time.Time) {
	if j.permit != nil {
		if o.Status != 0 {
			j.permit.Record()
		} else {
			j.permit.Drop() // cut off at either side: the time that it took says nothing
		}
	}
	if q.limits.Adaptive && (o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable) {
		q.pace.overloaded(now, q.shared(q.limits.Rate))
		q.bucket.set(now, q.rate(now))
	}
}

// again has a lane wait for another attempt.
func (q *queue) again(l *lane, at time.Time) {
	if l.partition.closing {
		q.forget(l)
		return
	}
	l.partition.busy--
	if l.retry.ring == nil {
		l.retry.ring = func(time.Time) {
			delete(l.partition.waiting, l)
			q.makeReady(l)
		}
	}
	l.partition.waiting[l] = struct{}{}
	q.alarms.set(&l.retry, at)
}

// bury gives up a lane's first message after an attempt.
func (q *queue) bury(l *lane, class, reason string) {
	p, m := l.partition, l.messages.front()
	if p.canceled {
		q.forget(l)
		return
	}
	p.burying++
	q.burying++
	q.graves.push(&job{lane: l, message: m, letter: &Letter{Class: class, Reason: reason, Attempts: m.tries, Last: m.last}})
}

// buried says that a burial has ended, and whether the dead-letter topic has the message: if not, it has been cut off.
func (q *queue) buried(j *job, ok bool) {
	p := j.lane.partition
	p.burying--
	q.burying--
	if ok {
		q.done(j.lane)
	} else {
		q.forget(j.lane)
	}
	q.settle(p)
}

// done takes a lane's first message out, and has the next one wait for its turn.
func (q *queue) done(l *lane) {
	p, m := l.partition, l.messages.pop()
	p.tracker.Done(m.Offset)
	q.count(p)
	p.busy--
	q.letGo(p, m)
	if l.messages.len() > 0 {
		q.makeReady(l)
	} else if l.mapped {
		delete(p.lanes, l.key)
	}
}

// forget drops a lane that has a job.
func (q *queue) forget(l *lane) {
	l.partition.busy--
	q.drop(l)
}

// drop lets go of a lane's messages.
func (q *queue) drop(l *lane) {
	for l.messages.len() > 0 {
		q.letGo(l.partition, l.messages.pop())
	}
	if l.mapped {
		delete(l.partition.lanes, l.key)
	}
}

func (q *queue) letGo(p *partition, m *held) {
	p.held--
	q.held--
	if m.failing {
		q.failing--
	}
	q.resize(p, -m.size)
}

// count brings uncommitted up to date with a partition's.
func (q *queue) count(p *partition) {
	if p.lost {
		return
	}
	q.uncommitted += p.tracker.Uncommitted() - p.counted
	p.counted = p.tracker.Uncommitted()
	if q.uncommitted >= q.limits.Concurrency {
		signal(q.commitWanted)
	}
}

// settle tells those who wait for a partition what has changed.
func (q *queue) settle(p *partition) {
	if p.closing && p.busy == 0 && !p.settled {
		p.settled = true
		close(p.idle)
	}
	q.release(p)
}

// release has an Offer look again whether there is room.
func (q *queue) release(p *partition) {
	if p.offering && (p.closing || !q.full(p) || p.hopeless()) {
		p.offering = false
		signal(p.room)
	}
}

func (q *queue) releaseAll() {
	for _, p := range q.partitions {
		q.release(p)
	}
}
