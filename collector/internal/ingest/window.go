package ingest

// minShare is the least share of the budget that a stream is told about, so that with very many streams each can
// still send a sensible batch. The sum of what streams are told may then exceed the budget; what they have in
// flight cannot, since mayRead holds.
const minShare = 64 << 10

// load is what the window policy looks at: bytes of batches that were received and not yet acknowledged.
type load struct {
	budget   int64 // for all streams together
	inFlight int64 // of all streams, including those that have ended
	own      int64 // of the stream in question; part of inFlight
	left     int64 // of streams that have ended; part of inFlight
	streams  int   // that share the budget; at least 1
}

// share returns a stream's part of the budget.
func (l load) share() int64 { return max(l.budget/int64(l.streams), minShare) }

// window returns how many bytes the stream may have unacknowledged: its share, as far as there is room.
func (l load) window() int64 {
	return min(l.share(), l.own+max(0, l.budget-l.inFlight))
}

// mayRead says whether the stream's next message may be taken off the connection; if not, HTTP/2's flow control
// holds it back. An uplink that keeps to its window never notices. With it, what is in flight never exceeds the
// budget by more than one message a stream, whatever uplinks do:
//
//   - below the budget a message adds itself, once per stream that was let in at the same time;
//   - at or above it only streams with nothing in flight may add theirs, which then is all they have; and not while
//     streams that have ended left something, or it would add up over streams that come and go.
//
// The second case keeps one uplink that ignores its window from starving others.
func (l load) mayRead() bool {
	if l.inFlight < l.budget {
		return l.own < l.share()
	}
	return l.own == 0 && l.left == 0
}

// worthSending says whether a window has changed enough from what the uplink was told: by an eighth, or to or
// from zero.
func worthSending(told, now int64) bool {
	if told == 0 || now == 0 {
		return told != now
	}
	return max(told-now, now-told) >= max(told/8, 1)
}
