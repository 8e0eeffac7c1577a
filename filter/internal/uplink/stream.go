package uplink

import (
	"fmt"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// The pace of reconnecting: the n-th attempt in a row waits a random time up to backoffBase·2ⁿ, at most
// backoffMax. A stream is given up when it is silent for silenceTimeout: a collector says something at least
// once a second.
const (
	backoffBase    = 50 * time.Millisecond
	backoffMax     = 2 * time.Second
	silenceTimeout = 5 * time.Second
	// openTimeout is how long a stream that is being opened keeps others from being so.
	openTimeout = time.Second
	// warnEvery is how often people are told of lost streams.
	warnEvery = 10 * time.Second
)

// Streams live for hours, and collectors come and go. So an uplink tries now and then where a new stream gets to: a
// collector that it has no stream to yet takes the place of the one that it has had for longest. Every uplink does so at
// least once in probeMax, so a new collector has its share within a minute. While there are fewer streams than wanted the
// pause begins at probeMin and doubles.
const (
	probeMin = 2 * time.Second
	probeMax = 40 * time.Second
)

// stream is one open stream and what is unacknowledged on it.
type stream struct {
	id       Stream
	welcome  bool          // the collector has answered Hello
	since    time.Duration // on the uplink's clock, when it did
	instance string        // of the collector
	leaving  bool          // draining or retired: only acks are expected
	window   int           // bytes that may be in flight
	wide     int           // the same for direct lanes, which need no spool; not less
	closed   map[laneKey]bool
	inflight []*batch
	bytes    int           // of inflight
	direct   int           // bytes of those of direct lanes
	beyond   [2]*batch     // those of inflight that went beyond their windows, one of each class
	silent   time.Duration // since the collector was last heard
}

// serves reports whether batches go to the stream.
func (s *stream) serves() bool { return s.welcome && !s.leaving }

// fits reports whether size bytes of a lane may be sent now. One batch of each class at a time may go beyond its window: a
// large one might never find it empty enough.
func (s *stream) fits(l *lane, size int) bool {
	switch {
	case !s.serves():
		return false
	case l.topic == "": // a report
		return true
	case s.closed[l.laneKey]:
		return false
	}
	return s.bytes+size <= s.windowOf(l) || s.takesOne(l)
}

// windowOf is the window that holds for a lane.
func (s *stream) windowOf(l *lane) int {
	if l.direct {
		return s.wide
	}
	return s.window
}

// takesOne reports whether a batch of any size may go beyond the lane's window.
func (s *stream) takesOne(l *lane) bool { return s.bytes < s.windowOf(l) && s.beyond[l.class()] == nil }

// carry notes a batch that is sent.
func (s *stream) carry(b *batch) {
	s.inflight = append(s.inflight, b)
	s.count(b, b.Len())
	if beyond := &s.beyond[b.lane.class()]; s.bytes > s.windowOf(b.lane) && *beyond == nil {
		*beyond = b
	}
}

// drop notes that a batch is acknowledged.
func (s *stream) drop(b *batch) {
	s.inflight = slices.DeleteFunc(s.inflight, func(other *batch) bool { return other == b })
	s.count(b, -b.Len())
	if beyond := &s.beyond[b.lane.class()]; *beyond == b {
		*beyond = nil
	}
}

func (s *stream) count(b *batch, bytes int) {
	s.bytes += bytes
	if b.lane.direct {
		s.direct += bytes
	}
}

// takes is what the collectors take of a lane, beyond what waits to be sent.
type takes struct {
	welcome bool // there is a collector
	open    bool // that has not closed the lane
	bytes   int
	one     bool // a batch of any size
}

func (u *Uplink) takes(l *lane) takes {
	t, unsent, direct := takes{}, u.wire, u.direct
	spooled := 0 // what the collectors' spools take
	for _, s := range u.streams {
		unsent -= s.bytes
		direct -= s.direct
		if !s.serves() {
			continue
		}
		t.welcome = true
		spooled += max(0, s.window-s.bytes)
		if s.closed[l.laneKey] {
			continue
		}
		t.open = true
		t.bytes += max(0, s.windowOf(l)-s.bytes)
		t.one = t.one || s.takesOne(l)
	}
	if l.direct { // what waits for room in a spool does not stand in the way
		unsent = direct + min(unsent-direct, spooled)
	}
	t.bytes -= unsent
	t.one = t.one && unsent == 0
	return t
}

// leastLoaded returns the stream with the least in flight of those that take size bytes of a lane; nil where none does. Of
// equal ones it is the newest: while there is little to do all records go one way, and keep their order, and a collector
// that is new has its share even then.
func (u *Uplink) leastLoaded(l *lane, size int) *stream {
	var best *stream
	for _, s := range slices.Backward(u.streams) {
		if s.fits(l, size) && (best == nil || s.bytes < best.bytes) {
			best = s
		}
	}
	return best
}

func (u *Uplink) find(id Stream) *stream {
	for _, s := range u.streams {
		if s.id == id {
			return s
		}
	}
	return nil
}

// serving returns how many streams batches go to, of how many of them the window is open, and whether another one is
// being opened.
func (u *Uplink) serving() (n, open int, opening bool) {
	for _, s := range u.streams {
		switch {
		case s.serves():
			n++
			if s.window > 0 {
				open++
			}
		case !s.welcome && s.silent < openTimeout:
			opening = true
		}
	}
	return n, open, opening
}

// reach sees to it that there are streams, or soon will be.
func (u *Uplink) reach() {
	serving, open, opening := u.serving()
	if serving == 0 && !u.wanting {
		u.wanting, u.wantedSince = true, u.now
	}
	switch {
	case opening, serving > 0 && len(u.streams) >= 2*u.config.Streams: // those that leave would add up while a topic is stuck
	case serving == 0 && u.now >= u.nextAttempt:
		u.backOff()
		u.open()
	case serving > 0 && u.now >= u.nextProbe:
		u.putOffProbe(open)
		u.open()
	}
}

func (u *Uplink) open() {
	id, err := u.host.Open()
	if err == nil {
		u.stats.StreamsOpened++
		u.streams = append(u.streams, &stream{id: id})
		if err = u.host.Send(id, u.config.Hello.AppendMessage(nil)); err == nil {
			return
		}
		u.host.Cancel(id)
		u.forget(u.find(id))
	}
	u.lost(err.Error())
}

// backOff puts the attempt after this one off by a random time that doubles with every attempt in a row. The first
// one after a stream that worked is made at once.
func (u *Uplink) backOff() {
	limit := min(backoffBase<<min(u.attempts, 10), backoffMax)
	u.nextAttempt = u.now + time.Duration(u.config.Rand.Int64N(int64(limit)))
	u.attempts++
}

// putOffProbe is told how many streams serve with an open window.
func (u *Uplink) putOffProbe(open int) {
	limit := probeMax
	if open < u.config.Streams {
		limit = min(probeMin<<min(u.probes, 10), probeMax)
		u.probes++
	}
	u.nextProbe = u.now + limit/2 + time.Duration(u.config.Rand.Int64N(int64(limit/2)))
}

// probeSoon has a stream replaced that serves no more.
func (u *Uplink) probeSoon(at time.Duration) {
	u.probes, u.nextProbe = 0, min(u.nextProbe, at)
}

// lost counts a stream that ended otherwise than it should, and says so now and then.
func (u *Uplink) lost(reason string) {
	u.stats.StreamsLost++
	if u.now >= u.nextWarning {
		u.nextWarning = u.now + warnEvery
		serving, _, _ := u.serving()
		u.host.Warn(fmt.Sprintf("a stream to a collector is lost (%d left, %d bytes held): %s", serving, u.HeldBytes(), reason))
	}
}

// Closed tells that a stream has ended, for whatever reason.
func (u *Uplink) Closed(id Stream, reason string) {
	if u.busy {
		u.ended = append(u.ended, ended{id, reason})
		return
	}
	u.run(func() { u.end(id, reason) })
}

// end forgets a stream; what it had in flight is sent again on another one.
func (u *Uplink) end(id Stream, reason string) {
	s := u.find(id)
	if s == nil {
		return
	}
	u.forget(s)
	if s.serves() {
		u.backOff()
		if u.lived(s) {
			u.probeSoon(u.now)
		}
	}
	if !s.welcome || len(s.inflight) > 0 {
		u.lost(reason)
	}
	for _, b := range s.inflight {
		b.lane.requeue(b)
		u.activate(b.lane)
	}
}

// lived reports whether a stream has served for long enough to say that streams do not break. Acknowledgements alone do
// not: beside a batch that breaks every stream others get through, and it must not be tried without a pause.
func (u *Uplink) lived(s *stream) bool { return u.now-s.since >= backoffMax }

func (u *Uplink) forget(s *stream) {
	u.streams = slices.DeleteFunc(u.streams, func(other *stream) bool { return other == s })
}

// Received takes a message from a collector; the uplink does not keep it.
func (u *Uplink) Received(id Stream, message []byte) {
	if u.busy {
		u.heard = append(u.heard, heard{id, slices.Clone(message)})
		return
	}
	u.run(func() { u.receive(id, message) })
}

func (u *Uplink) receive(id Stream, message []byte) {
	s := u.find(id)
	if s == nil {
		return
	}
	m, err := record.ParseCollectorMessage(message)
	if err != nil {
		u.host.Cancel(id)
		u.end(id, err.Error())
		return
	}
	s.silent = 0
	switch {
	case m.Welcome != nil:
		u.welcome(s, m.Welcome)
	case m.Window != nil:
		s.wide = max(m.Window.Bytes, m.Window.Direct)
		if s.window = m.Window.Bytes; s.window == 0 && s.serves() {
			u.nextProbe = min(u.nextProbe, u.now+probeMin)
		}
		s.closed = nil
		for _, c := range m.Window.Closed {
			if s.closed == nil {
				s.closed = map[laneKey]bool{}
			}
			s.closed[laneKey{c.Topic, c.Level.Direct()}] = true
		}
	case m.Ack != nil:
		u.acknowledge(s, m.Ack)
	case m.Draining:
		u.retire(s)
	}
}

// welcome begins to use a stream, unless there is one to the same collector already.
func (u *Uplink) welcome(s *stream, w *record.Welcome) {
	s.welcome, s.since, s.instance = true, u.now, string(w.Instance)
	s.window, s.wide = w.Window, w.Window
	u.wanting = false
	var last *stream // the first to leave: one that takes nothing, or the oldest
	for _, other := range u.streams {
		switch {
		case !other.serves():
		case other != s && other.instance == s.instance && s.instance != "":
			u.host.Cancel(s.id)
			u.forget(s)
			return
		case last == nil || other.window == 0 && last.window > 0:
			last = other
		}
	}
	serving, open, _ := u.serving()
	if serving > u.config.Streams {
		u.retire(last)
	}
	switch {
	case serving >= u.config.Streams || s.window == 0:
		u.putOffProbe(open)
	case u.attempts > 1:
		u.probeSoon(u.nextAttempt) // streams have been breaking
	default:
		u.probeSoon(u.now)
	}
}

// acknowledge forgets a batch of which every record is stored or refused.
func (u *Uplink) acknowledge(s *stream, ack *record.Ack) {
	i := slices.IndexFunc(s.inflight, func(b *batch) bool { return b.sequence == ack.Sequence })
	if i < 0 {
		return
	}
	b := s.inflight[i]
	if ack.Level < record.LevelDisk || b.lane.direct && ack.Level < record.LevelKafka {
		u.host.Cancel(s.id)
		u.end(s.id, fmt.Sprintf("a collector acknowledges batch %d at level %v, which is not enough", b.sequence, ack.Level))
		return
	}
	if u.lived(s) {
		u.attempts = 0
	}
	s.drop(b)
	b.lane.inflight--
	u.settle(b, ack)
	u.cancelLeaving(s)
}

// Retire has streams that are open now replaced.
func (u *Uplink) Retire(which func(Stream) bool) {
	u.run(func() {
		for _, s := range slices.Clone(u.streams) {
			if which(s.id) {
				u.retire(s)
			}
		}
	})
}

// retire makes s a leaving stream: it gets no more batches, and is canceled when what is in flight on it is
// acknowledged.
func (u *Uplink) retire(s *stream) {
	if s.serves() { // it has not broken, so there is no reason to wait
		u.attempts, u.nextAttempt = 0, u.now
		u.probeSoon(u.now)
	}
	s.leaving = true
	u.cancelLeaving(s)
}

func (u *Uplink) cancelLeaving(s *stream) {
	if s.leaving && len(s.inflight) == 0 {
		u.host.Cancel(s.id)
		u.forget(s)
	}
}
