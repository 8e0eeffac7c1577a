// Package uplink is the filter's side of the stream to the collectors, as a pure state machine: it gathers
// records into batches, keeps every batch until a collector says that it is stored, sends it again when a
// stream ends before that, and says no when there is no room. It makes no host calls of its own and has no
// clock; whoever drives it calls Tick.
//
//	Reserve ─▶ Add ─▶ pending ─seal▶ queue ─send▶ stream.inflight ─Ack▶ gone
//	                                   ▲                │
//	                                   └── stream ends ─┘
//
// Invariants:
//   - a record that Add took is in exactly one of pending, queue and the streams' inflight lists until it is
//     acknowledged, so an answer given for it can be kept;
//   - nothing is taken that would bring reserved and stored bytes together above MaxBufferBytes;
//   - sequence numbers are given once, when a batch is sealed, and stay with the batch;
//   - queue is ordered by sequence, and what was sent before goes first.
//
// An Uplink belongs to one Wasm VM and so to one thread; it is not safe for concurrent use.
package uplink

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// Stream is the host's name for an open stream.
type Stream uint32

// Host is what an uplink asks of the proxy. Its methods may call Received and Closed before they return: the
// uplink then deals with that once it has finished what it is doing.
type Host interface {
	// Open starts a stream to the collectors.
	Open() (Stream, error)
	// Send writes a message, which the host copies.
	Send(s Stream, message []byte) error
	// Cancel ends a stream at once. No Closed follows.
	Cancel(s Stream)
	// Warn reports something that people should know.
	Warn(message string)
}

// Config of an uplink; every field is required.
type Config struct {
	// Hello introduces the uplink on every stream.
	Hello record.Hello
	// Rand spreads reconnects of many uplinks over time.
	Rand *rand.Rand
	Limits
}

// Limits are what may change while an uplink runs.
type Limits struct {
	// MaxBufferBytes bounds bodies not yet whole and records not yet stored, together.
	MaxBufferBytes int
	// MaxBatchBytes is where a batch ends; a larger record makes a batch of its own.
	MaxBatchBytes int
	// UnreachableTimeout is how long records are taken while no stream is welcome anywhere.
	UnreachableTimeout time.Duration
}

// The pace of reconnecting: the n-th attempt in a row waits a random time up to backoffBase·2ⁿ, at most
// backoffMax. A stream is given up when it is silent for silenceTimeout: a collector says something at least
// once a second.
const (
	backoffBase    = 50 * time.Millisecond
	backoffMax     = 2 * time.Second
	silenceTimeout = 5 * time.Second
	// longestTick keeps a worker that was stopped for a while from blaming its collector for the silence.
	longestTick = time.Second
)

// Refusal says why a record was not taken. The zero value is "taken".
type Refusal uint8

// Why an uplink has no room.
const (
	Taken        Refusal = iota
	BufferFull           // MaxBufferBytes are held
	WindowClosed         // the collector takes no more for now
	Unreachable          // no collector for longer than UnreachableTimeout
)

// Refusals lists every reason to refuse.
var Refusals = []Refusal{BufferFull, WindowClosed, Unreachable}

// String returns the reason as metrics spell it.
func (r Refusal) String() string {
	switch r {
	case Taken:
		return "taken"
	case BufferFull:
		return "buffer_full"
	case WindowClosed:
		return "window_closed"
	case Unreachable:
		return "unreachable"
	}
	return "unknown"
}

// Stats are running totals; several uplinks may share them.
type Stats struct {
	Batches       uint64 // sent for the first time
	Resent        uint64 // batches sent again
	Stored        uint64 // records that a collector has stored
	Refused       uint64 // records that a collector will never store
	StreamsOpened uint64
	StreamsLost   uint64 // ended with something unacknowledged, or before they were welcome
}

// Uplink is the state machine.
type Uplink struct {
	config Config
	host   Host
	now    time.Duration // as of the last Tick

	pending record.Batch
	aged    bool           // pending has seen a tick
	spare   []record.Batch // empty, with memory to use again: fresh memory is cold memory
	spared  int            // bytes of that memory
	queue   []*batch
	current *stream   // where batches go; nil when there is none
	leaving []*stream // draining or retired: only acks are expected
	ended   []ended   // streams that ended while busy
	heard   []heard   // messages that came while busy
	busy    bool

	sequence uint64
	reserved int // bytes of bodies not yet whole
	stored   int // bytes in pending, queue and inflight

	attempts    int           // to open a stream, since something was last acknowledged
	nextAttempt time.Duration // not before
	wanting     bool          // a stream has been wanted, and none welcome, ...
	wantedSince time.Duration // ... since then

	counts      []*Count // that changed since the last batch
	countsBytes int      // what they will add to it, at most; part of stored
	stats       *Stats
}

type batch struct {
	record.Batch
	sequence uint64
	sent     bool
}

type ended struct {
	stream Stream
	reason string
}

type heard struct {
	stream  Stream
	message []byte
}

// New returns an uplink that has nothing to do yet. It opens no stream before there is a record to send. What it
// does is added to stats.
func New(config Config, host Host, stats *Stats) *Uplink {
	return &Uplink{config: config, host: host, stats: stats}
}

// SetLimits changes the limits. What is held already stays.
func (u *Uplink) SetLimits(l Limits) { u.config.Limits = l }

// Count is a line of the loss ledger: how many requests have been answered for one route and level. It
// belongs to the uplink that made it.
type Count struct {
	record.Answered
	changed bool
}

// Count begins a line of the ledger.
func (u *Uplink) Count(route string, level record.Level) *Count {
	return &Count{Answered: record.Answered{Route: route, Level: level}}
}

// Reserve makes room for n more bytes of a body that is not yet whole. What is reserved must be released, or
// handed to Add.
func (u *Uplink) Reserve(n int) Refusal {
	if u.reserved+u.stored+n > u.config.MaxBufferBytes {
		return BufferFull
	}
	u.reserved += n
	return Taken
}

// Release gives back n reserved bytes.
func (u *Uplink) Release(n int) {
	u.reserved -= n
	if u.reserved < 0 {
		panic("BUG: uplink: more released than was reserved")
	}
}

// Add takes a whole record, whose body is the concatenation of the chunks and for which `reserved` bytes were
// reserved; they are given back, whatever the outcome. When the record is taken, the count has been raised
// for the answer that must follow, and the uplink answers for the record from now on.
func (u *Uplink) Add(r *record.Record, body [][]byte, reserved int, count *Count) Refusal {
	u.Release(reserved)
	size := record.Size(r, body)
	if refusal := u.room(size + record.BatchOverhead + count.size()); refusal != Taken {
		return refusal
	}
	if u.pending.Records() > 0 && u.pending.Len()+size > u.config.MaxBatchBytes {
		u.seal()
	}
	before := u.pending.Len()
	u.pending.Add(r, body)
	u.stored += u.pending.Len() - before
	count.Answers++
	if !count.changed {
		count.changed = true
		u.counts = append(u.counts, count)
		u.countsBytes += count.size()
		u.stored += count.size()
	}
	u.run(func() {})
	return Taken
}

// size bounds what the line takes in a batch: its route's name, and numbers.
func (c *Count) size() int { return len(c.Route) + 32 }

// room decides about a record that will add at most size bytes.
func (u *Uplink) room(size int) Refusal {
	if u.reserved+u.stored+size > u.config.MaxBufferBytes || size > record.MaxMessageBytes {
		return BufferFull
	}
	if s := u.current; s != nil && s.welcome {
		if s.window == 0 || u.stored > 0 && u.stored+size > s.window {
			return WindowClosed
		}
	} else if u.Unreachable() > u.config.UnreachableTimeout {
		return Unreachable
	}
	return Taken
}

// seal ends the pending batch: it gets its number and the ledger's changes, and waits to be sent.
func (u *Uplink) seal() {
	before := u.pending.Len()
	for _, c := range u.counts {
		u.pending.AddAnswered(c.Answered)
		c.Answers, c.changed = 0, false
	}
	u.stored += u.pending.Len() - before - u.countsBytes
	u.counts, u.countsBytes = u.counts[:0], 0
	u.sequence++
	u.queue = append(u.queue, &batch{Batch: u.pending, sequence: u.sequence})
	u.pending, u.aged = record.Batch{}, false
	if n := len(u.spare); n > 0 {
		u.pending, u.spare = u.spare[n-1], u.spare[:n-1]
		u.spared -= u.pending.Cap()
	}
}

// maxSpare bounds the bytes of memory that are kept beyond what is held.
const maxSpare = 2 << 20

func (u *Uplink) recycle(b record.Batch) {
	if u.spared+b.Cap() <= maxSpare {
		b.Reset()
		u.spare = append(u.spare, b)
		u.spared += b.Cap()
	}
}

// run does something, then whatever came up while it was done, then sends what can be sent.
func (u *Uplink) run(do func()) {
	if u.busy {
		panic("BUG: uplink: re-entered")
	}
	u.busy = true
	do()
	u.pump()
	for len(u.ended) > 0 || len(u.heard) > 0 {
		heard, ended := u.heard, u.ended
		u.heard, u.ended = nil, nil
		for _, h := range heard {
			u.receive(h.stream, h.message)
		}
		for _, e := range ended {
			u.end(e.stream, e.reason)
		}
		u.pump()
	}
	u.busy = false
}

// pump sends what may be sent: at once when nothing is in flight (latency is then one round trip), otherwise
// in batches that grow until an acknowledgement or the size limit ends them.
func (u *Uplink) pump() {
	if u.stored == 0 {
		u.wanting = false // whoever wants no stream misses none
		return
	}
	if u.current == nil {
		u.open()
	}
	for s := u.current; s != nil && s == u.current && s.welcome; {
		if len(u.queue) == 0 {
			full := u.pending.Len() >= u.config.MaxBatchBytes
			if u.pending.Records() == 0 || !full && len(s.inflight) > 0 {
				return
			}
			u.seal()
		}
		b := u.queue[0]
		if !s.fits(b.Len()) {
			return
		}
		u.queue[0] = nil
		u.queue = u.queue[1:]
		u.send(s, b)
	}
}

func (u *Uplink) send(s *stream, b *batch) {
	if b.sent {
		u.stats.Resent++
	} else {
		u.stats.Batches++
	}
	message := b.Message(record.Head{Sequence: b.sequence, Redelivered: b.sent, SettledBelow: u.settledBelow(b.sequence)})
	b.sent = true
	s.inflight = append(s.inflight, b)
	s.bytes += b.Len()
	if err := u.host.Send(s.id, message); err != nil {
		u.host.Cancel(s.id)
		u.end(s.id, err.Error())
	}
}

// settledBelow returns the lowest number of a batch that is not acknowledged, given one of them.
func (u *Uplink) settledBelow(lowest uint64) uint64 {
	if len(u.queue) > 0 {
		lowest = min(lowest, u.queue[0].sequence)
	}
	for _, s := range u.streams() {
		for _, b := range s.inflight {
			lowest = min(lowest, b.sequence)
		}
	}
	return lowest
}

// requeue puts batches back to be sent on another stream.
func (u *Uplink) requeue(batches []*batch) {
	u.queue = append(u.queue, batches...)
	slices.SortFunc(u.queue, func(a, b *batch) int { return cmp.Compare(a.sequence, b.sequence) })
}

// Tick tells the time, which must not fall. Call it about ten times a second.
func (u *Uplink) Tick(now time.Duration) {
	passed := min(now-u.now, longestTick)
	u.now = now
	u.run(func() {
		// What has gathered for a whole tick goes even though something is in flight: an acknowledgement that one slow
		// topic holds back must not hold back the records of others.
		if u.pending.Records() > 0 && u.aged {
			u.seal()
		}
		u.aged = u.pending.Records() > 0
		for _, s := range u.streams() {
			if s.silent += passed; s.silent >= silenceTimeout {
				u.host.Cancel(s.id)
				u.end(s.id, "the collector has been silent for "+silenceTimeout.String())
			}
		}
	})
}

// Unreachable returns for how long a stream has been wanted and none was welcome anywhere.
func (u *Uplink) Unreachable() time.Duration {
	if !u.wanting {
		return 0
	}
	return u.now - u.wantedSince
}

// Idle reports that everything taken is stored: nothing is lost when the uplink ends now.
func (u *Uplink) Idle() bool { return u.stored == 0 }

// Close ends every stream. What is not Idle then is lost.
func (u *Uplink) Close() {
	for _, s := range u.streams() {
		u.host.Cancel(s.id)
	}
	u.current, u.leaving = nil, nil
}

// HeldBytes returns what counts against MaxBufferBytes.
func (u *Uplink) HeldBytes() int { return u.reserved + u.stored }

// WindowBytes returns the window of the stream that batches go to, 0 where there is none.
func (u *Uplink) WindowBytes() int {
	if u.current == nil {
		return 0
	}
	return u.current.window
}
