package flow

import (
	"context"
	"slices"

	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

// partition is what a queue has of one.
type partition struct {
	topic     string
	id        int32
	tracker   *offsets.Tracker
	committed offsets.State
	left      int64 // the first message that stays undone for another run; -1: none does

	lanes   map[string]*lane // those with an order
	ready   fifo[*lane]
	inRing  bool               // the queue's
	waiting map[*lane]struct{} // for a retry
	doomed  fifo[*job]
	gates   map[string]*gate // by key
	sweepAt int              // gates

	held, bytes   int
	busy, burying int  // lanes that a job or a grave has; those of them that are being buried
	counted       int  // in queue.uncommitted
	lost          bool // its last commit will not come about

	closing  bool
	canceled bool          // what is under way does not get any further
	settled  bool          // it is closing, and nothing is under way any more
	idle     chan struct{} // closed when it is settled
	room     chan struct{} // has a value when an Offer that waits should look again
	offering bool          // it waits

	ctx context.Context // of what is under way
	cut context.CancelFunc
}

// hopeless reports whether nothing that is held will ever be begun: what becomes of it can no longer be told, and the first
// message that is not done stays so.
func (p *partition) hopeless() bool {
	return p.left >= 0 && p.left == p.tracker.First() && p.busy == 0 && p.tracker.Overflows(1)
}

// mayBegin reports whether what becomes of a message can be told in the partition's metadata.
func (p *partition) mayBegin(m *held) bool {
	return !p.tracker.Overflows(p.busy+1) || m.Offset == p.tracker.First()
}

func (p *partition) mayBeginLane(l *lane) bool { return p.mayBegin(l.messages.front()) }

// open adds a partition. An error says what is wrong with metadata; the partition is good nevertheless.
func (q *queue) open(topic string, id int32, committed int64, metadata string) (*partition, error) {
	tracker, err := offsets.New(committed, metadata)
	p := &partition{
		topic: topic, id: id, tracker: tracker, committed: offsets.State{Offset: committed, Metadata: metadata}, left: -1,
		lanes: map[string]*lane{}, waiting: map[*lane]struct{}{}, gates: map[string]*gate{},
		idle: make(chan struct{}), room: make(chan struct{}, 1),
	}
	q.partitions = append(q.partitions, p)
	return p, err
}

// close forgets what of a partition has not been begun. Its idle channel says when the rest has ended.
func (q *queue) close(p *partition) {
	p.closing = true
	forget := func(lanes *fifo[*lane]) {
		lanes.drop(func(l *lane) bool {
			if l.partition != p {
				return false
			}
			q.drop(l)
			return true
		})
	}
	forget(&p.ready)
	q.ring.drop(func(other *partition) bool { return other == p })
	p.inRing = false
	q.doomed -= p.doomed.len()
	for p.doomed.len() > 0 {
		q.drop(p.doomed.pop().lane)
	}
	for _, g := range q.routes {
		forget(&g.parked)
	}
	for _, g := range p.gates {
		forget(&g.parked)
		q.alarms.stop(&g.alarm)
	}
	clear(p.gates)
	for l := range p.waiting {
		q.alarms.stop(&l.retry)
		q.drop(l)
	}
	clear(p.waiting)
	for _, l := range p.lanes { // those that are left have a job
		first := l.messages.pop()
		for l.messages.len() > 0 {
			q.letGo(p, l.messages.pop())
		}
		l.messages.push(first)
	}
	q.settle(p)
}

// cancel cuts off what of a partition is under way.
func (q *queue) cancel(p *partition) {
	p.canceled = true
	p.cut()
	q.graves.drop(func(j *job) bool {
		if j.lane.partition != p {
			return false
		}
		p.burying--
		q.burying--
		q.forget(j.lane)
		return true
	})
	q.settle(p)
}

// closed takes a partition out that is closing, once it is idle, and returns its last state.
func (q *queue) closed(p *partition) offsets.State {
	q.partitions = slices.DeleteFunc(q.partitions, func(other *partition) bool { return other == p })
	p.cut()
	q.releaseAll()
	return p.tracker.State()
}

// committed says that a state has been committed.
func (q *queue) committed(p *partition, s offsets.State) {
	p.tracker.Committed(s)
	p.committed = s
	q.count(p)
	q.release(p)
}

// lose says that a closed partition's last state will not be committed.
func (q *queue) lose(p *partition) {
	q.uncommitted -= p.counted
	p.counted, p.lost = 0, true
}
