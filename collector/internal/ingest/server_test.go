package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
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
	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

const patience = 30 * time.Second

// fakeSink holds batches until the test answers for them.
type fakeSink struct {
	connected chan struct{}
	batches   chan *held
}

type held struct {
	produce.Batch
	done func([]produce.Refusal)
}

func newFakeSink() *fakeSink {
	s := &fakeSink{connected: make(chan struct{}), batches: make(chan *held, 10_000)}
	close(s.connected)
	return s
}

func (s *fakeSink) Produce(b produce.Batch, done func([]produce.Refusal)) {
	s.batches <- &held{b, done}
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

// fakeSpool holds batches until the test says that they are stored.
type fakeSpool struct {
	batches chan *appended
	left    map[record.UplinkID][]uint64

	mu      sync.Mutex
	free    int64
	closed  []string
	changed func()
}

type appended struct {
	spool.Entry
	stored func(error)
}

func newFakeSpool() *fakeSpool {
	return &fakeSpool{batches: make(chan *appended, 10_000), free: 1 << 40}
}

func (s *fakeSpool) Append(e spool.Entry, stored func(error)) { s.batches <- &appended{e, stored} }

func (s *fakeSpool) Room() (int64, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.closed
}

func (s *fakeSpool) Watch(changed func()) { s.changed = changed }

func (s *fakeSpool) Left(visit func(record.UplinkID, uint64)) {
	for id, sequences := range s.left {
		for _, sequence := range sequences {
			visit(id, sequence)
		}
	}
}

func (s *fakeSpool) room(free int64, closed ...string) {
	s.mu.Lock()
	s.free, s.closed = free, closed
	s.mu.Unlock()
	s.changed()
}

func (s *fakeSpool) next(t *testing.T) *appended {
	t.Helper()
	select {
	case b := <-s.batches:
		return b
	case <-time.After(patience):
		t.Fatal("no batch reaches the spool")
		return nil
	}
}

type fixture struct {
	*Server
	sink    *fakeSink
	conn    *grpc.ClientConn
	drained sync.Once
}

// start serves without a spool, unless one is given.
func start(t *testing.T, sink *fakeSink, maxBuffer int64, spools ...Spool) *fixture {
	t.Helper()
	kafkatest.NoGoroutinesLeft(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sp Spool
	if len(spools) > 0 {
		sp = spools[0]
	}
	f := &fixture{sink: sink, Server: New(Config{Name: "collector-0", MaxBufferBytes: maxBuffer}, sink, sp,
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
	levels := []collectpb.Level{collectpb.Level_LEVEL_KAFKA}
	if f.spool != nil {
		levels = []collectpb.Level{collectpb.Level_LEVEL_DISK, collectpb.Level_LEVEL_KAFKA}
	}
	if w == nil || w.GetCollector() != "collector-0" || !slices.Equal(w.GetLevels(), levels) {
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

// ack returns the next acknowledgement, which is one of level kafka, passing over windows.
func (c *client) ack() *collectpb.Ack {
	c.t.Helper()
	return c.ackOf(collectpb.Level_LEVEL_KAFKA)
}

func (c *client) ackOf(level collectpb.Level) *collectpb.Ack {
	c.t.Helper()
	for {
		m := c.receive()
		if a := m.GetAck(); a != nil {
			if a.GetLevel() != level {
				c.t.Fatalf("ack: %v", a)
			}
			return a
		}
		if m.GetWindow() == nil {
			c.t.Fatalf("got %v, want an ack", m)
		}
	}
}

// closed returns once the topics that the stream was last told to be closed are these, each with its level.
func (c *client) closed(want ...string) {
	c.t.Helper()
	for {
		if w := c.receive().GetWindow(); w != nil {
			var got []string
			for _, closed := range w.GetClosed() {
				got = append(got, closed.GetTopic()+" "+record.Level(closed.GetLevel()).String())
			}
			if slices.Equal(got, want) {
				return
			}
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

// message encodes a batch of records of one route with ack memory.
func message(sequence uint64, redelivered bool, route string, records, body int) []byte {
	return messageOf(record.LevelMemory, sequence, redelivered, route, records, body)
}

// directMessage encodes a batch of one record of a route with ack kafka.
func directMessage(sequence uint64, route string, body int) []byte {
	return messageOf(record.LevelKafka, sequence, false, route, 1, body)
}

func messageOf(level record.Level, sequence uint64, redelivered bool, route string, records, body int) []byte {
	var b record.Batch
	for range records {
		r := sample(route, body)
		r.Ack = level
		b.Add(r.Parts())
	}
	b.AddAnswered(record.Answered{Route: route, Level: level, Answers: uint64(records)})
	return b.Message(record.Head{Sequence: sequence, Redelivered: redelivered})
}

func TestABatchIsAcknowledgedWhenItIsStoredAndNotBefore(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, window := f.open(t, 1)
	if window != 1<<19 {
		t.Errorf("first window %d, want half of the budget", window)
	}
	for sequence := range uint64(3) {
		c.send(message(sequence+1, sequence == 2, "leads", 10, 100))
	}
	var batches []*held
	for range 3 {
		batches = append(batches, f.sink.next(t))
	}
	// In any order: a slow topic does not hold up another's batches.
	for _, i := range []int{1, 2, 0} {
		b := batches[i]
		if len(b.Items) != 10 || b.Items[9].Index != 9 || len(b.Items[9].Record.Body) != 100 || b.Redelivered != (i == 2) {
			t.Errorf("batch %d arrives as %d items, redelivered %v", i+1, len(b.Items), b.Redelivered)
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
		"answered":    {f.metrics.answeredTotal.WithLabelValues("leads", "memory"), 30},
		"stored":      {f.metrics.storedTotal.WithLabelValues("leads", "memory"), 29},
		"refused":     {f.metrics.refusedTotal.WithLabelValues("leads", "too_large"), 1},
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
	for i, item := range b.Items {
		if item.Index != i {
			t.Errorf("item %d has index %d", i, item.Index)
		}
		switch {
		case item.Malformed != "":
			refusals = append(refusals, produce.Refusal{Index: i, Class: produce.ClassMalformed, Reason: item.Malformed})
		case i == 2:
			refusals = append(refusals, produce.Refusal{Index: i, Class: produce.ClassTopic, Reason: "no such topic", DeadLettered: true})
		}
	}
	if body := b.Items[3].Record.Body; !slices.Equal(body, []byte{0xff}) {
		t.Errorf("the bytes of item 3 are %x", body)
	}
	b.done(refusals)
	a := c.ack()
	var refused []string
	for _, r := range a.GetRefused() {
		refused = append(refused, fmt.Sprint(r.GetIndex(), " ", r.GetReason()))
		if r.GetDeadLettered() != (r.GetIndex() == 2) {
			t.Errorf("record %d is a dead letter: %v", r.GetIndex(), r.GetDeadLettered())
		}
	}
	if a.GetSequence() != 7 || len(refused) != 3 || !strings.HasPrefix(refused[0], "1 record: malformed message: id of 3 bytes") ||
		refused[1] != "2 no such topic" || !strings.HasPrefix(refused[2], "3 record: malformed message") {
		t.Errorf("ack %d refuses %q", a.GetSequence(), refused)
	}
	if got := testutil.ToFloat64(f.metrics.refusedTotal.WithLabelValues(label.Unknown, produce.ClassMalformed)); got != 2 {
		t.Errorf("%v malformed records counted, want 2", got)
	}
	if got := testutil.ToFloat64(f.metrics.storedTotal.WithLabelValues("leads", "memory")); got != 2 {
		t.Errorf("%v stored records counted, want 2: one of them is a dead letter", got)
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
		{"no hello", [][]byte{message(1, false, "leads", 1, 1)}, codes.InvalidArgument, "first message must be a hello"},
		{"empty", [][]byte{{}}, codes.InvalidArgument, "the first message must be a hello"},
		{"noise", [][]byte{[]byte("GET / HTTP/1.1\r\n")}, codes.InvalidArgument, "malformed message"},
		{"a short uplink", [][]byte{{0x0a, 3, 0x0a, 1, 7}}, codes.InvalidArgument, "uplink of 1 bytes"},
		{"hello twice", [][]byte{hello, hello}, codes.InvalidArgument, "second hello"},
		{"noise later", [][]byte{hello, {0xff, 0xff}}, codes.InvalidArgument, "malformed message"},
		{"no sequence", [][]byte{hello, {0x12, 0}}, codes.InvalidArgument, "batch without sequence"},
		{"two topics", [][]byte{hello, mixed(sample("leads", 1), sample("orders", 1))}, codes.InvalidArgument,
			`batch 5 mixes topics: record 0 is for "leads", record 1 for "orders"`},
		{"two classes", [][]byte{hello, mixed(sample("leads", 1), asking(record.LevelKafka))}, codes.InvalidArgument,
			`batch 5 mixes ack kafka with others: record 0 of route "leads" asks for memory, record 1 of route "leads" for kafka`},
		{"it is settled itself", [][]byte{hello, settledBelow(8)}, codes.InvalidArgument,
			"batch 5 says that all below 8 have been acknowledged"},
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
	witness.send(message(1, false, "leads", 1, 1))
	f.sink.next(t).done(nil)
	witness.ack()
}

func asking(level record.Level) *record.Record {
	r := sample("leads", 1)
	r.Ack = level
	return r
}

func mixed(records ...*record.Record) []byte {
	var b record.Batch
	for _, r := range records {
		b.Add(r.Parts())
	}
	return b.Message(record.Head{Sequence: 5})
}

func settledBelow(n uint64) []byte {
	var b record.Batch
	return b.Message(record.Head{Sequence: 5, SettledBelow: n})
}

func TestTheLongestMessageIsTaken(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	c, _ := f.open(t, 1)
	c.send(message(1, false, "leads", 1, record.MaxMessageBytes-1000))
	b := f.sink.next(t)
	if n := len(b.Items[0].Record.Body); n != record.MaxMessageBytes-1000 {
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
	f.open(t, 1)
}

func TestTheWindowIsSharedAndClosesWhenTheBudgetIsUsedUp(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	first, _ := f.open(t, 1)
	second, window := f.open(t, 2)
	if window != 1<<18 {
		t.Errorf("window of the second stream %d, want a quarter of the budget", window)
	}
	first.window(func(w int64) bool { return w == 1<<18 })

	first.send(message(1, false, "leads", 1, 600<<10))
	second.send(message(1, false, "leads", 1, 600<<10)) // together more than the budget
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
			c.send(message(sequence+1, false, "leads", 1, each))
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
	c.send(message(1, false, "leads", 1, 1000))
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
	c.send(message(1, false, "leads", 1, 1000))
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
	busy.send(message(1, false, "leads", 1, 1000))
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
	busy.send(message(2, false, "leads", 1, 1000)) // was under way
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
	c.send(message(1, false, "leads", 1, 1000))
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

func TestASpooledBatchIsAcknowledgedWhenItIsOnDisk(t *testing.T) {
	sp := newFakeSpool()
	f := start(t, newFakeSink(), 1<<20, sp)
	c, _ := f.open(t, 1)
	c.send(message(1, true, "leads", 3, 100))
	c.send(directMessage(2, "orders", 100))

	entry := sp.next(t)
	want := record.UplinkID{1}
	if entry.Uplink != want || entry.Sequence != 1 || !entry.Redelivered || entry.Topic != "leads" || len(entry.Records) != 3 {
		t.Errorf("in the spool: %+v", entry.Entry)
	}
	entry.stored(nil)
	if a := c.ackOf(collectpb.Level_LEVEL_DISK); a.GetSequence() != 1 {
		t.Errorf("ack %v", a)
	}
	if got := testutil.ToFloat64(f.metrics.storedTotal.WithLabelValues("leads", "memory")); got != 3 {
		t.Errorf("%v records stored, want 3", got)
	}

	b := f.sink.next(t)
	if b.Items[0].Record.Topic != "orders" || b.Stored {
		t.Errorf("to kafka goes %q, stored %v", b.Items[0].Record.Topic, b.Stored)
	}
	b.done([]produce.Refusal{{Index: 0, Class: produce.ClassTooLarge, DeadLettered: true}})
	if a := c.ack(); a.GetSequence() != 2 || len(a.GetRefused()) != 1 || !a.GetRefused()[0].GetDeadLettered() {
		t.Errorf("ack %v", a)
	}
	if got := testutil.ToFloat64(f.metrics.storedTotal.WithLabelValues("orders", "kafka")); got != 1 {
		t.Errorf("%v records stored, want 1: kafka has the dead letter", got)
	}
}

func TestDeliverSetsAsideWhatKafkaTakesInNoForm(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20, newFakeSpool())
	done := make(chan []spool.Undeliverable, 1)
	good := sample("leads", 10).Append(nil)
	f.Deliver(&spool.Entry{Redelivered: true, Topic: "leads", Records: [][]byte{good, {0xff}, good}},
		func(u []spool.Undeliverable) { done <- u })
	b := f.sink.next(t)
	if len(b.Items) != 3 || !b.Redelivered || !b.Stored || b.Items[1].Malformed == "" {
		t.Errorf("delivered: %+v", b)
	}
	b.done([]produce.Refusal{
		{Index: 0, Class: produce.ClassTooLarge, Reason: "too large", DeadLettered: true},
		{Index: 1, Class: produce.ClassMalformed, Reason: "malformed"},
	})
	if u := <-done; len(u) != 1 || u[0].Index != 1 || u[0].Reason != "malformed" {
		t.Errorf("undeliverable: %+v", u)
	}
	if got := testutil.ToFloat64(f.metrics.refusedTotal.WithLabelValues(label.Unknown, produce.ClassMalformed)); got != 1 {
		t.Errorf("%v refused records counted, want 1", got)
	}
	if n := testutil.CollectAndCount(f.metrics.storedTotal); n != 0 {
		t.Error("counted as stored once more")
	}
}

func TestABatchThatCouldNotBeSpooledEndsItsStreams(t *testing.T) {
	sp := newFakeSpool()
	f := start(t, newFakeSink(), 1<<20, sp)
	first, _ := f.open(t, 1)
	first.send(message(1, false, "leads", 3, 100))
	entry := sp.next(t)
	second, _ := f.open(t, 1)
	second.send(message(1, true, "leads", 3, 100))
	f.deduplicated(t, 1)
	if err := second.CloseSend(); err != nil {
		t.Fatal(err)
	}
	entry.stored(errors.New("no space left"))
	for _, c := range []*client{first, second} {
		if err := c.end(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("the stream ends with %v", err)
		}
	}
	if n := testutil.CollectAndCount(f.metrics.storedTotal); n != 0 {
		t.Error("it counts as stored")
	}
	if n := testutil.CollectAndCount(f.metrics.answeredTotal); n != 0 {
		t.Error("its answers count")
	}
	third, _ := f.open(t, 1)
	third.send(message(1, true, "leads", 3, 100))
	sp.next(t).stored(nil)
	third.ackOf(collectpb.Level_LEVEL_DISK)
	for name, c := range map[string]*prometheus.CounterVec{
		"answered": f.metrics.answeredTotal, "stored": f.metrics.storedTotal,
	} {
		if got := testutil.ToFloat64(c.WithLabelValues("leads", "memory")); got != 3 {
			t.Errorf("%s = %v, want 3", name, got)
		}
	}
	if n := f.budget.total(); n != 0 {
		t.Errorf("%d bytes in flight", n)
	}
}

func TestABatchThatIsLargerThanTheSpoolGoesToKafka(t *testing.T) {
	sp := newFakeSpool()
	f := start(t, newFakeSink(), 1<<20, sp)
	c, _ := f.open(t, 1)
	c.send(message(1, false, "leads", 3, 100))
	go sp.next(t).stored(fmt.Errorf("an entry is %w", spool.ErrTooLarge))
	held := f.sink.next(t)
	if got := testutil.ToFloat64(f.metrics.answeredTotal.WithLabelValues("leads", "memory")); got != 3 {
		t.Errorf("%v answers while Kafka has not taken it, want 3", got)
	}
	held.done(nil)
	c.ack()
	c.send(message(1, true, "leads", 3, 100))
	c.ack()
	if got := testutil.ToFloat64(f.metrics.storedTotal.WithLabelValues("leads", "memory")); got != 3 {
		t.Errorf("%v records stored, want 3", got)
	}
}

// deduplicated waits until so many batches were.
func (f *fixture) deduplicated(t *testing.T, n int) {
	t.Helper()
	for start := time.Now(); testutil.ToFloat64(f.metrics.deduplicated) != float64(n); {
		if time.Since(start) > patience {
			t.Fatalf("%v repeats, want %d", testutil.ToFloat64(f.metrics.deduplicated), n)
		}
		runtime.Gosched()
	}
}

func TestARepeatIsAcknowledgedAndStoredOnce(t *testing.T) {
	f := start(t, newFakeSink(), 1<<20)
	first, _ := f.open(t, 1)
	first.send(message(1, false, "leads", 2, 1000))
	b := f.sink.next(t)
	first.send([]byte{0xff})
	if err := first.end(); status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}

	// In progress: it waits. It counts, but not as much as the batch itself.
	before := f.budget.total()
	second, _ := f.open(t, 1)
	second.send(message(1, true, "leads", 2, 1000))
	f.deduplicated(t, 1)
	if n := f.budget.total() - before; n != batchCost {
		t.Errorf("the repeat takes %d bytes", n)
	}
	b.done([]produce.Refusal{{Index: 1, Class: produce.ClassTooLarge, Reason: "too large"}})
	third, _ := f.open(t, 1)
	third.send(message(1, true, "leads", 2, 1000)) // settled
	for _, c := range []*client{second, third} {
		if a := c.ack(); a.GetSequence() != 1 || len(a.GetRefused()) != 1 || a.GetRefused()[0].GetReason() != "too large" {
			t.Errorf("ack %v", a)
		}
	}
	// Another uplink's batch with the same number is another batch.
	other, _ := f.open(t, 2)
	other.send(message(1, false, "leads", 2, 1000))
	f.sink.next(t).done(nil)
	other.ack()

	if len(f.sink.batches) > 0 {
		t.Error("a repeat was stored")
	}
	for name, c := range map[string]struct {
		collector prometheus.Collector
		want      float64
	}{
		"answered":     {f.metrics.answeredTotal.WithLabelValues("leads", "memory"), 4},
		"stored":       {f.metrics.storedTotal.WithLabelValues("leads", "memory"), 3},
		"redelivered":  {f.metrics.batches.WithLabelValues("true"), 2},
		"deduplicated": {f.metrics.deduplicated, 2},
	} {
		if got := testutil.ToFloat64(c.collector); got != c.want {
			t.Errorf("%s = %v, want %v", name, got, c.want)
		}
	}
}

func TestWhatIsStillInTheSpoolIsKnown(t *testing.T) {
	sp := newFakeSpool()
	sp.left = map[record.UplinkID][]uint64{{1}: {7, 9}}
	f := start(t, newFakeSink(), 1<<20, sp)
	c, _ := f.open(t, 1)
	for _, sequence := range []uint64{9, 8, 7} {
		c.send(message(sequence, true, "leads", 1, 10))
	}
	entry := sp.next(t)
	if entry.Sequence != 8 {
		t.Errorf("batch %d is stored again", entry.Sequence)
	}
	entry.stored(nil)
	for range 3 {
		c.ackOf(collectpb.Level_LEVEL_DISK)
	}
	if len(sp.batches) > 0 {
		t.Error("one that is there was stored again")
	}
}

func TestAReportIsCountedOnceAndAcknowledgedAtOnce(t *testing.T) {
	report := func(redelivered bool) []byte {
		var b record.Batch
		b.AddAnswered(record.Answered{Route: "leads", Level: record.LevelDisk, Answers: 5})
		return b.Message(record.Head{Sequence: 1, Redelivered: redelivered})
	}
	for name, c := range map[string]struct {
		spools []Spool
		level  collectpb.Level
	}{
		"diskless":     {nil, collectpb.Level_LEVEL_KAFKA},
		"with a spool": {[]Spool{newFakeSpool()}, collectpb.Level_LEVEL_DISK},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, newFakeSink(), 1<<20, c.spools...)
			s, _ := f.open(t, 1)
			for _, redelivered := range []bool{false, true} {
				s.send(report(redelivered))
				if a := s.ackOf(c.level); a.GetSequence() != 1 {
					t.Errorf("ack %v", a)
				}
			}
			if got := testutil.ToFloat64(f.metrics.answeredTotal.WithLabelValues("leads", "disk")); got != 5 {
				t.Errorf("%v answers, want 5", got)
			}
		})
	}
}

func TestClosedTopicsAreTold(t *testing.T) {
	const budget = 1 << 20
	t.Run("diskless", func(t *testing.T) {
		f := start(t, newFakeSink(), budget)
		witness, _ := f.open(t, 2)
		c, _ := f.open(t, 1)
		c.send(message(1, false, "stuck", 1, 700<<10))
		stuck := f.sink.next(t)
		witness.closed("stuck memory", "stuck disk", "stuck kafka")
		late, window := f.open(t, 3)
		if window == 0 {
			t.Error("there is no room for another topic")
		}
		late.closed("stuck memory", "stuck disk", "stuck kafka")
		c.send(message(2, false, "other", 1, 100)) // from the same uplink
		f.sink.next(t).done(nil)
		c.ack()
		stuck.done(nil)
		witness.closed()
		late.closed()
	})
	t.Run("with a spool", func(t *testing.T) {
		sp := newFakeSpool()
		f := start(t, newFakeSink(), budget, sp)
		c, _ := f.open(t, 1)
		sp.room(1<<30, "slow")
		c.closed("slow memory", "slow disk")
		c.send(directMessage(1, "stuck", 700<<10))
		stuck := f.sink.next(t)
		c.closed("stuck kafka", "slow memory", "slow disk")
		sp.room(1 << 30)
		c.closed("stuck kafka")
		c.send(message(2, false, "stuck", 1, 100)) // by the spool it may come
		sp.next(t).stored(nil)
		c.ackOf(collectpb.Level_LEVEL_DISK)
		stuck.done(nil)
		c.closed()
	})
}

func TestTheWindowFollowsTheSpoolsRoom(t *testing.T) {
	sp := newFakeSpool()
	f := start(t, newFakeSink(), 1<<30, sp)
	c, window := f.open(t, 1)
	if window != 1<<29 {
		t.Errorf("window %d, want half of the memory", window)
	}
	sp.room(10 << 20)
	c.window(func(w int64) bool { return w == 5<<20 })
	sp.room(0)
	c.window(func(w int64) bool { return w == 0 })
	sp.room(1 << 40)
	c.window(func(w int64) bool { return w == 1<<29 })
}

func TestAFullSpoolLeavesTheWindowOpenForWhatPassesItBy(t *testing.T) {
	sink, sp := newFakeSink(), newFakeSpool()
	f := start(t, sink, 1<<30, sp)
	c, _ := f.open(t, 1)
	sp.room(0)
	c.window(func(w int64) bool { return w == 0 })
	late, window := f.open(t, 2)
	if window != 0 {
		t.Errorf("window %d in a welcome, want 0", window)
	}
	w := late.receive().GetWindow() // at once, as the welcome does not tell it
	if w.GetBytes() != 0 || w.GetDirectBytes() != 1<<28 {
		t.Errorf("after it comes %v, want a quarter of the memory for what needs no disk", w)
	}
	late.send(directMessage(1, "leads", 1000))
	sink.next(t).done(nil)
	late.ack()
}

func TestKafkaDoesNotDelayTheDrainOfSpooledBatches(t *testing.T) {
	sink := newFakeSink()
	sink.connected = make(chan struct{}) // never
	sp := newFakeSpool()
	f := start(t, sink, 1<<20, sp)
	c, _ := f.open(t, 1)
	c.send(message(1, false, "leads", 1, 1000))
	entry := sp.next(t)
	drained := make(chan error, 1)
	f.drained.Do(func() { go func() { drained <- f.Drain(t.Context()) }() })
	for c.receive().GetDraining() == nil {
	}
	entry.stored(nil)
	c.ackOf(collectpb.Level_LEVEL_DISK)
	if err := c.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestATopicThatIsNoTextBreaksNoStream has it close, as others do that wait: it would be named to all uplinks.
func TestATopicThatIsNoTextBreaksNoStream(t *testing.T) {
	sp := newFakeSpool()
	f := start(t, newFakeSink(), 1<<20, sp)
	c, _ := f.open(t, 1)
	c.send(message(1, false, "\xff", 1, 100))
	b := sp.next(t)
	if parsed := b.Parsed.([]produce.Item); b.Topic != "" || len(parsed) != 1 || parsed[0].Malformed == "" {
		t.Errorf("topic %q, parsed as %+v", b.Topic, parsed)
	}
	b.stored(nil)
	c.ackOf(collectpb.Level_LEVEL_DISK)
	sp.room(1<<30, b.Topic)
	c.closed(" memory", " disk")
}
