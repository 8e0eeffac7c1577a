package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/internal/kafkatest"
	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

const patience = 30 * time.Second

// fakeSink holds batches until the test answers for them.
type fakeSink struct {
	connected chan struct{}
	batches   chan *held
}

type held struct {
	items       []produce.Item
	redelivered bool
	done        func([]produce.Refusal)
}

func newFakeSink() *fakeSink {
	s := &fakeSink{connected: make(chan struct{}), batches: make(chan *held, 10_000)}
	close(s.connected)
	return s
}

func (s *fakeSink) Produce(items []produce.Item, redelivered bool, done func([]produce.Refusal)) {
	s.batches <- &held{items, redelivered, done}
}

func (s *fakeSink) Connected() <-chan struct{} { return s.connected }

func (s *fakeSink) next(t *testing.T) *held {
	t.Helper()
	select {
	case b := <-s.batches:
		return b
	case <-time.After(patience):
		t.Fatal("no batch reaches the sink")
		return nil
	}
}

type fixture struct {
	*Server
	sink    *fakeSink
	conn    *grpc.ClientConn
	drained sync.Once
}

func start(t *testing.T, sink *fakeSink, maxBuffer int64) *fixture {
	t.Helper()
	kafkatest.NoGoroutinesLeft(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{sink: sink, Server: New(Config{Name: "collector-0", MaxBufferBytes: maxBuffer}, sink,
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())}
	served := make(chan error, 1)
	go func() { served <- f.Serve(l) }()
	f.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.conn.Close()
		f.drained.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := f.Drain(ctx); err != nil {
				t.Error(err)
			}
		})
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

// rawCodec sends bytes as they are and receives generated messages.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// client is one uplink's stream.
type client struct {
	t *testing.T
	grpc.ClientStream
}

func (f *fixture) dial(t *testing.T) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s, err := f.conn.NewStream(ctx, &collectpb.Collector_ServiceDesc.Streams[0], collectpb.Collector_Collect_FullMethodName,
		grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}), grpc.WaitForReady(true),
		grpc.MaxCallSendMsgSize(2*record.MaxMessageBytes))
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, s}
}

// open says hello and returns the first window.
func (f *fixture) open(t *testing.T, id byte) (*client, int64) {
	t.Helper()
	c := f.dial(t)
	c.send((&record.Hello{Uplink: record.UplinkID{id}, NodeID: "edge-1", NodeCluster: "edge"}).AppendMessage(nil))
	w := c.receive().GetWelcome()
	if w == nil || w.GetCollector() != "collector-0" || !slices.Equal(w.GetLevels(), []collectpb.Level{collectpb.Level_LEVEL_KAFKA}) {
		t.Fatalf("welcome: %v", w)
	}
	return c, int64(w.GetWindowBytes())
}

func (c *client) send(raw []byte) {
	c.t.Helper()
	if err := c.SendMsg(slices.Clone(raw)); err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

func (c *client) receive() *collectpb.CollectorMessage {
	c.t.Helper()
	m := &collectpb.CollectorMessage{}
	if err := c.RecvMsg(m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// ack returns the next acknowledgement, passing over windows.
func (c *client) ack() *collectpb.Ack {
	c.t.Helper()
	for {
		m := c.receive()
		if a := m.GetAck(); a != nil {
			if a.GetLevel() != collectpb.Level_LEVEL_KAFKA {
				c.t.Fatalf("ack: %v", a)
			}
			return a
		}
		if m.GetWindow() == nil {
			c.t.Fatalf("got %v, want an ack", m)
		}
	}
}

// window returns the next window that fits, passing over everything else.
func (c *client) window(fits func(int64) bool) int64 {
	c.t.Helper()
	for {
		if w := c.receive().GetWindow(); w != nil && fits(int64(w.GetBytes())) {
			return int64(w.GetBytes())
		}
	}
}

// end receives until the stream ends and returns how.
func (c *client) end() error {
	for {
		if err := c.RecvMsg(&collectpb.CollectorMessage{}); err != nil {
			return err
		}
	}
}

func sample(route string, body int) *record.Record {
	now := time.Now()
	return &record.Record{
		ID: record.NewID(now), Received: now, Route: route, Ack: record.LevelMemory, Topic: route, Method: "POST",
		Scheme: "https", Authority: "shop.example", Path: "/" + route, Source: "192.0.2.1:1", Body: make([]byte, body),
	}
}

// batch encodes records of one route.
func batch(sequence uint64, redelivered bool, route string, records, body int) []byte {
	var b record.Batch
	for range records {
		r := sample(route, body)
		b.Add(r, [][]byte{r.Body})
	}
	b.AddAnswered(record.Answered{Route: route, Level: record.LevelMemory, Answers: sequence * uint64(records)})
	return b.Message(record.Head{Sequence: sequence, Redelivered: redelivered})
}

func TestABatchIsAcknowledgedWhenItIsStoredAndNotBefore(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, window := f.open(t, 1)
	if window != 1<<20 {
		t.Errorf("first window %d, want the whole budget", window)
	}
	for sequence := range uint64(3) {
		c.send(batch(sequence+1, sequence == 2, "leads", 10, 100))
	}
	var batches []*held
	for range 3 {
		batches = append(batches, f.sink.next(t))
	}
	// In any order: a slow topic does not hold up another's batches.
	for _, i := range []int{1, 2, 0} {
		b := batches[i]
		if len(b.items) != 10 || b.items[9].Index != 9 || len(b.items[9].Record.Body) != 100 || b.redelivered != (i == 2) {
			t.Errorf("batch %d arrives as %d items, redelivered %v", i+1, len(b.items), b.redelivered)
		}
		var refused []produce.Refusal
		if i == 2 {
			refused = []produce.Refusal{{Index: 4, Class: produce.ClassTooLarge, Reason: "too large \xff"}}
		}
		b.done(refused)
		a := c.ack()
		if a.GetSequence() != uint64(i+1) || len(a.GetRefused()) != len(refused) {
			t.Fatalf("ack %v, want one of %d", a, i+1)
		}
		if i == 2 && (a.GetRefused()[0].GetIndex() != 4 || a.GetRefused()[0].GetReason() != "too large ?") {
			t.Errorf("refused %v", a.GetRefused())
		}
	}
	if n := f.budget.total(); n != 0 {
		t.Errorf("%d bytes in flight after the last ack", n)
	}
	for name, c := range map[string]struct {
		collector prometheus.Collector
		want      float64
	}{
		"answered":    {f.metrics.answered.WithLabelValues("leads", "memory"), 30},
		"stored":      {f.metrics.stored.WithLabelValues("leads", "memory"), 29},
		"refused":     {f.metrics.refused.WithLabelValues("leads", "too_large"), 1},
		"batches":     {f.metrics.batches.WithLabelValues("false"), 2},
		"redelivered": {f.metrics.batches.WithLabelValues("true"), 1},
	} {
		if got := testutil.ToFloat64(c.collector); got != c.want {
			t.Errorf("%s = %v, want %v", name, got, c.want)
		}
	}
}

func TestAMalformedRecordIsRefusedByIndexAndTheOthersAreStored(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	good := sample("leads", 10).Append(nil)
	pb := []byte{0x12} // UplinkMessage.batch
	inner := []byte{0x08, 7}
	for _, raw := range [][]byte{good, {0x0a, 3, 1, 2, 3}, good, {0xff}} {
		inner = append(inner, 0x22)
		inner = appendVarint(inner, len(raw))
		inner = append(inner, raw...)
	}
	c.send(append(appendVarint(pb, len(inner)), inner...))
	b := f.sink.next(t)
	var refusals []produce.Refusal
	for i, item := range b.items {
		if item.Index != i {
			t.Errorf("item %d has index %d", i, item.Index)
		}
		switch {
		case item.Malformed != "":
			refusals = append(refusals, produce.Refusal{Index: i, Class: produce.ClassMalformed, Reason: item.Malformed})
		case i == 2:
			refusals = append(refusals, produce.Refusal{Index: i, Class: produce.ClassTopic, Reason: "no such topic"})
		}
	}
	if body := b.items[3].Record.Body; !slices.Equal(body, []byte{0xff}) {
		t.Errorf("the bytes of item 3 are %x", body)
	}
	b.done(refusals)
	a := c.ack()
	var refused []string
	for _, r := range a.GetRefused() {
		refused = append(refused, fmt.Sprint(r.GetIndex(), " ", r.GetReason()))
	}
	if a.GetSequence() != 7 || len(refused) != 3 || !strings.HasPrefix(refused[0], "1 record: malformed message: id of 3 bytes") ||
		refused[1] != "2 no such topic" || !strings.HasPrefix(refused[2], "3 record: malformed message") {
		t.Errorf("ack %d refuses %q", a.GetSequence(), refused)
	}
	if got := testutil.ToFloat64(f.metrics.refused.WithLabelValues(label.Unknown, produce.ClassMalformed)); got != 2 {
		t.Errorf("%v malformed records counted, want 2", got)
	}
	if got := testutil.ToFloat64(f.metrics.stored.WithLabelValues("leads", "memory")); got != 1 {
		t.Errorf("%v stored records counted, want 1", got)
	}
}

func appendVarint(dst []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

func TestWhatIsNotTheProtocolEndsItsStreamAndNoOther(t *testing.T) {
	hello := (&record.Hello{Uplink: record.UplinkID{2}}).AppendMessage(nil)
	f := start(t, newFakeSink(), 1<<20)
	witness, _ := f.open(t, 1)
	for _, c := range []struct {
		name     string
		messages [][]byte
		code     codes.Code
		says     string
	}{
		{"no hello", [][]byte{batch(1, false, "leads", 1, 1)}, codes.InvalidArgument, "first message must be a hello"},
		{"empty", [][]byte{{}}, codes.InvalidArgument, "the first message must be a hello"},
		{"noise", [][]byte{[]byte("GET / HTTP/1.1\r\n")}, codes.InvalidArgument, "malformed message"},
		{"a short uplink", [][]byte{{0x0a, 3, 0x0a, 1, 7}}, codes.InvalidArgument, "uplink of 1 bytes"},
		{"hello twice", [][]byte{hello, hello}, codes.InvalidArgument, "second hello"},
		{"noise later", [][]byte{hello, {0xff, 0xff}}, codes.InvalidArgument, "malformed message"},
		{"no sequence", [][]byte{hello, {0x12, 0}}, codes.InvalidArgument, "batch without sequence"},
		{"too long", [][]byte{hello, make([]byte, record.MaxMessageBytes+1)}, codes.ResourceExhausted, "larger than max"},
	} {
		s := f.dial(t)
		for _, m := range c.messages {
			s.send(m)
		}
		if err := s.end(); status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: ends with %v, want %v %q", c.name, err, c.code, c.says)
		}
	}
	witness.send(batch(1, false, "leads", 1, 1))
	f.sink.next(t).done(nil)
	witness.ack()
}

func TestTheLongestMessageIsTaken(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	c.send(batch(1, false, "leads", 1, record.MaxMessageBytes-1000))
	b := f.sink.next(t)
	if n := len(b.items[0].Record.Body); n != record.MaxMessageBytes-1000 {
		t.Errorf("the body arrives with %d bytes", n)
	}
	b.done(nil)
	c.ack()
}

func TestNoStreamsUntilKafkaWasReached(t *testing.T) {
	sink := newFakeSink()
	sink.connected = make(chan struct{})
	f := start(t, sink, 1<<20)
	c := f.dial(t)
	c.send((&record.Hello{Uplink: record.UplinkID{1}}).AppendMessage(nil))
	if err := c.end(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "kafka") {
		t.Errorf("the stream ends with %v", err)
	}
	close(sink.connected)
	if _, window := f.open(t, 1); window != 1<<20 {
		t.Errorf("window %d", window)
	}
}

func TestTheWindowIsSharedAndClosesWhenTheBudgetIsUsedUp(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	first, _ := f.open(t, 1)
	second, window := f.open(t, 2)
	if window != 1<<19 {
		t.Errorf("window of the second stream %d, want half the budget", window)
	}
	first.window(func(w int64) bool { return w == 1<<19 })

	first.send(batch(1, false, "leads", 1, 600<<10))
	second.send(batch(1, false, "leads", 1, 600<<10)) // together more than the budget
	a, b := f.sink.next(t), f.sink.next(t)
	third, window := f.open(t, 3)
	if window != 0 {
		t.Errorf("window without any room %d, want 0", window)
	}
	a.done(nil)
	b.done(nil)
	third.window(func(w int64) bool { return w > 0 })
	first.ack()
	second.ack()
}

func TestAnUplinkThatIgnoresItsWindowIsHeldBack(t *testing.T) {
	const budget, each = 1 << 20, 100 << 10
	f := start(t, newFakeSink(), budget)
	c, _ := f.open(t, 1)
	const batches = 100
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for sequence := range uint64(batches) {
			c.send(batch(sequence+1, false, "leads", 1, each))
		}
	}()
	acked := map[uint64]bool{}
	for len(acked) < batches {
		b := f.sink.next(t)
		if n := f.budget.total(); n > budget+each+1000 {
			t.Errorf("%d bytes in flight", n)
		}
		b.done(nil)
		acked[c.ack().GetSequence()] = true
	}
	<-sent
}

func TestBatchesOfAStreamThatEndedCountUntilTheyAreStored(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	c.send(batch(1, false, "leads", 1, 1000))
	b := f.sink.next(t)
	c.send([]byte{0xff})
	if err := c.end(); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	if f.budget.total() == 0 {
		t.Error("the batch is not accounted for any more")
	}
	b.done(nil)
	if n := f.budget.total(); n != 0 {
		t.Errorf("%d bytes in flight", n)
	}
}

func TestAfterAHalfCloseWhatWasReceivedIsAcknowledged(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	c.send(batch(1, false, "leads", 1, 1000))
	if err := c.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.sink.next(t).done(nil)
	c.ack()
	if err := c.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

func TestDraining(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	idle, _ := f.open(t, 1)
	busy, _ := f.open(t, 2)
	silent := f.dial(t) // no hello yet
	busy.send(batch(1, false, "leads", 1, 1000))
	b := f.sink.next(t)

	drained := make(chan error, 1)
	f.drained.Do(func() { go func() { drained <- f.Drain(t.Context()) }() })
	for _, c := range []*client{idle, busy} {
		for c.receive().GetDraining() == nil {
		}
		if w := c.receive().GetWindow(); w == nil || w.GetBytes() != 0 {
			t.Errorf("after draining comes %v, want a closed window", w)
		}
	}
	busy.send(batch(2, false, "leads", 1, 1000)) // was under way
	late := f.sink.next(t)
	if err := idle.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle stream ends with %v", err)
	}
	if err := silent.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream without hello ends with %v", err)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained with a batch under way: %v", err)
	default:
	}
	b.done(nil)
	late.done(nil)
	if got := busy.ack().GetSequence() + busy.ack().GetSequence(); got != 3 {
		t.Errorf("acks for batches that add up to %d, want 1 and 2", got)
	}
	if err := busy.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the busy stream ends with %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainingGivesUp(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	c.send(batch(1, false, "leads", 1, 1000))
	b := f.sink.next(t)
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	f.drained.Do(func() { go func() { drained <- f.Drain(ctx) }() })
	for c.receive().GetDraining() == nil {
	}
	cancel()
	if err := <-drained; err == nil || !strings.Contains(err.Error(), "bytes were not acknowledged") {
		t.Errorf("draining ends with %v", err)
	}
	for {
		m := &collectpb.CollectorMessage{}
		if err := c.RecvMsg(m); err != nil {
			break
		}
		if m.GetAck() != nil {
			t.Error("a batch was acknowledged that was not stored")
		}
	}
	b.done(nil)
}
