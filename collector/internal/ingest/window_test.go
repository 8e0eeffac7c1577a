package ingest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
)

func TestWindow(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		load load
		want int64
	}{
		{"alone and idle: all of it", load{budget: 256 * mib, inFlight: 0, own: 0, streams: 1}, 256 * mib},
		{"alone: what is in flight counts against it", load{budget: 256 * mib, inFlight: 100 * mib, own: 100 * mib, streams: 1}, 256 * mib},
		{"four share", load{budget: 256 * mib, inFlight: 0, own: 0, streams: 4}, 64 * mib},
		{"others have used it up", load{budget: 256 * mib, inFlight: 256 * mib, own: 0, streams: 4}, 0},
		{"others leave a little", load{budget: 256 * mib, inFlight: 250 * mib, own: 0, streams: 4}, 6 * mib},
		{"full, own part included: nothing more", load{budget: 256 * mib, inFlight: 256 * mib, own: 10 * mib, streams: 4}, 10 * mib},
		{"above the budget", load{budget: 256 * mib, inFlight: 300 * mib, own: 0, streams: 4}, 0},
		{"a newcomer halves the share", load{budget: 256 * mib, inFlight: 200 * mib, own: 200 * mib, streams: 2}, 128 * mib},
		{"very many streams: the least share", load{budget: 256 * mib, inFlight: 0, own: 0, streams: 100_000}, minShare},
	} {
		if got := c.load.window(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestWorthSending(t *testing.T) {
	for _, c := range []struct {
		told, now int64
		want      bool
	}{
		{0, 0, false}, {0, 1, true}, {1, 0, true}, {800, 701, false}, {800, 700, true}, {800, 900, true},
		{800, 899, false}, {3, 2, true}, {3, 3, false},
	} {
		if got := worthSending(c.told, c.now); got != c.want {
			t.Errorf("told %d, now %d: %v, want %v", c.told, c.now, got, c.want)
		}
	}
}

// Uplinks that obey their windows and uplinks that do not, coming and going: what is in flight never exceeds the
// budget by more than one message a stream, nobody with nothing in flight is kept from reading, and an open
// window is told to all as soon as there is room.
func TestInFlightNeverExceedsTheBudgetByMoreThanAMessageAStream(t *testing.T) {
	const largest = 64 << 20
	property := func(seed uint64, limitMiB uint16, steps uint16) bool {
		r := rand.New(rand.NewPCG(seed, 0))
		b := newBudget(int64(limitMiB%512+1) << 20)
		type stream struct {
			*account
			pending []int64
			reading bool // admitted, its message not yet arrived
		}
		var streams []*stream
		var gone []*stream
		for range int(steps) % 2000 {
			if len(streams) == 0 || r.IntN(20) == 0 {
				s := &stream{}
				s.account = b.open(func() {})
				streams = append(streams, s)
			}
			i := r.IntN(len(streams))
			s := streams[i]
			switch r.IntN(8) {
			case 0:
				if len(streams) > 1 && !s.reading {
					s.close()
					gone = append(gone, s)
					streams = append(streams[:i], streams[i+1:]...)
				}
			case 1, 2, 3:
				s.reading = s.reading || s.load().mayRead()
				left := slices.ContainsFunc(gone, func(s *stream) bool { return len(s.pending) > 0 })
				if s.own == 0 && !s.reading && !left {
					t.Log("a stream with nothing in flight may not read")
					return false
				}
			case 4, 5:
				if s.reading { // whatever its window says
					n := 1 + r.Int64N(1<<(1+r.IntN(26)))
					s.take(n)
					s.pending, s.reading = append(s.pending, n), false
				}
			default:
				from := s
				if len(gone) > 0 && r.IntN(2) == 0 {
					from = gone[r.IntN(len(gone))]
				}
				if len(from.pending) > 0 {
					from.release(from.pending[0])
					from.pending = from.pending[1:]
				}
			}
			if over := b.total() - b.limit; over > int64(len(streams)+len(gone))*largest {
				t.Logf("%d over the budget with %d streams", over, len(streams))
				return false
			}
			// The exact statement: without each stream's last message the rest is below the budget.
			var last int64
			for _, s := range append(streams, gone...) {
				if n := len(s.pending); n > 0 {
					last += s.pending[n-1]
				}
			}
			if b.total()-last > b.limit {
				t.Logf("%d in flight without the last messages, budget %d", b.total()-last, b.limit)
				return false
			}
			if w := s.window(); b.total() < b.limit && w <= 0 {
				t.Logf("room for %d and the window is %d", b.limit-b.total(), w)
				return false
			}
		}
		return true
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 300}); err != nil {
		t.Error(err)
	}
}

// An uplink that ignores its window and comes again and again leaves no more than one message above the budget.
func TestStreamsThatEndDoNotAddUpAboveTheBudget(t *testing.T) {
	b := newBudget(1 << 20)
	var left []*account
	for range 10 {
		a := b.open(func() {})
		if a.load().mayRead() {
			a.take(8 << 20)
			left = append(left, a)
		}
		a.close()
	}
	if b.total() != 8<<20 {
		t.Errorf("%d bytes in flight, want one message of 8 MiB", b.total())
	}
	for _, a := range left {
		a.release(8 << 20)
	}
	if a := b.open(func() {}); !a.load().mayRead() || b.left != 0 {
		t.Errorf("a stream may not read, %d bytes of %d are still there", b.left, b.total())
	}
}
