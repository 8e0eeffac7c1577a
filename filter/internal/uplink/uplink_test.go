package uplink

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// recorder is a Host that remembers what was asked of it and answers as it is told.
type recorder struct {
	next     Stream
	opens    int
	openErr  error
	sendErr  error
	onSend   func(Stream)
	sent     map[Stream][]record.UplinkMessage
	canceled []Stream
	warnings []string
}

func (h *recorder) Open() (Stream, error) {
	h.opens++
	if h.openErr != nil {
		return 0, h.openErr
	}
	h.next++
	return h.next, nil
}

func (h *recorder) Send(s Stream, message []byte) error {
	if h.sendErr != nil {
		return h.sendErr
	}
	m, err := record.ParseUplinkMessage([]byte(string(message)))
	if err != nil {
		panic(err)
	}
	if h.sent == nil {
		h.sent = map[Stream][]record.UplinkMessage{}
	}
	h.sent[s] = append(h.sent[s], m)
	if h.onSend != nil {
		h.onSend(s)
	}
	return nil
}

func (h *recorder) Cancel(s Stream)     { h.canceled = append(h.canceled, s) }
func (h *recorder) Warn(message string) { h.warnings = append(h.warnings, message) }

// sequences lists the batches sent on a stream, those sent again as negative numbers.
func (h *recorder) sequences(s Stream) (numbers []int) {
	for _, m := range h.sent[s] {
		if m.Batch != nil {
			n := int(m.Batch.Sequence)
			if m.Batch.Redelivered {
				n = -n
			}
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func message(t *testing.T, m *collectpb.CollectorMessage) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func welcome(window int) *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Welcome{Welcome: &collectpb.Welcome{
		Levels: []collectpb.Level{collectpb.Level_LEVEL_KAFKA}, WindowBytes: uint64(window)}}}
}

func ack(sequence int, refused ...*collectpb.Refused) *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{Ack: &collectpb.Ack{
		Sequence: uint64(sequence), Level: collectpb.Level_LEVEL_KAFKA, Refused: refused}}}
}

func window(bytes int) *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{
		Window: &collectpb.Window{Bytes: uint64(bytes)}}}
}

var draining = &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Draining{Draining: &collectpb.Draining{}}}

func config() Config {
	return Config{
		Hello: record.Hello{Uplink: record.UplinkID{1}}, Rand: rand.New(rand.NewPCG(1, 1)),
		Limits: Limits{MaxBufferBytes: 1 << 20, MaxBatchBytes: 10_000, UnreachableTimeout: 30 * time.Second, Streams: 1},
	}
}

// harness drives one uplink with a recorder.
type harness struct {
	*testing.T
	*Uplink
	host  *recorder
	stats *Stats
	route *Route
}

func start(t *testing.T) *harness {
	t.Helper()
	return startWith(t, config())
}

func startWith(t *testing.T, c Config) *harness {
	h, stats := &recorder{}, &Stats{}
	u := New(c, h, stats)
	return &harness{t, u, h, stats, u.Route("leads", "leads", record.LevelMemory, 0)}
}

func (h *harness) add(bodyBytes int) Refusal { return h.addTo(h.route, bodyBytes, nil) }

func (h *harness) addTo(r *Route, bodyBytes int, w Waiter) Refusal {
	defer h.Send()
	return h.Add(r, (&record.Record{
		ID: record.NewID(time.Unix(1, 0)), Route: r.answered.Route, Topic: r.lane.topic, Ack: r.answered.Level,
		Body: make([]byte, bodyBytes),
	}).Parts(), 0, w)
}

func (h *harness) must(bodyBytes int) {
	h.Helper()
	if refusal := h.add(bodyBytes); refusal != Taken {
		h.Fatalf("refused: %v", refusal)
	}
}

func (h *harness) hear(s Stream, m *collectpb.CollectorMessage) {
	h.Helper()
	h.Received(s, message(h.T, m))
}

func (h *harness) wantBatches(s Stream, numbers ...int) {
	h.Helper()
	got := h.host.sequences(s)
	if len(got) != len(numbers) {
		h.Fatalf("stream %d got batches %v, want %v", s, got, numbers)
	}
	for i := range got {
		if got[i] != numbers[i] {
			h.Fatalf("stream %d got batches %v, want %v", s, got, numbers)
		}
	}
}

func TestNothingIsOpenedBeforeThereIsSomethingToSend(t *testing.T) {
	h := start(t)
	h.Tick(time.Second)
	if h.host.opens != 0 {
		t.Error("opened a stream")
	}
	if !h.Idle() {
		t.Error("not idle")
	}
}

func TestBatchesGrowWhileOneIsInFlight(t *testing.T) {
	h := start(t)
	h.must(100)
	h.wantBatches(1)
	h.hear(1, welcome(1<<20))
	h.wantBatches(1, 1)
	for range 5 {
		h.must(100)
	}
	h.wantBatches(1, 1)
	h.hear(1, ack(1))
	h.wantBatches(1, 1, 2)
	if n := len(h.host.sent[1][2].Batch.Records); n != 5 {
		t.Errorf("second batch has %d records, want 5", n)
	}
	if a := h.host.sent[1][2].Batch.Answered; len(a) != 1 || a[0].Answers != 5 {
		t.Errorf("ledger is %v, want 5 answers", a)
	}
	h.hear(1, ack(2))
	if !h.Idle() || h.HeldBytes() != 0 {
		t.Errorf("%d bytes held after everything was acknowledged", h.HeldBytes())
	}
}

func TestAFullBatchDoesNotWaitForAnAck(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	for range 6 {
		h.must(4000)
	}
	h.wantBatches(1, 1, 2, 3)
	h.must(50_000)
	h.wantBatches(1, 1, 2, 3, 4, 5)
	if n := len(h.host.sent[1][5].Batch.Records); n != 1 {
		t.Errorf("the large record travels with %d others", n-1)
	}
}

func TestUnacknowledgedBatchesAreSentAgainInOrder(t *testing.T) {
	h := start(t)
	h.must(9000)
	h.hear(1, welcome(1<<20))
	h.must(9000)
	h.must(9000)
	h.must(9000)
	h.wantBatches(1, 1, 2, 3)
	h.hear(1, ack(2))
	h.Closed(1, "status 14")
	h.Tick(time.Second)
	h.wantBatches(2)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1, -3)
	if got := *h.stats; got.Resent != 2 || got.StreamsLost != 1 {
		t.Errorf("stats %+v", got)
	}
	h.hear(2, ack(3))
	h.hear(2, ack(1))
	h.wantBatches(2, -1, -3, 4)
	h.hear(2, ack(4))
	if !h.Idle() {
		t.Error("not idle")
	}
}

func TestRoom(t *testing.T) {
	t.Run("buffer", func(t *testing.T) {
		h := start(t)
		if r := h.Reserve(1 << 20); r != Taken {
			t.Fatal(r)
		}
		if r := h.Reserve(1); r != BufferFull {
			t.Errorf("reserved beyond the limit: %v", r)
		}
		if r := h.add(10); r != BufferFull {
			t.Errorf("took a record beyond the limit: %v", r)
		}
		h.Release(1 << 20)
		h.must(10)
		if h.route.answered.Answers != 1 {
			t.Errorf("counted %d answers, want 1", h.route.answered.Answers)
		}
	})
	t.Run("window", func(t *testing.T) {
		h := start(t)
		h.must(2000)
		h.hear(1, welcome(6500))
		h.must(2000)
		if r := h.add(3000); r != WindowClosed {
			t.Errorf("took more than the window: %v", r)
		}
		h.hear(1, ack(1))
		h.hear(1, ack(2))
		h.must(7000) // alone, though larger than the window
		h.hear(1, ack(3))
		h.hear(1, window(0))
		if r := h.add(1); r != WindowClosed {
			t.Errorf("took a record through a closed window: %v", r)
		}
		h.hear(1, window(10))
		h.must(1)
	})
	t.Run("unreachable", func(t *testing.T) {
		h := start(t)
		h.host.openErr = errors.New("no healthy host")
		h.Tick(time.Hour) // nothing was wanted so far
		h.must(1)
		h.Tick(time.Hour + 30*time.Second)
		h.must(1)
		h.Tick(time.Hour + 31*time.Second)
		if r := h.add(1); r != Unreachable {
			t.Errorf("took a record: %v", r)
		}
		h.host.openErr = nil
		h.Tick(time.Hour + 40*time.Second)
		h.hear(1, welcome(1<<20))
		h.must(1)
	})
}

func TestAClosedWindowHoldsBatchesBack(t *testing.T) {
	h := start(t)
	h.must(100)
	h.hear(1, welcome(0))
	h.wantBatches(1)
	h.hear(1, window(1))
	h.wantBatches(1, 1)
}

// fullSpool is the window of a collector that takes so many bytes of what needs no room in its spool, and nothing else.
func fullSpool(bytes int) *collectpb.CollectorMessage {
	m := window(0)
	m.GetWindow().DirectBytes = uint64(bytes)
	return m
}

func TestAFullSpoolIsInNobodysWayWhoDoesNotNeedIt(t *testing.T) {
	h := start(t)
	kafka := h.Route("kafka", "orders", record.LevelKafka, time.Minute)
	h.must(2000)
	h.hear(1, welcome(6500))
	h.must(2000) // waits for the acknowledgement of the first, and takes most of what is left of the window
	h.hear(1, fullSpool(6500))
	if r := h.add(1); r != WindowClosed {
		t.Errorf("a record for the spool is not refused: %v", r)
	}
	var first, second waiter
	if r := h.addTo(kafka, 2000, &first); r != Taken {
		t.Fatalf("a record that needs no spool is refused: %v", r)
	}
	h.wantBatches(1, 1, 2)
	h.hear(1, ack(2))
	first.want(t, Outcome{Level: record.LevelKafka})
	if r := h.addTo(kafka, 7000, &second); r != Taken { // alone, though larger than the window
		t.Errorf("a large one is refused: %v", r)
	}
	h.wantBatches(1, 1, 2, 3)
	h.hear(1, window(1<<20))
	h.hear(1, ack(1))
	h.wantBatches(1, 1, 2, 3, 4)
	h.hear(1, ack(4))
	h.hear(1, ack(3))
	second.want(t, Outcome{Level: record.LevelKafka})
}

// A batch that went beyond its window waits for room in the spool.
func TestALargeBatchThatWaitsForASpoolIsInNobodysWay(t *testing.T) {
	h := start(t)
	kafka := h.Route("kafka", "orders", record.LevelKafka, time.Minute)
	h.must(1)
	h.hear(1, welcome(64<<10))
	h.hear(1, ack(1))
	h.must(100_000)
	h.wantBatches(1, 1, 2)
	h.hear(1, fullSpool(101_000+64<<10))
	for sequence := 3; sequence < 6; sequence++ {
		var w waiter
		if r := h.addTo(kafka, 70_000, &w); r != Taken {
			t.Fatalf("a large record that needs no spool is refused: %v", r)
		}
		h.hear(1, ack(sequence))
		w.want(t, Outcome{Level: record.LevelKafka})
	}
}

// Large records flow, and their memory is used again for small ones of topics that are stuck.
func TestSmallBatchesThatWaitHaveLittleMemory(t *testing.T) {
	c := config()
	c.MaxBufferBytes, c.MaxBatchBytes = 64<<20, 256<<10
	h := startWith(t, c)
	h.must(1)
	h.hear(1, welcome(1<<30))
	h.hear(1, ack(1))
	now, sent := time.Duration(0), 0
	for i := range 100 {
		stuck := h.Route(fmt.Sprint(i), fmt.Sprint(i), record.LevelKafka, time.Hour)
		for range 3 {
			h.must(1_000_000)
			for _, m := range h.host.sent[1][1+sent:] {
				h.hear(1, ack(int(m.Batch.Sequence)))
			}
			if r := h.addTo(stuck, 10, &waiter{}); r != Taken {
				t.Fatal(r)
			}
			sent = len(h.host.sent[1]) - 1
			for range 2 {
				now += 100 * time.Millisecond
				h.Tick(now)
			}
		}
	}
	if memory, held := h.memory(), h.HeldBytes(); memory > maxCap*held || held < 100*leastCost {
		t.Errorf("batches have %d bytes of memory, and %d count as held", memory, held)
	}
}

func TestWhatIsToBeSentToASpoolTakesItsPartOfTheWindow(t *testing.T) {
	h := start(t)
	kafka := h.Route("kafka", "orders", record.LevelKafka, time.Minute)
	h.must(1000)
	h.hear(1, welcome(6000))
	h.must(3500) // is sent when the first is acknowledged
	var w waiter
	if r := h.addTo(kafka, 2000, &w); r != WindowClosed {
		t.Errorf("taken beside it: %v", r)
	}
	if r := h.addTo(kafka, 1000, &w); r != Taken {
		t.Errorf("refused beside it: %v", r)
	}
}

func TestDraining(t *testing.T) {
	h := start(t)
	h.must(100)
	h.hear(1, welcome(1<<20))
	h.must(100)
	h.hear(1, draining)
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.Tick(1100 * time.Millisecond)
	h.wantBatches(1, 1)
	h.wantBatches(2, 2)
	if len(h.host.canceled) != 0 {
		t.Error("canceled the stream with a batch in flight")
	}
	h.hear(1, ack(1))
	if len(h.host.canceled) != 1 || h.host.canceled[0] != 1 {
		t.Errorf("canceled %v; a collector that never ends its streams would add up", h.host.canceled)
	}
	h.hear(2, ack(2))
	if !h.Idle() {
		t.Error("not idle")
	}
	if got := *h.stats; got.Resent != 0 || got.StreamsLost != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestADrainingStreamThatBreaks(t *testing.T) {
	h := start(t)
	h.must(100)
	h.hear(1, welcome(1<<20))
	h.hear(1, draining)
	h.must(100)
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.Closed(1, "reset")
	h.wantBatches(2, -1)
	h.hear(2, ack(1))
	h.wantBatches(2, -1, 2)
}

func TestSilence(t *testing.T) {
	h := start(t)
	h.must(100)
	h.hear(1, welcome(1<<20))
	now := time.Duration(0)
	pass := func(d, step time.Duration) {
		for end := now + d; now < end; {
			now += step
			h.Tick(now)
		}
	}
	pass(4900*time.Millisecond, 100*time.Millisecond)
	h.hear(1, window(1<<20))
	pass(4900*time.Millisecond, 100*time.Millisecond)
	if len(h.host.canceled) != 0 {
		t.Fatal("canceled a stream that was heard")
	}
	pass(time.Hour, time.Hour) // the worker was stopped: not the collector's fault
	if len(h.host.canceled) != 1 {
		pass(5*time.Second, 100*time.Millisecond)
	}
	if len(h.host.canceled) == 0 || h.host.canceled[0] != 1 {
		t.Fatal("a silent stream was kept")
	}
	h.hear(2, welcome(0))
	pass(6*time.Second, 100*time.Millisecond)
	if len(h.host.canceled) != 2 {
		t.Error("kept a silent stream whose window is closed")
	}
	h.hear(3, welcome(1<<20))
	h.wantBatches(3, -1)
}

func TestBackoff(t *testing.T) {
	h := start(t)
	h.host.openErr = errors.New("no healthy host")
	h.must(1)
	for now := time.Duration(0); now < time.Minute; now += 10 * time.Millisecond {
		h.Tick(now)
	}
	if h.host.opens < 30 || h.host.opens > 120 {
		t.Errorf("%d attempts in a minute", h.host.opens)
	}
	if n := len(h.host.warnings); n == 0 || n > 15 {
		t.Errorf("%d warnings for %d attempts", n, h.host.opens)
	}
}

func TestABatchThatBreaksEveryStreamIsNotTriedWithoutAPause(t *testing.T) {
	h := start(t)
	h.must(1)
	for now := time.Duration(0); now < time.Minute; now += 10 * time.Millisecond {
		h.Tick(now)
		if s := h.host.next; s > 0 && h.find(s) != nil {
			h.hear(s, welcome(1<<20))
			h.Closed(s, "resource exhausted")
		}
	}
	if h.host.opens > 120 {
		t.Errorf("%d attempts in a minute", h.host.opens)
	}
}

func TestTheHostMayCallBack(t *testing.T) {
	h := start(t)
	h.host.onSend = func(s Stream) {
		if len(h.host.sent[s]) == 1 {
			h.hear(s, welcome(1<<20))
			return
		}
		h.host.onSend = nil
		h.Closed(s, "while sending")
	}
	h.must(100)
	h.wantBatches(1, 1)
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1)
}

func TestSendFails(t *testing.T) {
	h := start(t)
	h.must(1)
	h.host.sendErr = errors.New("bad argument")
	h.hear(1, welcome(1<<20))
	h.host.sendErr = nil
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1)
}

func TestRefusedRecords(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.hear(1, ack(1, &collectpb.Refused{Index: 0, Reason: "larger than the topic takes"}))
	if got := *h.stats; got.Refused != 1 || got.Stored != 0 || !h.Idle() {
		t.Errorf("stats %+v", got)
	}
	if len(h.host.warnings) != 1 || !strings.Contains(h.host.warnings[0], "larger than the topic takes") {
		t.Errorf("warnings %q", h.host.warnings)
	}
}

func TestNonsenseFromACollector(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.hear(1, ack(77))
	h.hear(9, ack(1))
	h.hear(1, &collectpb.CollectorMessage{})
	h.hear(1, &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{Ack: &collectpb.Ack{Sequence: 1}}})
	if h.Idle() {
		t.Fatal("forgot a batch that nobody stored")
	}
	h.Received(1, []byte{0xff})
	if len(h.host.canceled) != 1 {
		t.Fatal("kept a stream that sends garbage")
	}
	h.Tick(time.Second)
	h.hear(2, welcome(1<<20))
	h.wantBatches(2, -1)
}

func TestAQuietDrainIsNoOutage(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.host.openErr = errors.New("no healthy host")
	h.hear(1, draining)
	h.Tick(time.Second)
	h.hear(1, ack(1))
	for now := time.Second; now < time.Hour; now += time.Second {
		h.Tick(now)
	}
	h.host.openErr = nil
	h.must(1)
}

func TestARecordDoesNotWaitForAnotherTopicsAck(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.must(1)
	h.Tick(100 * time.Millisecond)
	h.wantBatches(1, 1)
	h.Tick(200 * time.Millisecond)
	h.wantBatches(1, 1, 2)
	if got := h.host.sent[1][2].Batch.SettledBelow; got != 1 {
		t.Errorf("settled below %d, want 1", got)
	}
	h.hear(1, ack(1))
	h.must(1)
	h.Tick(300 * time.Millisecond)
	h.Tick(400 * time.Millisecond)
	if got := h.host.sent[1][3].Batch.SettledBelow; got != 2 {
		t.Errorf("settled below %d, want 2", got)
	}
}

func TestRetire(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.must(1)
	h.Retire(func(Stream) bool { return true })
	h.Tick(100 * time.Millisecond)
	h.hear(2, welcome(1<<20))
	h.Tick(200 * time.Millisecond)
	h.wantBatches(1, 1)
	h.wantBatches(2, 2)
	if len(h.host.canceled) != 0 {
		t.Fatal("canceled a stream with a batch in flight")
	}
	h.hear(1, ack(1))
	if len(h.host.canceled) != 1 || h.host.canceled[0] != 1 {
		t.Fatalf("canceled %v, want 1", h.host.canceled)
	}
	h.hear(2, ack(2))
	h.Retire(func(Stream) bool { return true })
	if len(h.host.canceled) != 2 || !h.Idle() {
		t.Errorf("canceled %v, want both", h.host.canceled)
	}
	h.must(1)
	h.Tick(300 * time.Millisecond)
	h.hear(3, welcome(1<<20))
	h.wantBatches(3, 3)
}

func TestClose(t *testing.T) {
	h := start(t)
	h.must(1)
	h.hear(1, welcome(1<<20))
	h.hear(1, draining)
	h.must(1)
	h.Tick(100 * time.Millisecond)
	h.Close()
	if len(h.host.canceled) != 2 {
		t.Errorf("canceled %v, want both streams", h.host.canceled)
	}
}

// TestRecordsAddedTogetherAreSentTogether adds records before it has them sent: while nothing is in flight, and while
// something is.
func TestRecordsAddedTogetherAreSentTogether(t *testing.T) {
	h := start(t)
	h.must(10)
	h.Received(1, encoded(t, welcome(1<<20)))
	h.Received(1, encoded(t, ack(1)))
	add := func(records int) {
		for range records {
			if refusal := h.Add(h.route, (&record.Record{Route: "leads", Topic: "leads"}).Parts(), 0, nil); refusal != Taken {
				t.Fatalf("refused: %v", refusal)
			}
		}
	}
	add(3)
	if h.stats.Batches != 1 {
		t.Fatalf("%d batches are sent before all is added", h.stats.Batches)
	}
	h.Send()
	add(2)
	h.Send()
	if want := []int{1, 3}; !slices.Equal(h.stats.BatchRecords, want) {
		t.Errorf("batches of %v records are sent, want %v", h.stats.BatchRecords, want)
	}
	h.Received(1, encoded(t, ack(2)))
	if want := []int{1, 3, 2}; !slices.Equal(h.stats.BatchRecords, want) {
		t.Errorf("batches of %v records are sent, want %v", h.stats.BatchRecords, want)
	}
}

// TestRecordsAddedTogetherFillAWindowAsOthersDo adds a record and, before that is sent, one that is larger than what it leaves
// of the window: as the only one it may go beyond.
func TestRecordsAddedTogetherFillAWindowAsOthersDo(t *testing.T) {
	h := start(t)
	h.must(10)
	h.Received(1, encoded(t, welcome(64<<10)))
	h.Received(1, encoded(t, ack(1)))
	other := h.Route("orders", "orders", record.LevelMemory, 0)
	for i, route := range []*Route{h.route, other} {
		r := record.Record{Route: route.answered.Route, Topic: route.lane.topic, Body: make([]byte, []int{10 << 10, 60 << 10}[i])}
		if refusal := h.Add(route, r.Parts(), 0, nil); refusal != Taken {
			t.Errorf("record %d is refused: %v", i, refusal)
		}
	}
	h.Send()
	if h.stats.Batches != 3 {
		t.Errorf("%d batches are sent, want 3", h.stats.Batches)
	}
}
