package ingest

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

// copies is one stream's copies of batches: how often each was told an outcome, and the last one.
type copies struct {
	told    map[uint64]int
	outcome outcome
	ended   bool
}

func newCopies() *copies { return &copies{told: map[uint64]int{}} }

func (c *copies) of(sequence uint64) waiter {
	return waiter{
		told: func(o outcome) {
			c.told[sequence]++
			c.outcome = o
		},
		gone: func() bool { return c.ended },
	}
}

func newUplink() *uplink { return newLedger(time.Now).open(record.UplinkID{1}) }

func TestRepeats(t *testing.T) {
	refused := []produce.Refusal{{Index: 3, Reason: "too large"}}
	for name, c := range map[string]struct {
		before func(u *uplink)
		again  record.Head
		first  bool // it is taken for new
		told   int
		want   outcome
	}{
		"of one that was not here": {func(u *uplink) {}, record.Head{Sequence: 1}, true, 0, outcome{}},
		"in progress": {func(u *uplink) { u.receive(record.Head{Sequence: 1}, newCopies().of(1)) },
			record.Head{Sequence: 1}, false, 0, outcome{}},
		"settled": {func(u *uplink) {
			u.receive(record.Head{Sequence: 1}, newCopies().of(1))
			u.settle(1, outcome{refused: refused, direct: true})
		}, record.Head{Sequence: 1}, false, 1, outcome{refused: refused, direct: true}},
		"not stored": {func(u *uplink) {
			u.receive(record.Head{Sequence: 1}, newCopies().of(1))
			u.settle(1, outcome{err: errors.New("no disk")})
		}, record.Head{Sequence: 1}, true, 0, outcome{}},
		"acknowledged elsewhere, and late": {func(u *uplink) {
			u.receive(record.Head{Sequence: 9, SettledBelow: 5}, newCopies().of(9))
		}, record.Head{Sequence: 4, SettledBelow: 2}, false, 1, outcome{}},
		"the lowest that is not acknowledged": {func(u *uplink) {
			u.receive(record.Head{Sequence: 9, SettledBelow: 5}, newCopies().of(9))
		}, record.Head{Sequence: 5}, true, 0, outcome{}},
		"the last number": {func(u *uplink) {
			u.receive(record.Head{Sequence: math.MaxUint64}, newCopies().of(math.MaxUint64))
			u.settle(math.MaxUint64, outcome{})
		}, record.Head{Sequence: math.MaxUint64, SettledBelow: math.MaxUint64}, false, 1, outcome{}},
		"too many refusals to remember": {func(u *uplink) {
			u.receive(record.Head{Sequence: 1}, newCopies().of(1))
			u.settle(1, outcome{refused: make([]produce.Refusal, keepBatches+1)})
		}, record.Head{Sequence: 1}, true, 0, outcome{}},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUplink()
			c.before(u)
			again := newCopies()
			if first := u.receive(c.again, again.of(c.again.Sequence)); first != c.first {
				t.Errorf("taken for new: %v", first)
			}
			if n := again.told[c.again.Sequence]; n != c.told || !slices.Equal(again.outcome.refused, c.want.refused) ||
				again.outcome.direct != c.want.direct {
				t.Errorf("told %d times, %+v", n, again.outcome)
			}
		})
	}
}

func TestSettlingTellsAllWhoWaitAndKeepsNobodyWhoIsGone(t *testing.T) {
	u := newUplink()
	first := newCopies()
	u.receive(record.Head{Sequence: 7}, first.of(7))
	first.ended = true
	var streams []*copies
	for range 100 { // while Kafka is away, streams come and go
		s := newCopies()
		if u.receive(record.Head{Sequence: 7, Redelivered: true}, s.of(7)) {
			t.Fatal("taken for new")
		}
		if n := len(u.inProgress[7]); n > 2 {
			t.Fatalf("%d copies are kept", n)
		}
		streams = append(streams, s)
		s.ended = len(streams) < 99
	}
	u.settle(7, outcome{})
	if streams[98].told[7] != 1 || streams[99].told[7] != 1 {
		t.Errorf("told %v and %v", streams[98].told, streams[99].told)
	}
}

func TestRemembersABoundedNumber(t *testing.T) {
	u := newUplink()
	u.receive(record.Head{Sequence: 1}, newCopies().of(1)) // stuck, so nothing is settled below
	refused := []produce.Refusal{{Index: 1}}
	for sequence := uint64(2); sequence < 3*keepBatches; sequence++ {
		u.receive(record.Head{Sequence: sequence, SettledBelow: 1}, newCopies().of(sequence))
		u.settle(sequence, outcome{refused: refused[:sequence%2]})
		if len(u.settled) > keepBatches || len(u.order) > keepBatches || u.refusals > keepBatches/2 {
			t.Fatalf("remembers %d batches, %d numbers, %d refusals", len(u.settled), len(u.order), u.refusals)
		}
	}
	u.settle(1, outcome{})
	for sequence, known := range map[uint64]bool{
		1: true, 2: false, 2*keepBatches - 1: false, 2*keepBatches + 1: true, 3*keepBatches - 1: true,
	} {
		if got := !u.receive(record.Head{Sequence: sequence}, newCopies().of(sequence)); got != known {
			t.Errorf("batch %d is known: %v", sequence, got)
		}
	}
	u.receive(record.Head{Sequence: 4 * keepBatches, SettledBelow: 4 * keepBatches}, newCopies().of(4*keepBatches))
	if len(u.settled) != 0 || len(u.order) != 0 || u.refusals != 0 {
		t.Errorf("remembers %d batches, %d numbers, %d refusals of what is settled", len(u.settled), len(u.order), u.refusals)
	}
}

// An uplink sends batches over streams that end at any time, and sends again what was not acknowledged; now and then a
// copy comes late. Whatever happens, every batch is stored once while the process lives, and every copy on a stream that
// is still there is acknowledged.
func TestEveryBatchIsStoredOnceAndEveryCopyAcknowledged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, i))
		u := newUplink()
		type copied struct {
			stream   *copies
			sequence uint64
		}
		var (
			streams    = []*copies{newCopies(), newCopies()}
			next       = uint64(1)
			on         = map[uint64]*copies{} // where the uplink has a batch; until it is acknowledged
			done       = map[uint64]bool{}    // acknowledged to the uplink
			sent       []copied
			storing    []uint64
			stored     = map[uint64]int{}
			below      = uint64(1)
			deliveries = map[copied]int{} // copies received on a stream that lives
		)
		receive := func(s *copies, sequence uint64) {
			deliveries[copied{s, sequence}]++
			if u.receive(record.Head{Sequence: sequence, SettledBelow: below}, s.of(sequence)) {
				storing = append(storing, sequence)
			}
		}
		settle := func() {
			at := r.IntN(len(storing))
			sequence := storing[at]
			storing = slices.Delete(storing, at, at+1)
			stored[sequence]++
			u.settle(sequence, outcome{})
		}
		hear := func() { // the uplink reads its acks
			for sequence, s := range on {
				if !s.ended && s.told[sequence] > 0 {
					done[sequence] = true
					delete(on, sequence)
				}
			}
			for done[below] {
				below++
			}
		}
		for range 400 {
			switch r.IntN(10) {
			case 0, 1, 2, 3:
				s := streams[r.IntN(len(streams))]
				on[next] = s
				sent = append(sent, copied{s, next})
				receive(s, next)
				next++
			case 4, 5, 6:
				if len(storing) > 0 {
					settle()
				}
			case 7:
				hear()
			case 8: // a stream ends, and what it had goes to a new one
				at := r.IntN(len(streams))
				old := streams[at]
				old.ended = true
				streams[at] = newCopies()
				for sequence := uint64(1); sequence < next; sequence++ {
					if on[sequence] == old {
						s := streams[r.IntN(len(streams))]
						on[sequence] = s
						sent = append(sent, copied{s, sequence})
						receive(s, sequence)
					}
				}
			case 9: // a copy of long ago
				if len(sent) > 0 {
					c := sent[r.IntN(len(sent))]
					if c.stream.told[c.sequence] == 0 && !c.stream.ended {
						receive(c.stream, c.sequence)
					} else {
						late := newCopies()
						receive(late, c.sequence)
					}
				}
			}
		}
		for len(storing) > 0 {
			settle()
		}
		for sequence := uint64(1); sequence < next; sequence++ {
			if stored[sequence] != 1 {
				t.Fatalf("seed %d/%d: batch %d is stored %d times", seed, i, sequence, stored[sequence])
			}
		}
		for c, n := range deliveries {
			if got := c.stream.told[c.sequence]; got != n && !c.stream.ended {
				t.Fatalf("seed %d/%d: %d copies of batch %d have %d acks", seed, i, n, c.sequence, got)
			}
		}
		if len(u.inProgress) > 0 {
			t.Fatalf("seed %d/%d: %d batches are in progress for ever", seed, i, len(u.inProgress))
		}
	}
}

func TestUplinksAreForgottenWhenNothingOfThemCanCome(t *testing.T) {
	now := time.Now()
	l := newLedger(func() time.Time { return now })
	idle, busy, streaming := record.UplinkID{1}, record.UplinkID{2}, record.UplinkID{3}
	restored := record.UplinkID{4}
	l.close(l.open(idle))
	u := l.open(busy)
	u.receive(record.Head{Sequence: 1}, newCopies().of(1))
	l.close(u)
	l.open(streaming)
	l.restore(restored, 5)
	if l.open(restored).receive(record.Head{Sequence: 5}, newCopies().of(5)) {
		t.Error("what was restored is taken for new")
	}
	now = now.Add(keepUplink + time.Second)
	l.open(record.UplinkID{5})
	for id, kept := range map[record.UplinkID]bool{idle: false, busy: true, streaming: true, restored: true} {
		if _, got := l.uplinks[id]; got != kept {
			t.Errorf("uplink %d is kept: %v", id[0], got)
		}
	}
	u.settle(1, outcome{})
	now = now.Add(keepUplink + time.Second)
	l.open(record.UplinkID{6})
	if _, kept := l.uplinks[busy]; kept {
		t.Error("an uplink whose last batch is settled is kept for ever")
	}
}
