package ingest

import (
	"math"
	"slices"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// minPart is the least part of what is free that a stream is told about, so that with very many streams each can still
// send a sensible batch. The sum of what streams are told may then exceed what is free; what they have in flight
// cannot, since mayRead holds.
const minPart = 64 << 10

// greed is how many times what is free a stream may have in flight, if that is more than an equal share. Three topics
// that get stuck one after the other end at 26 times what they leave (2/3 of all, 2/3 of the rest, and again), and may
// have come on one stream.
const greed = 32

// unlimited is load.disk where there is no spool.
const unlimited = math.MaxInt64

// load is what the window policy looks at. In flight are bytes of batches that were received and not yet acknowledged.
type load struct {
	budget   int64 // for all streams together
	inFlight int64 // of all streams, including those that have ended
	own      int64 // of the stream in question; part of inFlight
	left     int64 // of streams that have ended; part of inFlight
	streams  int   // that share the budget; at least 1
	disk     int64 // what the spool has room for
}

func (l load) free() int64 { return max(0, l.budget-l.inFlight) }

// window returns how many bytes the stream may have unacknowledged: what it has, and its part of half of what is free
// in memory and on disk; direct leaves the disk out, for batches that need none. So streams that keep to windows that are
// up to date never use more than half of what was free, and what a topic that is stuck leaves (a third, see budget) is not
// used up by what of it was under way when it was closed: a sixth is left for others. And since a stream may always add to
// what it has, others find room on the very stream that has much of such a topic.
func (l load) window() (bytes, direct int64) {
	var more int64
	if l.mayRead() {
		more = l.part(l.free())
	}
	if l.disk > 0 {
		bytes = l.own + min(more, l.part(l.disk))
	}
	return bytes, l.own + more
}

func (l load) part(free int64) int64 {
	return min(free, max(free/int64(2*l.streams), minPart))
}

// mayRead says whether the stream's next message may be taken off the connection; if not, HTTP/2's flow control
// holds it back. An uplink that keeps to its window never notices. With it, what is in flight never exceeds the
// budget by more than one message a stream, whatever uplinks do:
//
//   - below the budget a message adds itself, once per stream that was let in at the same time;
//   - at or above it only streams with nothing in flight may add theirs, which then is all they have; and not while
//     streams that have ended left something, or it would add up over streams that come and go.
//
// One uplink that ignores its window does not starve others: beyond an equal share, which is all that it gets where
// they want theirs too, it is read only while it leaves a 33rd of the budget free; and the second case always lets
// others in. Nor does a topic that is stuck, whatever its uplinks do: the same holds for the streams that brought it.
func (l load) mayRead() bool {
	if l.inFlight < l.budget {
		return l.own < l.budget/int64(l.streams) || l.own < greed*l.free()
	}
	return l.own == 0 && l.left == 0
}

// terms are what a Window message says.
type terms struct {
	bytes  int64
	direct int64 // bytes for batches that pass the spool by; not less
	own    int64 // bytes of that in use
	closed []record.ClosedTopic
}

// worthSending says whether the terms have changed enough from what the uplink was told: a window by an eighth of what it left
// free, or to or from zero, or the closed topics.
func (t terms) worthSending(told terms) bool {
	return differs(told.bytes, t.bytes, told.own) || differs(told.direct, t.direct, told.own) || !slices.Equal(t.closed, told.closed)
}

func differs(told, now, used int64) bool {
	if told == 0 || now == 0 {
		return told != now
	}
	return max(told-now, now-told) >= max((told-used)/8, 1)
}

func (t terms) message() *collectpb.CollectorMessage {
	w := &collectpb.Window{Bytes: uint64(t.bytes)}
	if t.direct > t.bytes {
		w.DirectBytes = uint64(t.direct)
	}
	for _, c := range t.closed {
		w.Closed = append(w.Closed, &collectpb.ClosedTopic{Topic: c.Topic, Level: collectpb.Level(c.Level)})
	}
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{Window: w}}
}

// closedTopics returns what streams are told: of the topics closed for want of memory, which direct batches wait in,
// and those closed for want of disk.
func closedTopics(memory, disk []string, direct, spooled []record.Level) []record.ClosedTopic {
	var closed []record.ClosedTopic
	for _, c := range []struct {
		topics []string
		levels []record.Level
	}{{memory, direct}, {disk, spooled}} {
		for _, topic := range c.topics {
			for _, level := range c.levels {
				closed = append(closed, record.ClosedTopic{Topic: topic, Level: level})
			}
		}
	}
	return closed
}
