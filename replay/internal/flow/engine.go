package flow

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

// Order is what is sent one after another.
type Order uint8

// The orders. A record without a key has no order by key.
const (
	ByKey       Order = iota + 1 // records of one key of a partition
	ByPartition                  // all of a partition
	Unordered                    // nothing
)

// Options configure an Engine.
type Options struct {
	// Send makes an attempt, and returns in bounded time. It is called from many goroutines.
	Send func(context.Context, Attempt) Outcome
	// Bury gives a message up: it returns when the dead-letter topic has it, however long that takes, or an error when ctx
	// ends. It is called from many goroutines.
	Bury func(context.Context, *Message, Letter) error
	// Attempted is told of every attempt that was not canceled, and Buried of every message that was given up. They are
	// called from many goroutines.
	Attempted func(Attempt, Outcome)
	Buried    func(*Message, Letter)

	Order Order
	// MaxAttempts, MaxAge (0: for ever), InitialBackoff and MaxBackoff are as in replay.Retry.
	MaxAttempts                int
	MaxAge                     time.Duration
	InitialBackoff, MaxBackoff time.Duration
	// AgeSince, where it is not zero, is when ages begin for requests that were received before.
	AgeSince time.Time
	// Failures, Of, Delay and MaxDelay are as in replay.CircuitBreaker.
	Failures, Of    int
	Delay, MaxDelay time.Duration
	// MaxBufferBytes bounds what the partitions hold together.
	MaxBufferBytes int

	Log *slog.Logger
}

// Limits bound what is sent.
type Limits struct {
	// Rate is in requests a second, +Inf for no limit, 0 for none at all. It is the group's: see SetShare.
	Rate float64
	// Concurrency is how many attempts may be under way.
	Concurrency int
	// KeyRate is each key's, +Inf for no limit.
	KeyRate float64
	// RouteRates are those of the routes that have one; the group's.
	RouteRates map[string]float64
	// Adaptive lets the target slow things down.
	Adaptive bool
}

// Engine sends messages. Its methods are safe for concurrent use.
//
// Whoever has something to say changes the queue, under the lock, and wakes Run, which alone decides what begins. Each
// attempt and each burial has a goroutine.
type Engine struct {
	options Options
	ctx     context.Context // of what is under way
	cancel  context.CancelFunc
	wake    chan struct{} // has a value when Run should look again
	jobs    sync.WaitGroup

	mu    sync.Mutex
	queue *queue
}

// New returns an engine that sends nothing until Run is called.
func New(o Options, l Limits) *Engine {
	e := &Engine{options: o, wake: make(chan struct{}, 1), queue: newQueue(o, l, time.Now())}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Run sends until ctx ends, and returns when no attempt is under way any more: what is under way by then is canceled. It
// is called once.
func (e *Engine) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if at := e.begin(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
	}
	e.cancel()
	e.jobs.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.queue.partitions {
		e.queue.cancel(p)
	}
}

// begin begins all that may begin, and returns when more may, zero if that is not a matter of time.
func (e *Engine) begin() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		j, at := e.queue.next(time.Now())
		switch {
		case j == nil:
			return at
		case j.letter != nil:
			e.jobs.Go(func() { e.bury(j) })
		default:
			e.jobs.Go(func() { e.attempt(j) })
		}
	}
}

func (e *Engine) attempt(j *job) {
	outcome := e.options.Send(j.lane.partition.ctx, j.attempt)
	if outcome.Verdict != Canceled {
		e.options.Attempted(j.attempt, outcome)
	}
	e.change(func(q *queue, now time.Time) { q.ended(j, outcome, now, rand.Float64()) })
}

func (e *Engine) bury(j *job) {
	err := e.options.Bury(j.lane.partition.ctx, j.message.Message, *j.letter)
	if err == nil {
		e.options.Buried(j.message.Message, *j.letter)
	}
	e.change(func(q *queue, _ time.Time) { q.buried(j, err == nil) })
}

// change changes the queue, and has Run see what follows from it.
func (e *Engine) change(change func(q *queue, now time.Time)) {
	e.mu.Lock()
	change(e.queue, time.Now())
	e.mu.Unlock()
	signal(e.wake)
}

// signal puts a value into a channel that has room for one, unless it has one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SetLimits replaces the limits, at once.
func (e *Engine) SetLimits(l Limits) {
	e.change(func(q *queue, now time.Time) { q.setLimits(l, now) })
}

// SetShare says how much of the group's rates is this member's, from 0 to 1; at first all of it.
func (e *Engine) SetShare(share float64) {
	e.change(func(q *queue, now time.Time) { q.setShare(share, now) })
}

// Lease says until when attempts may begin, as others may have the partitions by then; at first it is for ever. A process that
// has been stopped for a while finds it over when it goes on.
func (e *Engine) Lease(until time.Time) {
	e.change(func(q *queue, _ time.Time) { q.lease = until })
}

// Open begins a partition at what was committed for it: an offset, and the metadata of offsets.State. An error says what
// is wrong with the metadata, which then counts for nothing; the partition is open nevertheless.
func (e *Engine) Open(topic string, partition int32, committed int64, metadata string) (*Partition, error) {
	p := &Partition{engine: e}
	var err error
	e.change(func(q *queue, _ time.Time) {
		p.partition, err = q.open(topic, partition, committed, metadata)
		p.ctx, p.cut = context.WithCancel(e.ctx)
	})
	return p, err
}

// Partition is one that this member has. Its messages come from one goroutine.
type Partition struct {
	engine *Engine
	*partition
}

// What Offer returns for a partition that is closed, or closing, and for one that has no room to tell of more that is done
// behind what Leave has left.
var (
	ErrClosed = errors.New("the partition is closed")
	ErrFull   = errors.New("no room for more of what is done behind what is not")
)

// Offer takes the partition's next message; offsets rise. It waits while the partition holds as much as it may, or enough
// for now, and returns ctx's error if that ends first. A message that the partition's metadata has as done is passed over.
func (p *Partition) Offer(ctx context.Context, m *Message) error {
	e := p.engine
	e.mu.Lock()
	for !p.closing && !p.hopeless() && e.queue.full(p.partition) {
		p.offering = true
		e.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.room:
		}
		e.mu.Lock()
	}
	defer signal(e.wake)
	defer e.mu.Unlock()
	switch {
	case p.closing:
		return ErrClosed
	case p.hopeless():
		return ErrFull
	}
	e.queue.add(p.partition, m)
	return nil
}

// Skip takes the partition's next message as done: the filter does not want it. Where that cannot be committed as it is
// behind others, another member may be asked again.
func (p *Partition) Skip(offset int64) {
	p.engine.change(func(*queue, time.Time) { p.tracker.Skip(offset) })
}

// Leave takes the partition's next message as one that stays undone: it is another run's. What is done behind it can still
// be told; it reports whether there is room for more of that.
func (p *Partition) Leave(offset int64) (room bool) {
	p.engine.change(func(*queue, time.Time) {
		if p.tracker.Read(offset) && p.left < 0 {
			p.left = offset
		}
		room = !p.tracker.Overflows(p.busy + 1)
	})
	return room
}

// Held is how many messages have been offered and are not done, and whether they still will be: see ErrFull.
func (p *Partition) Held() (messages int, hopeless bool) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.held, p.hopeless()
}

// Close forgets what has not been sent, waits for what has, and returns what is then to be committed. What is still under
// way when ctx ends is canceled. It is called once.
func (p *Partition) Close(ctx context.Context) Commit {
	e := p.engine
	e.change(func(q *queue, _ time.Time) { q.close(p.partition) })
	select {
	case <-p.idle:
	case <-ctx.Done():
		e.change(func(q *queue, _ time.Time) { q.cancel(p.partition) })
		<-p.idle
	}
	var s offsets.State
	e.change(func(q *queue, _ time.Time) { s = q.closed(p.partition) })
	return p.commit(s)
}

func (p *partition) commit(s offsets.State) Commit {
	return Commit{Topic: p.topic, Partition: p.id, Offset: s.Offset, Metadata: s.Metadata, partition: p, state: s}
}

// Commit is what is to be committed for a partition.
type Commit struct {
	Topic     string
	Partition int32
	// Offset is that of the first message that is not done.
	Offset int64
	// Metadata says which behind it are.
	Metadata string

	partition *partition
	state     offsets.State
}

// CommitWanted has a value when Uncommitted should be committed without delay: as much is done and not committed as may be
// under way at all. Everything else is committed now and then.
func (e *Engine) CommitWanted() <-chan struct{} { return e.queue.commitWanted }

// Uncommitted returns what is to be committed, for each open partition of which something is.
func (e *Engine) Uncommitted() []Commit {
	e.mu.Lock()
	defer e.mu.Unlock()
	var commits []Commit
	for _, p := range e.queue.partitions {
		if s := p.tracker.State(); s.Offset != p.committed.Offset || s.Metadata != p.committed.Metadata {
			commits = append(commits, p.commit(s))
		}
	}
	return commits
}

// Committed says that a commit of Uncommitted's or Close's has come about. Until then what it covers counts among what a
// crash would repeat, of which there is never more than twice Limits.Concurrency: what is under way, and what is done and
// not committed.
func (e *Engine) Committed(commits []Commit) {
	e.change(func(q *queue, _ time.Time) {
		for _, c := range commits {
			q.committed(c.partition, c.state)
		}
	})
}

// Lost says that commits of Close's will never come about, as other members have the partitions: what they cover does not
// count any more, as it has been repeated already.
func (e *Engine) Lost(commits []Commit) {
	e.change(func(q *queue, _ time.Time) {
		for _, c := range commits {
			q.lose(c.partition)
		}
	})
}

// State is what an engine is up to.
type State struct {
	// UnderWay is how many attempts are.
	UnderWay int
	// Held is how many messages have been read and are not done, and HeldBytes their size.
	Held, HeldBytes int
	// Waiting of these wait for a retry.
	Waiting int
	// Rate and Concurrency are what holds now, after share and adaption; Rate may be +Inf.
	Rate        float64
	Concurrency int
	// Breaker is "closed", "open" or "half-open"; Until is when an open one tries again.
	Breaker string
	Until   time.Time
}

// State returns what it is up to.
func (e *Engine) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queue
	s := State{
		UnderWay: q.running, Held: q.held, HeldBytes: q.bytes,
		Rate: q.rate(time.Now()), Concurrency: q.limits.Concurrency,
		Breaker: q.breaker.circuit.State().String(),
	}
	for _, p := range q.partitions {
		s.Waiting += len(p.waiting)
	}
	if q.limiter != nil {
		s.Concurrency = min(s.Concurrency, q.limiter.Limit())
	}
	if q.breaker.circuit.IsOpen() {
		s.Until = q.breaker.until
	}
	return s
}
