package ingest

import (
	"strings"
	"sync"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

const (
	// keepUplink is how long an uplink is remembered after its last stream: reconnecting takes seconds.
	keepUplink = 10 * time.Minute
	// maxTotals bounds the totals remembered of one uplink.
	maxTotals = 4 * countedRoutes
)

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

	met    bool // a batch has come
	whole  bool // beginning with the very first, so that totals count from zero
	totals map[total]uint64
}

type total struct {
	route string
	level record.Level
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
		u = &uplink{totals: map[total]uint64{}}
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

// report counts what the totals of a batch add to those that the uplink reported before. A total that does not
// rise, as in a batch that is sent again, adds nothing. answeredHere is how many of the batch's records have that
// route and level.
//
// An uplink that comes from another collector brings totals that the other has counted up to somewhere. Of the
// first one of each kind only as much is counted as the batch itself brings: the answers since the batch before
// are those of its records, give or take what the uplink has in hand. Of a batch that was sent to the other
// collector before, nothing is.
func (l *ledger) report(u *uplink, b *record.Received, answeredHere func(route string, level record.Level) uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !u.met {
		u.met, u.whole = true, b.Sequence == 1 && !b.Redelivered
	}
	for _, a := range b.Answered {
		kind := total{a.Route, a.Level}
		known, ok := u.totals[kind]
		if !ok {
			if len(u.totals) >= maxTotals {
				continue
			}
			kind.route = strings.Clone(a.Route) // or it would keep the whole message
			switch {
			case u.whole:
			case b.Redelivered:
				known = a.Total
			default:
				known = a.Total - min(a.Total, answeredHere(a.Route, a.Level))
			}
		}
		if a.Total > known {
			l.count(a.Route, a.Level, a.Total-known)
			known = a.Total
		}
		u.totals[kind] = known
	}
}
