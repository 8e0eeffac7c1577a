package uplink

import (
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// Waiter is a request that is answered when its record has got somewhere.
type Waiter interface {
	// Settled is called once. It reports whether somebody was there to be answered; it must not call the uplink, except
	// for Release.
	Settled(Outcome) (answered bool)
}

// Outcome is what became of a record that was waited for.
type Outcome struct {
	// Level is where the record is; 0 where that is not known in time or it is refused.
	Level record.Level
	// Refused is the class of a record that its topic does not take.
	Refused string
}

// waiting is a request that waits for a record of a batch.
type waiting struct {
	index    int // of the record
	waiter   Waiter
	route    *Route
	deadline time.Duration
}

// waitingBytes is more than a request that waits takes in memory beside its record.
const waitingBytes = 256

// wait has a request wait for the record that was added last.
func (b *batch) wait(w Waiter, route *Route, now time.Duration) {
	deadline := now + route.timeout
	b.waiting = append(b.waiting, waiting{b.Records() - 1, w, route, deadline})
	if b.deadline == 0 || deadline < b.deadline {
		b.deadline = deadline
	}
}

// expire tells requests that have waited too long. Their records stay.
func (u *Uplink) expire() {
	for _, l := range u.active {
		if l.pending != nil {
			l.pending.expire(u.now)
		}
		for _, b := range l.queue {
			b.expire(u.now)
		}
	}
	for _, s := range u.streams {
		for _, b := range s.inflight {
			b.expire(u.now)
		}
	}
}

func (b *batch) expire(now time.Duration) {
	if b.deadline == 0 || now < b.deadline {
		return
	}
	b.deadline = 0
	for i := range b.waiting {
		switch w := &b.waiting[i]; {
		case w.waiter == nil:
		case w.deadline <= now:
			w.waiter.Settled(Outcome{})
			w.waiter = nil
		case b.deadline == 0 || w.deadline < b.deadline:
			b.deadline = w.deadline
		}
	}
}
