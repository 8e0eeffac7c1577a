package uplink

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// two starts an uplink that wants two collectors.
func two(t *testing.T) *harness {
	c := config()
	c.Streams = 2
	return startWith(t, c)
}

func welcomeOf(collector string, window int) *collectpb.CollectorMessage {
	m := welcome(window)
	m.GetWelcome().Instance = []byte(collector)
	return m
}

func ackAt(level collectpb.Level, sequence int, refused ...*collectpb.Refused) *collectpb.CollectorMessage {
	m := ack(sequence, refused...)
	m.GetAck().Level = level
	return m
}

// waiter notes what it is told.
type waiter struct {
	outcomes []Outcome
	gone     bool
}

func (w *waiter) Settled(o Outcome) bool {
	w.outcomes = append(w.outcomes, o)
	return !w.gone
}

func (w *waiter) want(t *testing.T, outcomes ...Outcome) {
	t.Helper()
	if !slices.Equal(w.outcomes, outcomes) {
		t.Errorf("was told %+v, want %+v", w.outcomes, outcomes)
	}
}

func TestASecondCollectorSharesTheLoad(t *testing.T) {
	h := two(t)
	h.must(100)
	h.hear(1, welcomeOf("a", 1<<20))
	if h.host.next != 2 {
		t.Fatalf("%d streams opened, want a second one", h.host.next)
	}
	h.hear(2, welcomeOf("b", 1<<20))
	for range 3 {
		h.must(11_000) // a batch of its own
	}
	h.wantBatches(1, 1, 3)
	h.wantBatches(2, 2, 4)
	h.hear(2, ack(2))
	h.must(11_000)
	h.wantBatches(2, 2, 4, 5)
	if got := h.host.sent[2][3].Batch.SettledBelow; got != 1 {
		t.Errorf("settled below %d while batch 1 is in flight, want 1", got)
	}
	h.Closed(1, "reset")
	h.wantBatches(2, 2, 4, 5, -1, -3)
}

func TestASecondStreamToTheSameCollectorIsNotKept(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("a", 1<<20))
	if !slices.Equal(h.host.canceled, []Stream{2}) {
		t.Fatalf("canceled %v, want the second", h.host.canceled)
	}
	for now := time.Duration(0); now < 2*time.Minute; now += 100 * time.Millisecond {
		h.Tick(now)
		for _, s := range h.streams {
			h.hear(s.id, window(1<<20))
		}
		if last := h.host.next; h.find(last) != nil && !h.find(last).welcome {
			h.hear(last, welcomeOf("a", 1<<20))
		}
	}
	if h.host.next < 6 || h.host.next > 12 {
		t.Errorf("%d streams in two minutes, want a few attempts to find another collector", h.host.next)
	}
	if h.stats.StreamsLost != 0 {
		t.Errorf("%d streams count as lost", h.stats.StreamsLost)
	}
}

func TestANewCollectorIsFoundWithinAMinute(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("b", 1<<20))
	for now := time.Duration(0); h.host.next < 3; now += 100 * time.Millisecond {
		if now > time.Minute {
			t.Fatal("no other collector was tried in a minute")
		}
		h.Tick(now)
		h.hear(1, window(1<<20))
		h.hear(2, window(1<<20))
	}
	h.hear(3, welcomeOf("c", 1<<20))
	if !h.find(1).leaving {
		t.Error("the oldest stream stays")
	}
	h.must(11_000)
	h.wantBatches(3, 2)
	h.hear(1, ack(1))
	if !slices.Equal(h.host.canceled, []Stream{1}) {
		t.Errorf("canceled %v, want the oldest", h.host.canceled)
	}
}

func TestACollectorThatDrainsCostsNothing(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("b", 1<<20))
	h.hear(1, draining)
	h.hear(1, window(0))
	h.must(11_000)
	h.wantBatches(1, 1)
	h.wantBatches(2, 2)
	if h.host.next != 3 {
		t.Errorf("%d streams opened, want a third in the place of the first", h.host.next)
	}
	h.hear(1, ack(1))
	if h.stats.StreamsLost != 0 || h.stats.Resent != 0 {
		t.Errorf("stats %+v", *h.stats)
	}
}

func TestTopicsDoNotWaitForEachOther(t *testing.T) {
	h := start(t)
	orders := h.Route("orders", "orders", record.LevelMemory, 0)
	h.must(1)
	h.hear(1, welcome(1<<20))
	if r := h.addTo(orders, 1, nil); r != Taken {
		t.Fatal(r)
	}
	h.wantBatches(1, 1, 2)
	h.must(1)
	h.wantBatches(1, 1, 2)
	h.hear(1, ack(2))
	h.wantBatches(1, 1, 2)
	h.hear(1, ack(1))
	h.wantBatches(1, 1, 2, 3)
}

func TestClosedTopics(t *testing.T) {
	h := start(t)
	direct := h.Route("direct", "leads", record.LevelKafka, time.Second)
	orders := h.Route("orders", "orders", record.LevelMemory, 0)
	h.must(1)
	h.hear(1, welcome(1<<20))
	closed := window(1 << 20)
	closed.GetWindow().Closed = []*collectpb.ClosedTopic{{Topic: "leads", Level: collectpb.Level_LEVEL_MEMORY}}
	h.must(1)
	h.hear(1, closed)
	h.hear(1, ack(1))
	h.wantBatches(1, 1) // what was taken waits
	if r := h.add(1); r != TopicClosed {
		t.Errorf("a closed topic: %v", r)
	}
	for _, r := range []*Route{direct, orders} {
		if got := h.addTo(r, 1, nil); got != Taken {
			t.Errorf("route %s: %v", r.answered.Route, got)
		}
	}
	h.wantBatches(1, 1, 2, 3)
	h.hear(1, window(1<<20))
	h.wantBatches(1, 1, 2, 3, 4)
}

func TestATopicLeavesRoomForOthers(t *testing.T) {
	h := start(t)
	h.host.openErr = errNoCollector
	taken := 0
	for ; h.add(10_000) == Taken; taken++ {
	}
	if r := h.add(10_000); r != TopicClosed {
		t.Errorf("refused with %v", r)
	}
	if held := h.HeldBytes(); held < 1<<19 || held > 2*(1<<20)/3 {
		t.Errorf("one topic holds %d bytes of %d, want up to two thirds", held, 1<<20)
	}
	orders := h.Route("orders", "orders", record.LevelMemory, 0)
	if r := h.addTo(orders, 100_000, nil); r != Taken {
		t.Errorf("another topic: %v", r)
	}
}

func TestWaiting(t *testing.T) {
	h := start(t)
	disk := h.Route("disk", "leads", record.LevelDisk, time.Second)
	kafka := h.Route("kafka", "leads", record.LevelKafka, time.Second)
	var first, second, third, fourth waiter
	h.addTo(disk, 1, &first)
	h.addTo(kafka, 1, &second)
	h.hear(1, welcome(1<<20))
	h.wantBatches(1, 1, 2)
	h.hear(1, ackAt(collectpb.Level_LEVEL_DISK, 1))
	first.want(t, Outcome{Level: record.LevelDisk})
	h.hear(1, ackAt(collectpb.Level_LEVEL_KAFKA, 2))
	second.want(t, Outcome{Level: record.LevelKafka})

	h.addTo(disk, 1, &third)
	h.hear(1, ackAt(collectpb.Level_LEVEL_KAFKA, 3, &collectpb.Refused{Class: "too_large", DeadLettered: true}))
	third.want(t, Outcome{Refused: "too_large"})

	fourth.gone = true
	h.addTo(disk, 1, &fourth)
	h.hear(1, ackAt(collectpb.Level_LEVEL_DISK, 4))
	fourth.want(t, Outcome{Level: record.LevelDisk})

	h.Tick(100 * time.Millisecond)
	h.Tick(200 * time.Millisecond)
	answers := map[string]uint64{}
	for _, m := range h.host.sent[1] {
		if m.Batch != nil {
			for _, a := range m.Batch.Answered {
				answers[a.Route] += a.Answers
			}
		}
	}
	if answers["disk"] != 1 || answers["kafka"] != 1 {
		t.Errorf("%v answers are reported, want one of each: of those who were refused or had left there is none", answers)
	}
	h.hear(1, ack(5))
	if got := *h.stats; got.Stored != 3 || got.DeadLettered != 1 || !h.Idle() {
		t.Errorf("stats %+v, %d bytes held", got, h.HeldBytes())
	}
}

func TestWaitingTooLong(t *testing.T) {
	h := start(t)
	quick := h.Route("quick", "leads", record.LevelDisk, time.Second)
	slow := h.Route("slow", "leads", record.LevelDisk, 5*time.Second)
	var first, second, third waiter
	h.addTo(slow, 1, &first)
	h.addTo(quick, 1, &second)
	h.hear(1, welcome(1<<20))
	h.Tick(900 * time.Millisecond)
	h.addTo(quick, 1, &third) // pending behind the others
	second.want(t)
	h.Tick(time.Second)
	second.want(t, Outcome{})
	third.want(t)
	h.Closed(1, "reset")
	h.Tick(1900 * time.Millisecond)
	third.want(t, Outcome{})
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1)
	h.hear(2, ack(1))
	first.want(t, Outcome{Level: record.LevelKafka})
	second.want(t, Outcome{})
	h.hear(2, ack(2))
	third.want(t, Outcome{})
	if got := h.stats.Stored; got != 3 {
		t.Errorf("%d records stored, want all 3", got)
	}
}

func TestAnswersAreReportedThoughTheirRecordsWait(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.must(2)
	h.hear(1, window(0)) // the second record can go nowhere
	h.Tick(100 * time.Millisecond)
	h.Tick(200 * time.Millisecond)
	last := h.host.sent[1][2].Batch
	if len(last.Records) != 0 || len(last.Answered) != 1 || last.Answered[0].Answers != 1 {
		t.Fatalf("sent %+v, want a report of one answer", last)
	}
	h.Tick(300 * time.Millisecond)
	h.Tick(400 * time.Millisecond)
	h.wantBatches(1, 1, 2)
	h.Closed(1, "reset")
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1, -2, 3)
	if a := h.host.sent[2][3].Batch.Answered; len(a) != 0 {
		t.Errorf("%v is reported twice", a)
	}
}

func TestAnAckThatIsNotEnough(t *testing.T) {
	h := start(t)
	var w waiter
	h.addTo(h.Route("kafka", "leads", record.LevelKafka, time.Minute), 1, &w)
	h.hear(1, welcome(1<<20))
	h.hear(1, ackAt(collectpb.Level_LEVEL_DISK, 1))
	w.want(t)
	if !slices.Equal(h.host.canceled, []Stream{1}) {
		t.Fatalf("canceled %v: the batch would never be settled", h.host.canceled)
	}
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1)
}

// stuck has a record of a topic that is never acknowledged in flight, and time pass with a record of another one in each
// tick, which is acknowledged at once.
func (h *harness) stuck(ticks int) {
	h.Helper()
	stuck := h.Route("stuck", "stuck", record.LevelKafka, time.Second)
	h.addTo(stuck, 1, nil)
	for now := h.now; ticks > 0; ticks-- {
		now += 100 * time.Millisecond
		h.addTo(stuck, 1, nil)
		h.must(1)
		for _, s := range slices.Clone(h.streams) {
			if !s.welcome {
				h.hear(s.id, welcomeOf(string(rune('a'+s.id%4)), 1<<20))
			}
			for _, b := range slices.Clone(s.inflight) {
				if b.lane.topic != "stuck" {
					h.hear(s.id, ack(int(b.sequence)))
				}
			}
			h.hear(s.id, window(1<<20))
		}
		h.Tick(now)
	}
}

func TestWhatAStuckTopicCostsIsBounded(t *testing.T) {
	h := two(t)
	h.must(1)
	h.stuck(20_000)
	if n := len(h.unsettled); n > 200 {
		t.Errorf("%d batches are remembered", n)
	}
	if n := len(h.streams); n > 4 {
		t.Errorf("%d streams are open", n)
	}
	inflight := 0
	for _, s := range h.streams {
		inflight += len(s.inflight)
	}
	if h.HeldBytes() < inflight*leastCost {
		t.Errorf("%d batches in flight count for %d bytes", inflight, h.HeldBytes())
	}
}

func TestACollectorThatIsFullIsNotEveryone(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("b", 1<<20))
	full := window(0)
	full.GetWindow().Closed = []*collectpb.ClosedTopic{{Topic: "leads", Level: collectpb.Level_LEVEL_MEMORY}}
	h.hear(1, full)
	for range 20 {
		h.must(11_000)
	}
	h.wantBatches(1, 1)
	if n := len(h.find(2).inflight); n != 20 {
		t.Errorf("%d batches are sent to the other collector, want 20", n)
	}
	h.hear(2, full)
	if r := h.add(1); r != TopicClosed {
		t.Errorf("closed everywhere: %v", r)
	}
}

func TestAFullCollectorTakesNobodysPlace(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("b", 1<<20))
	h.nextProbe = 0
	h.Tick(h.now)
	h.hear(3, welcomeOf("c", 0))
	if h.find(1).leaving || h.find(2).leaving || h.find(3) != nil {
		t.Error("a collector without room has taken the place of one that has")
	}
	h.hear(1, window(0))
	h.nextProbe = 0
	h.Tick(h.now)
	h.hear(4, welcomeOf("d", 1<<20))
	if !h.find(1).leaving || h.find(2).leaving {
		t.Error("another one than that without room has gone")
	}
}

func TestALargeRecordIsNotStarved(t *testing.T) {
	h := two(t)
	small := h.Route("small", "small", record.LevelMemory, 0)
	other := h.Route("other", "other", record.LevelMemory, 0)
	h.addTo(small, 1, nil)
	h.hear(1, welcomeOf("a", 60_000))
	h.hear(2, welcomeOf("b", 60_000))
	h.addTo(other, 1, nil)
	h.must(80_000)
	for range 1000 {
		for _, s := range h.streams {
			if s.beyond != [2]*batch{} {
				return
			}
			if len(s.inflight) > 0 {
				h.addTo(small, 100, nil)
				h.addTo(other, 100, nil)
				h.hear(s.id, ack(int(s.inflight[0].sequence)))
			}
		}
	}
	t.Error("the large record is never sent")
}

func TestABatchThatBreaksEveryStreamBesideOthers(t *testing.T) {
	h := two(t)
	poison := h.Route("poison", "poison", record.LevelMemory, 0)
	h.addTo(poison, 1, nil)
	for now := time.Duration(0); now < time.Minute; now += 10 * time.Millisecond {
		h.Tick(now)
		h.must(1)
		for _, s := range slices.Clone(h.streams) {
			if !s.welcome {
				h.hear(s.id, welcomeOf(string(rune('a'+s.id%4)), 1<<20))
			}
			poisoned := false
			for _, b := range slices.Clone(s.inflight) {
				if poisoned = poisoned || b.lane == poison.lane; b.lane != poison.lane {
					h.hear(s.id, ack(int(b.sequence)))
				}
			}
			if poisoned {
				h.Closed(s.id, "resource exhausted")
			}
		}
	}
	if h.host.opens > 150 {
		t.Errorf("%d streams in a minute", h.host.opens)
	}
	if n := len(h.host.warnings); n == 0 || n > 10 {
		t.Errorf("%d warnings", n)
	}
}

func TestChangesOfTheConfigurationCostNoWait(t *testing.T) {
	h := two(t)
	h.must(1)
	h.hear(1, welcomeOf("a", 1<<20))
	h.hear(2, welcomeOf("b", 1<<20))
	for now := time.Duration(0); now < 20*time.Second; now += 500 * time.Millisecond {
		h.Tick(now)
		opened := h.host.next
		h.Retire(func(Stream) bool { return true })
		h.must(1)
		if h.host.next == opened {
			t.Fatalf("after %v no stream is opened at once", now)
		}
		for _, s := range slices.Clone(h.streams) {
			if !s.welcome {
				h.hear(s.id, welcomeOf(string(rune('a'+s.id%2)), 1<<20))
			}
		}
	}
}

var errNoCollector = errors.New("no healthy host")
