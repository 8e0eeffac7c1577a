package uplink

import (
	"cmp"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// maxAged is how many batches of a lane may be in flight when one goes because of its age: where nothing is acknowledged,
// small batches would add up, and each costs leastCost.
const maxAged = 2

// laneKey is what the records of a batch have in common.
type laneKey struct {
	topic  string
	direct bool // only Kafka settles them
}

// class is an index of what there is two of, for direct lanes and others.
func (k laneKey) class() int {
	if k.direct {
		return 1
	}
	return 0
}

// lane holds the records of one topic and class that are not on a stream.
type lane struct {
	laneKey
	pending  *batch // the batch that grows; nil is an empty one
	aged     bool   // pending has seen a tick
	queue    []*batch
	inflight int  // batches on streams
	held     int  // what all that costs, and what is on streams
	wire     int  // bytes of the same
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

	cost, wire int // as far as its lane and the uplink count it
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

// leastCost is what a batch costs however small it is: new memory for one has so many bytes.
const leastCost = 4 << 10

// maxCost bounds what n more bytes cost in the lane.
func (l *lane) maxCost(n int) int {
	if l.pending == nil {
		return leastCost + n
	}
	return n
}

// count accounts for what a batch holds now; what is settled holds nothing.
func (u *Uplink) count(b *batch) {
	cost, wire := 0, 0
	if !b.settled {
		wire = b.Len()
		cost = wire + len(b.waiting)*waitingBytes
		if b.lane != u.reports { // there is one at a time, which costs what was counted for its lines already
			cost += max(0, leastCost-wire)
		}
	}
	b.lane.held += cost - b.cost
	b.lane.wire += wire - b.wire
	u.stored += cost - b.cost
	u.wire += wire - b.wire
	if b.lane.direct {
		u.direct += wire - b.wire
	}
	b.cost, b.wire = cost, wire
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
	case l.pending.Records() == 0 || l.inflight > 0 && l.pending.Len() < maxBytes:
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
