// Package uplink is the filter's side of the streams to the collectors, as a pure state machine: it gathers
// records into batches, keeps every batch until a collector says that it is stored, sends it again when a
// stream ends before that, tells requests that wait for it, and says no when there is no room. It makes no host
// calls of its own and has no clock; whoever drives it calls Tick.
//
//	Reserve ─▶ Add ─▶ lane.pending ─seal▶ lane.queue ─Send▶ stream.inflight ─Ack▶ gone, and who waits is told
//	                                         ▲                   │
//	                                         └── stream ends ────┘
//
// A lane holds the records of one topic and one class of storage (see record.Level.Direct), so that none waits
// for another topic's.
//
// Invariants:
//   - a record that Add took is in exactly one of its lane's pending and queue and the streams' inflight lists
//     until it is acknowledged, so an answer given for it can be kept;
//   - nothing is taken that would bring reserved and stored bytes together above MaxBufferBytes;
//   - a sequence number is given once, when a batch is first sent, and the batch does not change any more;
//   - a queue begins with what was sent before, by sequence.
//
// An Uplink belongs to one Wasm VM and so to one thread; it is not safe for concurrent use.
package uplink

import (
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
	// Open starts a stream to one of the collectors, whichever the proxy's load balancing picks.
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
	// Streams is how many collectors to hold streams to, where there are as many.
	Streams int
}

// Refusal says why a record was not taken. The zero value is "taken".
type Refusal uint8

// Why an uplink has no room.
const (
	Taken        Refusal = iota
	BufferFull           // MaxBufferBytes are held
	WindowClosed         // the collectors take no more for now
	TopicClosed          // what is held of the topic, here or at a collector, is its share
	Unreachable          // no collector for longer than UnreachableTimeout
)

// Refusals lists every reason to refuse.
var Refusals = []Refusal{BufferFull, WindowClosed, TopicClosed, Unreachable}

// String returns the reason as metrics spell it.
func (r Refusal) String() string {
	switch r {
	case Taken:
		return "taken"
	case BufferFull:
		return "buffer_full"
	case WindowClosed:
		return "window_closed"
	case TopicClosed:
		return "topic_closed"
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
	DeadLettered  uint64 // records that their topic does not take, and the dead-letter topic has
	Refused       uint64 // records that will never be stored
	StreamsOpened uint64
	StreamsLost   uint64 // ended with something unacknowledged, or before they were welcome
	BatchRecords  []int  // how many records the latest batches had; whoever reads it empties it
}

// maxBatchRecords bounds Stats.BatchRecords.
const maxBatchRecords = 1000

// Uplink is the state machine.
type Uplink struct {
	config Config
	host   Host
	now    time.Duration // as of the last Tick

	lanes   map[laneKey]*lane
	active  []*lane // those with something to send, the next one first
	reports *lane   // batches without records
	streams []*stream
	ended   []ended // streams that ended while busy
	heard   []heard // messages that came while busy
	busy    bool

	sequence  uint64
	unsettled []*batch // sent and not acknowledged, by sequence, with some settled ones in between
	unsettles int      // how many are not settled

	spare    []record.Batch // empty, with memory to use again: fresh memory is cold memory
	spared   int            // bytes of that memory
	reserved int            // bytes of bodies not yet whole
	stored   int            // what records in lanes and streams cost, and what goes with them
	wire     int            // bytes of the same on the wire
	direct   int            // bytes of that in direct lanes

	attempts    int           // to open a stream, since one last lived
	nextAttempt time.Duration // not before
	probes      int           // that found no other collector, in a row
	nextProbe   time.Duration
	nextWarning time.Duration // that a stream was lost
	wanting     bool          // a stream has been wanted, and none welcome, ...
	wantedSince time.Duration // ... since then

	changed      []*Route // with answers that have not been reported
	changedBytes int      // what they will add to a batch, at most; part of stored
	reportDue    bool     // they have seen a tick
	stats        *Stats
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
	return &Uplink{config: config, host: host, stats: stats, lanes: map[laneKey]*lane{}, reports: &lane{}}
}

// SetLimits changes the limits. What is held already stays.
func (u *Uplink) SetLimits(l Limits) { u.config.Limits = l }

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

// Add takes a whole record of a route, which it copies, and for which `reserved` bytes were reserved; they are given
// back, whatever the outcome. When the record is taken, the uplink answers for it from now on. Without a waiter the request
// must be answered now, which is counted already. Send must follow.
func (u *Uplink) Add(route *Route, r record.Parts, reserved int, waiter Waiter) Refusal {
	u.Release(reserved)
	refusal := u.add(route, r, waiter)
	if (refusal == WindowClosed || refusal == TopicClosed) && u.sends() {
		// What has been added counts against the window, and nothing goes beyond that while anything is unsent.
		u.run(func() {})
		refusal = u.add(route, r, waiter)
	}
	return refusal
}

func (u *Uplink) add(route *Route, r record.Parts, waiter Waiter) Refusal {
	size := record.Size(r)
	l := route.lane
	if l.pending.Records() > 0 && l.pending.Len()+size > u.config.MaxBatchBytes {
		u.trim(l.pending)
		l.seal()
	}
	most := size + record.BatchOverhead + route.size()
	cost := l.maxCost(most)
	if waiter != nil {
		cost += waitingBytes
	}
	if refusal := u.room(l, most, cost); refusal != Taken {
		return refusal
	}
	if l.pending == nil {
		l.pending = &batch{Batch: u.spareBatch(most), lane: l}
	}
	l.pending.Add(r)
	if waiter == nil {
		u.answered(route)
	} else {
		l.pending.wait(waiter, route, u.now)
	}
	u.count(l.pending)
	u.activate(l)
	return Taken
}

// Send sends what can be sent. Call it when all that there is at the moment has been added, which makes one batch then,
// rather than one of the first record and one of all others.
func (u *Uplink) Send() {
	if u.sends() {
		u.run(func() {})
	}
}

// sends reports whether a batch's turn has come.
func (u *Uplink) sends() bool {
	return slices.ContainsFunc(u.active, func(l *lane) bool { return l.next(u.config.MaxBatchBytes) != nil })
}

// room decides about a record of a lane that will add at most so many bytes and cost.
func (u *Uplink) room(l *lane, bytes, cost int) Refusal {
	free := u.config.MaxBufferBytes - u.reserved - u.stored - cost
	if free < 0 || bytes > record.MaxMessageBytes {
		return BufferFull
	}
	takes := u.takes(l)
	switch {
	case takes.welcome && !takes.open:
		return TopicClosed
	case takes.welcome && bytes > takes.bytes && !takes.one:
		return WindowClosed
	case !takes.welcome && u.Unreachable() > u.config.UnreachableTimeout:
		return Unreachable
	}
	if l.held > 0 && l.held+cost > maxShare*free ||
		takes.welcome && l.wire > 0 && l.wire+bytes > maxShare*max(0, takes.bytes-bytes) && !takes.one {
		return TopicClosed
	}
	return Taken
}

// maxShare is how many times what is still free a topic may hold, so that others always find room: the dynamic threshold
// by which switches share packet buffers (Choudhury and Hahne, 1998).
const maxShare = 2

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

// pump sends what may be sent: all there is when nothing of a lane is in flight (latency is then one round trip), otherwise
// in batches that grow until an acknowledgement or the size limit ends them. Lanes take turns.
func (u *Uplink) pump() {
	if u.stored == 0 {
		u.wanting = false // whoever wants no stream misses none
		return
	}
	u.reach()
	for blocked := 0; blocked < len(u.active); {
		l := u.active[0]
		u.active = u.active[1:]
		b, s := u.next(l)
		switch {
		case l == u.reports && b.sequence == 0 && len(u.changed) == 0: // another batch has taken it all along
			l.take(b)
		case s == nil:
			blocked++
		default:
			blocked = 0
			l.take(b)
			u.send(s, b)
		}
		if l.pending.Records() > 0 || len(l.queue) > 0 {
			u.active = append(u.active, l)
		} else {
			l.active = false
		}
	}
}

// activate puts a lane among those with something to send.
func (u *Uplink) activate(l *lane) {
	if !l.active {
		l.active = true
		u.active = append(u.active, l)
	}
}

// next returns the batch of a lane that may be sent now and the stream for it; nil where there is none.
func (u *Uplink) next(l *lane) (*batch, *stream) {
	b := l.next(u.config.MaxBatchBytes)
	if b == nil {
		return nil, nil
	}
	return b, u.leastLoaded(l, b.Len()+u.changedBytes)
}

func (u *Uplink) send(s *stream, b *batch) {
	redelivered := b.sequence > 0
	if redelivered {
		u.stats.Resent++
	} else {
		u.sequence++
		b.sequence = u.sequence
		u.unsettled = append(u.unsettled, b)
		u.unsettles++
		u.report(b)
		u.stats.Batches++
		if len(u.stats.BatchRecords) < maxBatchRecords {
			u.stats.BatchRecords = append(u.stats.BatchRecords, b.Records())
		}
	}
	for u.unsettled[0].settled {
		u.unsettled[0] = nil
		u.unsettled = u.unsettled[1:]
	}
	if len(u.unsettled) > 2*u.unsettles+64 { // one that is stuck must not keep all that came after it
		u.unsettled = slices.DeleteFunc(u.unsettled, func(b *batch) bool { return b.settled })
	}
	u.trim(b)
	message := b.Message(record.Head{
		Sequence: b.sequence, Redelivered: redelivered, SettledBelow: u.unsettled[0].sequence,
	})
	s.carry(b)
	b.lane.inflight++
	if err := u.host.Send(s.id, message); err != nil {
		u.host.Cancel(s.id)
		u.end(s.id, err.Error())
	}
}

// settle ends a batch that a collector answers for.
func (u *Uplink) settle(b *batch, ack *record.Ack) {
	b.settled = true
	u.unsettles--
	records, refused := b.Records(), 0
	for i := range ack.Refused {
		r := &ack.Refused[i]
		if r.Index >= records {
			continue
		}
		refused++
		if r.DeadLettered {
			u.stats.DeadLettered++
		} else {
			u.stats.Refused++
		}
		if refused == 1 {
			u.host.Warn("kafka does not take a record: " + r.Reason)
		}
	}
	u.stats.Stored += uint64(records - refused)
	for _, w := range b.waiting {
		if w.waiter == nil {
			continue
		}
		outcome := Outcome{Level: ack.Level}
		if i := slices.IndexFunc(ack.Refused, func(r record.Refused) bool { return r.Index == w.index }); i >= 0 {
			outcome = Outcome{Refused: ack.Refused[i].Class}
		}
		if w.waiter.Settled(outcome) && outcome.Refused == "" {
			u.answered(w.route)
		}
	}
	u.count(b)
	u.recycle(b.Batch)
	b.Batch, b.waiting = record.Batch{}, nil
}

// maxSpare bounds the bytes of memory that are kept beyond what is held, and usualSpare is what most batches need.
const (
	maxSpare   = 2 << 20
	usualSpare = 64 << 10
)

func (u *Uplink) recycle(b record.Batch) {
	if u.spared+b.Cap() <= maxSpare {
		b.Reset()
		u.spare = append(u.spare, b)
		u.spared += b.Cap()
	}
}

// spareBatch returns an empty batch for so many bytes or more.
func (u *Uplink) spareBatch(bytes int) (b record.Batch) {
	for i := len(u.spare) - 1; i >= 0; i-- {
		if u.spare[i].Cap() <= max(2*bytes, usualSpare) {
			b = u.spare[i]
			u.spare = slices.Delete(u.spare, i, i+1)
			u.spared -= b.Cap()
			break
		}
	}
	return b
}

// maxCap is how many times what a batch costs its memory may be while it is kept: only the former is accounted for.
const maxCap = 4

// trim has a batch let go of memory that it has no use for.
func (u *Uplink) trim(b *batch) {
	if b.Cap() > maxCap*max(b.Len(), leastCost) {
		large := b.Batch
		b.Batch = large.Clone()
		u.recycle(large)
	}
}

// longestTick keeps a worker that was stopped for a while from blaming its collectors for the silence.
const longestTick = time.Second

// Tick tells the time, which must not fall. Call it about ten times a second.
func (u *Uplink) Tick(now time.Duration) {
	passed := min(now-u.now, longestTick)
	u.now = now
	u.run(func() {
		for _, s := range slices.Clone(u.streams) {
			if s.silent += passed; s.silent >= silenceTimeout {
				u.host.Cancel(s.id)
				u.end(s.id, "the collector has been silent for "+silenceTimeout.String())
			}
		}
		for _, l := range u.active {
			if l.pending.Records() > 0 {
				u.trim(l.pending)
			}
			// Even while something is in flight: it may take long to be acknowledged.
			if l.pending.Records() > 0 && l.aged && l.inflight < maxAged && len(l.queue) == 0 {
				l.seal()
			}
			l.aged = l.pending.Records() > 0
		}
		u.expire()
		u.tickReport()
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
	for _, s := range u.streams {
		u.host.Cancel(s.id)
	}
	u.streams = nil
}

// HeldBytes returns what counts against MaxBufferBytes.
func (u *Uplink) HeldBytes() int { return u.reserved + u.stored }

// WindowBytes returns what the collectors take at the moment, on all streams that batches go to. Direct lanes may have more.
func (u *Uplink) WindowBytes() int {
	bytes := 0
	for _, s := range u.streams {
		if !s.leaving {
			bytes += s.window
		}
	}
	return bytes
}
