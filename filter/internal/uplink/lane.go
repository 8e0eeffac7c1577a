package uplink

import (
	"cmp"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// laneKey is what the records of a batch have in common.
type laneKey struct {
	topic  string
	direct bool // only Kafka settles them
}

// lane holds the records of one topic and class that are not on a stream.
type lane struct {
	laneKey
	pending  *batch // the batch that grows; nil is an empty one
	aged     bool   // pending has seen a tick
	queue    []*batch
	inflight int  // batches on streams
	held     int  // bytes of all that, and of what is on streams
	active   bool // among Uplink.active
}

// batch is a batch of records of one lane, and the requests that wait for it.
type batch struct {
	record.Batch
	lane     *lane
	sequence uint64 // 0: not sent yet
	settled  bool

	waiting  []waiting
	deadline time.Duration // of the first that waits; 0: none does
}

// Records and Len let a nil batch stand for an empty one.
func (b *batch) Records() int {
	if b == nil {
		return 0
	}
	return b.Batch.Records()
}

// Len returns the bytes of the batch on the wire.
func (b *batch) Len() int {
	if b == nil {
		return 0
	}
	return b.Batch.Len()
}

// cost returns what the batch counts for.
func (b *batch) cost() int { return b.Len() + len(b.waiting)*waitingBytes }

// add appends a record to the pending batch, and returns by how much that has grown. fresh gives memory.
func (l *lane) add(fresh func() record.Batch, r *record.Record, body [][]byte) int {
	if l.pending == nil {
		l.pending = &batch{Batch: fresh(), lane: l}
	}
	before := l.pending.Len()
	l.pending.Add(r, body)
	return l.pending.Len() - before
}

// seal ends the pending batch.
func (l *lane) seal() {
	l.queue = append(l.queue, l.pending)
	l.pending, l.aged = nil, false
}

// next returns the batch whose turn it is; nil where none may go yet.
func (l *lane) next(maxBytes int) *batch {
	switch {
	case len(l.queue) > 0:
		return l.queue[0]
	case l.pending.Records() == 0, l.inflight > 0 && l.pending.Len() < maxBytes:
		return nil
	}
	return l.pending
}

// take removes what next has returned.
func (l *lane) take(b *batch) {
	if b == l.pending {
		l.pending, l.aged = nil, false
		return
	}
	l.queue[0] = nil
	l.queue = l.queue[1:]
}

// requeue puts a batch back that a stream has not delivered.
func (l *lane) requeue(b *batch) {
	l.inflight--
	at, _ := slices.BinarySearchFunc(l.queue, b, func(other, b *batch) int {
		if other.sequence == 0 {
			return 1
		}
		return cmp.Compare(other.sequence, b.sequence)
	})
	l.queue = slices.Insert(l.queue, at, b)
}
