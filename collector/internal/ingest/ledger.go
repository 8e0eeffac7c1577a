package ingest

import (
	"sync"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// keepUplink is how long an uplink is remembered after its last stream: reconnecting takes seconds.
const keepUplink = 10 * time.Minute

// ledger remembers the uplinks: how far the totals that they report have been counted. It is safe for concurrent
// use.
type ledger struct {
	count func(route string, level record.Level, answers uint64)
	now   func() time.Time

	mu      sync.Mutex
	uplinks map[record.UplinkID]*uplink
	swept   time.Time
}

// uplink is one incarnation. Sequence numbers mean something only within it, so this is where what is known of
// its batches belongs.
type uplink struct {
	streams int
	left    time.Time // when the last stream ended

}

func newLedger(count func(string, record.Level, uint64), now func() time.Time) *ledger {
	return &ledger{count: count, now: now, uplinks: map[record.UplinkID]*uplink{}}
}

// open notes a stream of an uplink.
func (l *ledger) open(id record.UplinkID) *uplink {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.swept) > keepUplink {
		l.swept = now
		for id, u := range l.uplinks {
			if u.streams == 0 && now.Sub(u.left) > keepUplink {
				delete(l.uplinks, id)
			}
		}
	}
	u := l.uplinks[id]
	if u == nil {
		u = &uplink{}
		l.uplinks[id] = u
	}
	u.streams++
	return u
}

// close notes the end of a stream.
func (l *ledger) close(u *uplink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u.streams--
	u.left = l.now()
}

// report counts the answers that a batch reports.
func (l *ledger) report(b *record.Received) {
	for _, a := range b.Answered {
		l.count(a.Route, a.Level, a.Answers)
	}
}
