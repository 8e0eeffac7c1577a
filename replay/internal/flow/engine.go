package flow

import (
	"context"
	"log/slog"
	"time"
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
type Engine struct{}

// New returns an engine that sends nothing until Run is called.
func New(o Options, l Limits) *Engine { panic("not yet") }

// Run sends until ctx ends, and returns when no attempt is under way any more: what is under way by then is canceled.
func (e *Engine) Run(ctx context.Context) { panic("not yet") }

// SetLimits replaces the limits, at once.
func (e *Engine) SetLimits(l Limits) { panic("not yet") }

// SetShare says how much of the group's rates is this member's, from 0 to 1; at first all of it.
func (e *Engine) SetShare(share float64) { panic("not yet") }

// Open begins a partition at what was committed for it: an offset, and the metadata of offsets.State. An error says what
// is wrong with the metadata, which then counts for nothing; the partition is open nevertheless.
func (e *Engine) Open(topic string, partition int32, committed int64, metadata string) (*Partition, error) {
	panic("not yet")
}

// Partition is one that this member has. Its messages come from one goroutine.
type Partition struct{}

// Offer takes the partition's next message; offsets rise. It waits while the partition holds as much as it may, or enough
// for now, and returns ctx's error if that ends first. A message that the partition's metadata has as done is passed over.
func (p *Partition) Offer(ctx context.Context, m *Message) error { panic("not yet") }

// Skip takes the partition's next message as done: the filter does not want it.
func (p *Partition) Skip(offset int64) { panic("not yet") }

// Close forgets what has not been sent, waits for what has, and returns what is then to be committed. What is still under
// way when ctx ends is canceled.
func (p *Partition) Close(ctx context.Context) Commit { panic("not yet") }

// Commit is what is to be committed for a partition.
type Commit struct {
	Topic     string
	Partition int32
	// Offset is that of the first message that is not done.
	Offset int64
	// Metadata says which behind it are.
	Metadata string

	partition *Partition
	done      int // how many messages are done by it that were not before
}

// CommitWanted has a value when Uncommitted should be committed without delay: as much is done and not committed as may be
// at all. Everything else is committed now and then.
func (e *Engine) CommitWanted() <-chan struct{} { panic("not yet") }

// Uncommitted returns what is to be committed, for each open partition of which something is.
func (e *Engine) Uncommitted() []Commit { panic("not yet") }

// Committed says that a commit of Uncommitted's or Close's has come about. Until then what it covers counts among what a
// crash would repeat, of which there is never more than twice Limits.Concurrency: what is under way, and what is done and
// not committed.
func (e *Engine) Committed(commits []Commit) { panic("not yet") }

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
func (e *Engine) State() State { panic("not yet") }
