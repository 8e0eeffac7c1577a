package uplink

import (
	"fmt"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// stream is one open stream and what is unacknowledged on it.
type stream struct {
	id       Stream
	welcome  bool // the collector has answered Hello
	window   int  // bytes that may be in flight
	inflight []*batch
	bytes    int           // of inflight
	silent   time.Duration // since the collector was last heard
}

// fits reports whether a batch may be sent now. A batch larger than the window goes when nothing else is in
// flight: it could never go otherwise.
func (s *stream) fits(size int) bool {
	if len(s.inflight) == 0 {
		return s.window > 0
	}
	return s.bytes+size <= s.window
}

func (u *Uplink) streams() []*stream {
	all := slices.Clone(u.leaving)
	if u.current != nil {
		all = append(all, u.current)
	}
	return all
}

func (u *Uplink) find(id Stream) *stream {
	if u.current != nil && u.current.id == id {
		return u.current
	}
	for _, s := range u.leaving {
		if s.id == id {
			return s
		}
	}
	return nil
}

// open tries to start a stream, unless it is too early after the last attempt.
func (u *Uplink) open() {
	if !u.wanting {
		u.wanting, u.wantedSince = true, u.now
	}
	if u.now < u.nextAttempt {
		return
	}
	u.backOff()
	id, err := u.host.Open()
	if err == nil {
		u.stats.StreamsOpened++
		u.current = &stream{id: id}
		if err = u.host.Send(id, u.config.Hello.AppendMessage(nil)); err == nil {
			return
		}
		u.host.Cancel(id)
		u.current = nil
	}
	u.stats.StreamsLost++
	u.warnLost(err.Error())
}

// backOff puts the attempt after this one off by a random time that doubles with every attempt in a row. The first
// one after a stream that worked is made at once.
func (u *Uplink) backOff() {
	limit := min(backoffBase<<min(u.attempts, 10), backoffMax)
	u.nextAttempt = u.now + time.Duration(u.config.Rand.Int64N(int64(limit)))
	u.attempts++
}

// warnLost says that collectors cannot be reached, at the first and then every tenth attempt in a row.
func (u *Uplink) warnLost(reason string) {
	if u.attempts%10 == 1 {
		u.host.Warn(fmt.Sprintf("no stream to a collector (attempt %d, %d bytes held): %s",
			u.attempts, u.HeldBytes(), reason))
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
	if s == u.current {
		u.current = nil
	} else {
		u.leaving = slices.DeleteFunc(u.leaving, func(other *stream) bool { return other == s })
	}
	if !s.welcome || len(s.inflight) > 0 {
		u.stats.StreamsLost++
		u.warnLost(reason)
	}
	u.requeue(s.inflight)
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
		s.welcome, s.window = true, m.Welcome.Window
		u.wanting = false
	case m.Window != nil:
		s.window = m.Window.Bytes
	case m.Ack != nil:
		u.acknowledge(s, m.Ack)
	case m.Draining:
		u.retire(s)
	}
}

// acknowledge forgets a batch whose records are all stored or refused. Any level will do: the uplink's answers
// promise nothing beyond its own memory, and the levels that collectors acknowledge are all higher.
func (u *Uplink) acknowledge(s *stream, ack *record.Ack) {
	i := slices.IndexFunc(s.inflight, func(b *batch) bool { return b.sequence == ack.Sequence })
	if i < 0 || ack.Level < record.LevelDisk {
		return
	}
	// Only now, not with the welcome: a batch that breaks every stream must not be tried without a pause.
	u.attempts = 0
	b := s.inflight[i]
	s.inflight = slices.Delete(s.inflight, i, i+1)
	s.bytes -= b.Len()
	u.stored -= b.Len()
	records := b.Records()
	u.recycle(b.Batch)
	refused := min(len(ack.Refused), records)
	u.stats.Refused += uint64(refused)
	u.stats.Stored += uint64(records - refused)
	if refused > 0 {
		u.host.Warn(fmt.Sprintf("a collector refused %d records of batch %d; the first: %s", refused, b.sequence,
			ack.Refused[0].Reason))
	}
	u.cancelLeaving(s)
}

// Retire has streams that are open now replaced.
func (u *Uplink) Retire(which func(Stream) bool) {
	u.run(func() {
		for _, s := range u.streams() {
			if which(s.id) {
				u.retire(s)
			}
		}
	})
}

// retire makes s a leaving stream: it gets no more batches, and is canceled when what is in flight on it is
// acknowledged.
func (u *Uplink) retire(s *stream) {
	if s == u.current {
		u.current = nil
		u.leaving = append(u.leaving, s)
	}
	u.cancelLeaving(s)
}

func (u *Uplink) cancelLeaving(s *stream) {
	if s != u.current && len(s.inflight) == 0 {
		u.host.Cancel(s.id)
		u.leaving = slices.DeleteFunc(u.leaving, func(other *stream) bool { return other == s })
	}
}
