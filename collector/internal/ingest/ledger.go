package ingest

import (
	"slices"
	"sync"
	"time"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

const (
	// keepUplink is how long an uplink is remembered after its last stream: reconnecting takes seconds.
	keepUplink = 10 * time.Minute
	// keepBatches bounds the settled batches that are remembered of an uplink while an older one is not settled, and
	// the refusals that are remembered with them; those that were settled first are forgotten first. A repeat comes when
	// a stream took the acknowledgement with it, so it is one of the last round trips' batches: less than a thousand,
	// since an uplink gathers while it waits. A batch takes about 100 bytes here.
	keepBatches = 8192
)

// ledger remembers the batches of uplinks, so that one that comes again is stored and counted once. It is safe for
// concurrent use.
type ledger struct {
	now func() time.Time

	mu      sync.Mutex
	uplinks map[record.UplinkID]*uplink
	swept   time.Time
}

// uplink is one incarnation. Sequence numbers mean something only within it. A batch is in progress from when it is
// first received, whatever becomes of the streams that brought it; then it is settled; then forgotten.
type uplink struct {
	// Under ledger.mu:
	streams int
	left    time.Time // when the last stream ended

	mu         sync.Mutex
	inProgress map[uint64][]waiter
	settled    map[uint64]outcome
	order      []uint64 // in which those in settled were; some may be forgotten, but not the first
	refusals   int      // in settled
	below      uint64   // batches with lower numbers have been acknowledged to the uplink, and are forgotten
}

// outcome is what became of a batch.
type outcome struct {
	refused []produce.Refusal
	direct  bool  // Kafka has it, though it was to be spooled
	err     error // it is not stored
}

// waiter is where a copy of a batch came from.
type waiter struct {
	told func(outcome) // gets the outcome
	gone func() bool   // says that nobody wants it any more; called under the uplink's lock
}

func newLedger(now func() time.Time) *ledger {
	return &ledger{now: now, uplinks: map[record.UplinkID]*uplink{}}
}

// open notes a stream of an uplink.
func (l *ledger) open(id record.UplinkID) *uplink {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	u := l.get(id)
	u.streams++
	return u
}

// close notes the end of a stream.
func (l *ledger) close(u *uplink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u.streams--
	u.left = l.now()
}

// restore notes a batch that was stored before the process began.
func (l *ledger) restore(id record.UplinkID, sequence uint64) {
	l.mu.Lock()
	u := l.get(id)
	u.left = l.now()
	l.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remember(sequence, outcome{})
}

func (l *ledger) get(id record.UplinkID) *uplink {
	u := l.uplinks[id]
	if u == nil {
		u = &uplink{inProgress: map[uint64][]waiter{}, settled: map[uint64]outcome{}}
		l.uplinks[id] = u
	}
	return u
}

// sweep forgets uplinks that will not come again. One with a batch in progress stays: that may be settled, and asked
// for, much later.
func (l *ledger) sweep() {
	now := l.now()
	if now.Sub(l.swept) <= keepUplink {
		return
	}
	l.swept = now
	for id, u := range l.uplinks {
		if u.streams == 0 && now.Sub(u.left) > keepUplink && !u.busy() {
			delete(l.uplinks, id)
		}
	}
}

func (u *uplink) busy() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.inProgress) > 0
}

// receive notes a batch, of which w is told the outcome: at once if it is settled. It returns true for a batch that is
// new: the caller then has it stored, and calls settle.
func (u *uplink) receive(h record.Head, w waiter) bool {
	u.mu.Lock()
	u.forgetBelow(h.SettledBelow)
	o, settled := u.settled[h.Sequence]
	// A copy of what was acknowledged elsewhere may have been under way for long, on a stream that was given up.
	if settled || h.Sequence < u.below {
		u.mu.Unlock()
		w.told(o)
		return false
	}
	defer u.mu.Unlock()
	waiting, again := u.inProgress[h.Sequence]
	waiting = slices.DeleteFunc(waiting, func(w waiter) bool { return w.gone() }) // streams may come and go for hours
	u.inProgress[h.Sequence] = append(waiting, w)
	return !again
}

// settle ends the progress of a batch and tells those who wait. A batch that was not stored is as one that never came.
func (u *uplink) settle(sequence uint64, o outcome) {
	u.mu.Lock()
	waiting := u.inProgress[sequence]
	delete(u.inProgress, sequence)
	if o.err == nil {
		u.remember(sequence, o)
	}
	u.mu.Unlock()
	for _, w := range waiting {
		w.told(o)
	}
}

// remember notes a settled batch. One with very many refusals is not remembered, as their reasons take memory that no
// budget knows of: it would be produced again.
func (u *uplink) remember(sequence uint64, o outcome) {
	if sequence < u.below || u.refusals+len(o.refused) > keepBatches {
		return
	}
	u.settled[sequence] = o
	u.refusals += len(o.refused)
	u.order = append(u.order, sequence)
	if len(u.order) > keepBatches {
		u.forget(u.order[0])
		u.tidy()
	}
}

// forgetBelow forgets the settled batches below a number.
func (u *uplink) forgetBelow(below uint64) {
	if below <= u.below {
		return
	}
	if below-u.below < uint64(len(u.settled)) {
		for sequence := u.below; sequence < below; sequence++ {
			u.forget(sequence)
		}
	} else {
		for sequence := range u.settled {
			if sequence < below {
				u.forget(sequence)
			}
		}
	}
	u.below = below
	u.tidy()
}

func (u *uplink) forget(sequence uint64) {
	u.refusals -= len(u.settled[sequence].refused)
	delete(u.settled, sequence)
}

// tidy restores what order promises.
func (u *uplink) tidy() {
	for len(u.order) > 0 {
		if _, ok := u.settled[u.order[0]]; ok {
			return
		}
		u.order = u.order[1:]
	}
}
