package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"

	"github.com/marceloboeira/crowd/collector/record"
)

func TestWindow(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		load load
		want int64
	}{
		{"alone and idle: half of it", load{budget: 256 * mib, streams: 1}, 128 * mib},
		{"alone: half of what is free, beside what it has", load{budget: 256 * mib, inFlight: 100 * mib, own: 100 * mib, streams: 1},
			178 * mib},
		{"four share half of it", load{budget: 256 * mib, streams: 4}, 32 * mib},
		{"others have used it up", load{budget: 256 * mib, inFlight: 256 * mib, streams: 4}, 0},
		{"others leave a little", load{budget: 256 * mib, inFlight: 248 * mib, streams: 4}, mib},
		{"full, own part included: nothing more", load{budget: 256 * mib, inFlight: 256 * mib, own: 10 * mib, streams: 4}, 10 * mib},
		{"above the budget", load{budget: 256 * mib, inFlight: 300 * mib, streams: 4}, 0},
		{"a stuck topic's 2/3, all on this stream", load{budget: 240 * mib, inFlight: 160 * mib, own: 160 * mib, streams: 10},
			164 * mib},
		{"so greedy that only a 33rd is free", load{budget: 99 * mib, inFlight: 96 * mib, own: 96 * mib, streams: 2}, 96 * mib},
		{"very many streams: the least part", load{budget: 256 * mib, streams: 100_000}, minPart},
		{"very many streams, and less than that is free", load{budget: 256 * mib, inFlight: 256*mib - 10, streams: 100_000}, 10},
		{"the disk has less", load{budget: 256 * mib, disk: 10 * mib, streams: 5}, mib},
		{"the disk has less, beside what it has", load{budget: 256 * mib, inFlight: mib, own: mib, disk: 10 * mib, streams: 5}, 2 * mib},
		{"the disk has nothing", load{budget: 256 * mib, inFlight: mib, own: mib, disk: -1, streams: 1}, 0},
	} {
		switch c.load.disk {
		case 0:
			c.load.disk = unlimited
		case -1:
			c.load.disk = 0
		}
		bytes, direct := c.load.window()
		if bytes != c.want {
			t.Errorf("%s: %d, want %d", c.name, bytes, c.want)
		}
		c.load.disk = unlimited
		if without, _ := c.load.window(); direct != without {
			t.Errorf("%s: %d for what needs no disk, want %d", c.name, direct, without)
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
		if got := (terms{bytes: c.now}).worthSending(terms{bytes: c.told}); got != c.want {
			t.Errorf("told %d, now %d: %v, want %v", c.told, c.now, got, c.want)
		}
		if got := (terms{direct: c.now}).worthSending(terms{direct: c.told}); got != c.want {
			t.Errorf("told %d, now %d for what needs no disk: %v, want %v", c.told, c.now, got, c.want)
		}
	}
	if told := (terms{bytes: 1_070_000, direct: 4 << 20, own: 1_000_000}); !(terms{bytes: 1_090_000, direct: 4 << 20}).worthSending(told) {
		t.Error("what a stream adds is kept from it where it has much and little is free")
	}
	a, b := record.ClosedTopic{Topic: "a", Level: record.LevelKafka}, record.ClosedTopic{Topic: "a", Level: record.LevelDisk}
	for _, c := range []struct {
		told, now []record.ClosedTopic
		want      bool
	}{
		{nil, nil, false}, {nil, []record.ClosedTopic{a}, true}, {[]record.ClosedTopic{a}, nil, true},
		{[]record.ClosedTopic{a}, []record.ClosedTopic{a}, false}, {[]record.ClosedTopic{a}, []record.ClosedTopic{b}, true},
	} {
		if got := (terms{closed: c.now}).worthSending(terms{closed: c.told}); got != c.want {
			t.Errorf("told %v, now %v: %v, want %v", c.told, c.now, got, c.want)
		}
	}
}

// Uplinks that obey their windows and uplinks that do not, coming and going: what is in flight never exceeds the
// budget by more than one message a stream, nobody with nothing in flight is kept from reading, and there is an open
// window for everybody as long as there is room.
func TestInFlightNeverExceedsTheBudgetByMoreThanAMessageAStream(t *testing.T) {
	const largest = 64 << 20
	property := func(seed uint64, limitMiB uint16, steps uint16) bool {
		r := rand.New(rand.NewPCG(seed, 0))
		b := newBudget(int64(limitMiB%512+1) << 20)
		type stream struct {
			*account
			pending []charge
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
					c := charge{1 + r.Int64N(1<<(1+r.IntN(26))), []string{"", "a", "b", "c"}[r.IntN(4)]}
					s.take(c)
					s.pending, s.reading = append(s.pending, c), false
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
					last += s.pending[n-1].bytes
				}
			}
			if b.total()-last > b.limit {
				t.Logf("%d in flight without the last messages, budget %d", b.total()-last, b.limit)
				return false
			}
			if w, _ := s.window(unlimited); b.total() < b.limit && w.bytes <= 0 {
				t.Logf("room for %d and the window is %d", b.limit-b.total(), w.bytes)
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
	message := charge{bytes: 8 << 20, topic: "leads"}
	var left []*account
	for range 10 {
		a := b.open(func() {})
		if a.load().mayRead() {
			a.take(message)
			left = append(left, a)
		}
		a.close()
	}
	if b.total() != 8<<20 {
		t.Errorf("%d bytes in flight, want one message of 8 MiB", b.total())
	}
	for _, a := range left {
		a.release(message)
	}
	if a := b.open(func() {}); !a.load().mayRead() || b.left != 0 {
		t.Errorf("a stream may not read, %d bytes of %d are still there", b.left, b.total())
	}
}

// An uplink that ignores its window, beside others: it is not read once only a 33rd of the budget is free.
func TestAnUplinkThatIgnoresItsWindowLeavesA33rd(t *testing.T) {
	const limit, each = 99 << 20, 10 << 10
	b := newBudget(limit)
	greedy, other := b.open(func() {}), b.open(func() {})
	for greedy.load().mayRead() {
		greedy.take(charge{bytes: each})
	}
	if free := limit - b.total(); free > limit/33 || free < limit/33-each {
		t.Errorf("%d bytes are free, want %d", free, limit/33)
	}
	if w, _ := other.window(unlimited); w.bytes < limit/33/4-each {
		t.Errorf("the other one's window is %d", w.bytes)
	}
}

// crowd is uplinks that obey what they were told, on streams to one budget.
type crowd struct {
	budget  *budget
	streams []*obedient
}

type obedient struct {
	account *account
	told    terms
	stale   bool // woken, but not yet told
}

func newCrowd(limit int64, streams int) *crowd {
	c := &crowd{budget: newBudget(limit)}
	for range streams {
		s := &obedient{stale: true}
		s.account = c.budget.open(func() { s.stale = true })
		c.streams = append(c.streams, s)
	}
	return c
}

// offer has a stream send a batch, if it may; the batch is never stored.
func (c *crowd) offer(s *obedient, topic string, bytes int64) bool {
	if s.stale {
		t, closed := s.account.window(unlimited)
		t.closed = closedTopics(closed, nil, []record.Level{record.LevelKafka}, nil)
		s.told, s.stale = t, false
	}
	if slices.Contains(s.told.closed, record.ClosedTopic{Topic: topic, Level: record.LevelKafka}) ||
		s.account.own+bytes > s.told.bytes || !s.account.load().mayRead() {
		return false
	}
	s.account.take(charge{bytes, topic})
	// The uplink hears of that when its batch is acknowledged, or with the heartbeat; all others when they are woken.
	s.stale = true
	return true
}

// Up to three topics get stuck, one after the other or all together, over any of the streams, in batches of any size:
// each ends at its share, and on every stream, also that which brought all of it, there is room for one that is not.
func TestStuckTopicsLeaveRoomOnEveryStream(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const limit = 256 << 20
	for range 50 {
		streams, topics := 1+r.IntN(20), 1+r.IntN(3)
		together := r.IntN(2) == 0
		c := newCrowd(limit, streams)
		spread := 1 + r.IntN(streams) // over how many of the streams they come
		batch := int64(1) << (12 + r.IntN(8))
		for topic := range topics {
			for misses := 0; misses < 50*streams; {
				if together {
					topic = r.IntN(topics)
				}
				if c.offer(c.streams[r.IntN(spread)], fmt.Sprint("stuck", topic), batch) {
					misses = 0
				} else {
					misses++
				}
			}
		}
		free, want := limit-c.budget.total(), int64(limit)
		for range topics {
			want = want/3 - batch // one batch crosses the line
		}
		if free < want {
			t.Errorf("%d streams, %d stuck topics on %d of them in batches of %d: %d bytes are free, want %d", streams, topics,
				spread, batch, free, want)
		}
		for i, s := range c.streams {
			s.stale = true
			if !c.offer(s, "healthy", min(batch, free/int64(4*streams))) {
				t.Errorf("%d streams, %d stuck topics on %d of them in batches of %d: stream %d has %d, its window is %d of %d free",
					streams, topics, spread, batch, i, s.account.own, s.told.bytes, free)
			}
		}
	}
}

// All streams send one topic at once, as much as their windows allow, before they hear of anything.
func TestWhatWasUnderWayWhenATopicWasClosedLeavesASixth(t *testing.T) {
	const limit, each = 240 << 20, 64 << 10
	for _, streams := range []int{1, 2, 7, 64} {
		c := newCrowd(limit, streams)
		for closed := false; !closed; {
			type burst struct {
				*obedient
				bytes int64
			}
			var under []burst
			for _, s := range c.streams {
				window, topics := s.account.window(unlimited)
				under = append(under, burst{s, window.bytes - window.own})
				closed = closed || len(topics) > 0
			}
			if closed {
				break
			}
			for _, u := range under {
				u.account.take(charge{u.bytes, "stuck"})
			}
		}
		if free := limit - c.budget.total(); free < limit/6-each {
			t.Errorf("%d streams: %d bytes are free, want a sixth, %d", streams, free, limit/6)
		}
	}
}

func TestTopicsCloseAtTheirShareAndOpenBelowIt(t *testing.T) {
	const limit = 64 * 300
	b := newBudget(limit)
	woken := 0
	a := b.open(func() { woken++ })
	b.open(func() {})
	expect := func(want ...string) {
		t.Helper()
		if _, closed := a.window(unlimited); !slices.Equal(closed, want) {
			t.Errorf("closed are %q, want %q; %d bytes used", closed, want, b.total())
		}
	}
	a.take(charge{limit/3*2 - 2, "leads"})
	expect()
	woken = 0
	a.take(charge{2, "leads"})
	expect("leads")
	if woken == 0 {
		t.Error("nobody was told that it closed")
	}
	a.release(charge{10, "leads"})
	expect("leads") // not for so little
	woken = 0
	a.release(charge{290, "leads"})
	expect()
	if woken == 0 {
		t.Error("nobody was told that it opened")
	}
	a.take(charge{limit, ""}) // waits for no topic
	expect()
	a.take(charge{310, "leads"})
	expect("leads")
	a.release(charge{limit/3*2 - 10, "leads"})
	expect()
}
