package ingest

import (
	"context"
	"slices"
	"sync"

	"github.com/marceloboeira/crowd/collector/internal/share"
)

// budget accounts for the memory that batches take from their receipt until their acknowledgement has been written,
// over all streams. It is safe for concurrent use.
//
// Batches that wait for Kafka count for their topic as well: one that holds its share of the budget is closed, which
// streams are told. Whoever obeys has no more than 2/3 of the budget waiting in a topic that is stuck, plus what was
// under way when it was closed: see load.window for what that leaves.
type budget struct {
	limit int64

	mu       sync.Mutex
	freed    sync.Cond // inFlight or a stream's own has fallen, or a stream has come or gone
	inFlight int64
	left     int64 // of inFlight, what streams that have ended had
	streams  map[*account]struct{}
	topics   *share.Pool
	closed   []string // sorted; never changed in place
	told     int64    // what was free when all streams were last woken
}

// account is one stream's part of a budget.
type account struct {
	budget *budget
	wake   func() // tells the stream that its terms have changed

	own    int64 // under budget.mu
	closed bool  // under budget.mu
}

// charge is what a batch takes of a budget.
type charge struct {
	bytes int64
	topic string // that it waits for, no part of a message, as the budget keeps it; "" if it does not wait
}

func newBudget(limit int64) *budget {
	b := &budget{limit: limit, streams: map[*account]struct{}{}, topics: share.New(limit), told: limit}
	b.freed.L = &b.mu
	return b
}

// open adds a stream. wake is called under the budget's lock and must not block.
func (b *budget) open(wake func()) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &account{budget: b, wake: wake}
	b.streams[a] = struct{}{}
	return a
}

// close takes the stream out of those that share the budget; what it has in flight stays until it is released.
func (a *account) close() {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	delete(a.budget.streams, a)
	a.closed = true
	a.budget.left += a.own
	a.budget.freed.Broadcast()
}

func (a *account) load() load {
	b := a.budget
	return load{budget: b.limit, inFlight: b.inFlight, own: a.own, left: b.left, streams: max(len(b.streams), 1)}
}

// window returns the stream's present terms (see load), where there is so much room on disk, less the topics that may take
// nothing more, which it returns as well.
func (a *account) window(disk int64) (t terms, closed []string) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	l := a.load()
	l.disk = disk
	t.own = a.own
	t.bytes, t.direct = l.window()
	return t, b.closed
}

// admit waits until the stream may read; it returns false when ctx is done first.
func (a *account) admit(ctx context.Context) bool {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.load().mayRead() {
		return ctx.Err() == nil
	}
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.freed.Broadcast()
	})
	defer stop()
	for !a.load().mayRead() && ctx.Err() == nil {
		b.freed.Wait()
	}
	return ctx.Err() == nil
}

// take accounts for a message that was read.
func (a *account) take(c charge) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	a.own += c.bytes
	b.inFlight += c.bytes
	if a.closed { // read while the stream was ending
		b.left += c.bytes
	}
	if c.topic != "" {
		b.topics.Take(c.topic, c.bytes)
	}
	b.changed()
}

// release gives back what was taken.
func (a *account) release(charges ...charge) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range charges {
		a.own -= c.bytes
		b.inFlight -= c.bytes
		if a.closed {
			b.left -= c.bytes
		}
		if c.topic != "" {
			b.topics.Release(c.topic, c.bytes)
		}
	}
	if a.own < 0 || b.inFlight < 0 {
		panic("BUG: more bytes released than taken")
	}
	b.freed.Broadcast()
	b.changed()
}

// changed wakes all streams when topics close or open, and when what is free has doubled or halved: else, their
// windows would follow every batch of every other one. Less than an eighth is as good as nothing.
func (b *budget) changed() {
	free := max(b.limit-b.inFlight, b.limit/8)
	closed := b.review()
	if free < 2*b.told && b.told < 2*free && slices.Equal(closed, b.closed) {
		return
	}
	b.told, b.closed = free, closed
	for a := range b.streams {
		a.wake()
	}
}

// review returns the topics that are closed from now on. A closed one opens when it has room again for a 64th of the
// budget, not for a single batch.
func (b *budget) review() []string {
	closed := b.topics.Closed()
	for _, topic := range b.closed {
		if !b.topics.Fits(topic, b.limit/64) {
			closed = append(closed, topic)
		}
	}
	slices.Sort(closed)
	return slices.Compact(closed)
}

// wakeAll has all streams look at their terms.
func (b *budget) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a := range b.streams {
		a.wake()
	}
}

// total returns the bytes in flight.
func (b *budget) total() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight
}

// count returns the number of open streams.
func (b *budget) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.streams)
}

// countClosed returns the number of closed topics.
func (b *budget) countClosed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.closed)
}
