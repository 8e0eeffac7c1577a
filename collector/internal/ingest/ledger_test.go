package ingest

import (
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

func reporting(counted *uint64, now func() time.Time) *ledger {
	return newLedger(func(_ string, _ record.Level, n uint64) { *counted += n }, now)
}

func batchWithTotal(sequence uint64, redelivered bool, total uint64) *record.Received {
	return &record.Received{
		Head:     record.Head{Sequence: sequence, Redelivered: redelivered},
		Answered: []record.Answered{{Route: "leads", Level: record.LevelMemory, Total: total}},
	}
}

func TestLedger(t *testing.T) {
	type report struct {
		sequence    uint64
		redelivered bool
		total       uint64
		records     uint64
	}
	for _, c := range []struct {
		name    string
		reports []report
		want    uint64
	}{
		{"from the beginning", []report{{1, false, 10, 10}, {2, false, 15, 5}}, 15},
		{"more answered than sent", []report{{1, false, 10, 3}}, 10},
		{"a batch again", []report{{1, false, 10, 10}, {2, false, 15, 5}, {2, true, 15, 5}}, 15},
		{"out of order", []report{{1, false, 10, 10}, {3, false, 20, 5}, {2, true, 15, 5}}, 20},
		{"from another collector", []report{{57, false, 1000, 8}, {58, false, 1010, 10}}, 18},
		{"from another, a batch again", []report{{57, true, 1000, 8}, {58, false, 1010, 10}}, 10},
		{"from another, its first batch again", []report{{1, true, 8, 8}, {2, false, 18, 10}}, 10},
		{"a total lower than the records", []report{{57, false, 3, 8}}, 3},
	} {
		var counted uint64
		l := reporting(&counted, time.Now)
		u := l.open(record.UplinkID{1})
		for _, r := range c.reports {
			l.report(u, batchWithTotal(r.sequence, r.redelivered, r.total),
				func(string, record.Level) uint64 { return r.records })
		}
		if counted != c.want {
			t.Errorf("%s: counted %d, want %d", c.name, counted, c.want)
		}
	}
}

// However often and in whatever order batches come again, over however many streams: the count is the highest
// total.
func TestLedgerCountsTheHighestTotal(t *testing.T) {
	property := func(seed uint64, n uint8) bool {
		r := rand.New(rand.NewPCG(seed, 0))
		var counted, highest, previous uint64
		l := reporting(&counted, time.Now)
		u := l.open(record.UplinkID{1})
		for i := range int(n) + 1 {
			sequence, total := uint64(i), previous
			if i > 0 && r.IntN(3) == 0 { // the batch before again
				l.close(u)
				u = l.open(record.UplinkID{1})
			} else {
				sequence = uint64(i + 1)
				previous = highest
				highest += r.Uint64N(100)
				total = highest
			}
			l.report(u, batchWithTotal(sequence, sequence != uint64(i+1), total),
				func(string, record.Level) uint64 { return 0 })
		}
		return counted == highest
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

func TestLedgerForgetsUplinksThatAreLongGone(t *testing.T) {
	now := time.Now()
	var counted uint64
	l := reporting(&counted, func() time.Time { return now })
	staying := l.open(record.UplinkID{1})
	l.close(l.open(record.UplinkID{2}))
	now = now.Add(keepUplink / 2)
	l.close(l.open(record.UplinkID{3}))
	now = now.Add(keepUplink/2 + time.Second)
	l.open(record.UplinkID{4})
	if len(l.uplinks) != 3 || l.uplinks[record.UplinkID{1}] != staying || l.uplinks[record.UplinkID{2}] != nil {
		t.Errorf("remembers %v", l.uplinks)
	}
}
