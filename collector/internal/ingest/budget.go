package ingest

import (
	"context"
	"sync"
)

// budget accounts for the memory that batches take from their receipt until their acknowledgement has been
// written, over all streams. It is safe for concurrent use.
type budget struct {
	limit int64

	mu       sync.Mutex
	freed    sync.Cond // inFlight or a stream's own has fallen, or a stream has come or gone
	inFlight int64
	left     int64 // of inFlight, what streams that have ended had
	streams  map[*account]struct{}
}

// account is one stream's part of a budget.
type account struct {
	budget *budget
	wake   func() // tells the stream that there is room again

	own    int64 // under budget.mu
	closed bool  // under budget.mu
}

func newBudget(limit int64) *budget {
	b := &budget{limit: limit, streams: map[*account]struct{}{}}
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

// window returns the stream's present window.
func (a *account) window() int64 {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.load().window()
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
func (a *account) take(bytes int64) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.own += bytes
	a.budget.inFlight += bytes
	if a.closed { // read while the stream was ending
		a.budget.left += bytes
	}
}

// release gives bytes back. Streams whose windows were small or closed for want of room are woken once there is
// a sensible amount of it; before that, their windows would follow every single release.
func (a *account) release(bytes int64) {
	b := a.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	roomy := b.limit - b.limit/8
	tight := b.inFlight > roomy
	a.own -= bytes
	b.inFlight -= bytes
	if a.closed {
		b.left -= bytes
	}
	if a.own < 0 || b.inFlight < 0 {
		panic("BUG: more bytes released than taken")
	}
	b.freed.Broadcast()
	if tight && b.inFlight <= roomy {
		for other := range b.streams {
			other.wake()
		}
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
