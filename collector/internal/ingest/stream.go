package ingest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

const (
	// heartbeat is how often the window is sent though it has not changed.
	heartbeat = time.Second
	// lastWord is how long a drained stream stays open for batches that were under way when the uplink was told.
	// Without it they would be sent again elsewhere: correct, but marked as redelivered.
	lastWord = 250 * time.Millisecond
	// batchCost is what a copy of a batch takes in memory beside its message, until its acknowledgement is written. It
	// counts: a batch may be empty, and its acknowledgement wait for an uplink that does not read.
	batchCost = 192
)

// stream is one uplink's stream after its hello. The handler's goroutine runs it and is the only one that sends;
// another one reads; the sink's calls finish.
type stream struct {
	server  *Server
	grpc    grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage]
	account *account
	uplink  *uplink
	id      record.UplinkID
	wake    chan struct{} // holds one wake-up for run

	mu    sync.Mutex
	open  int   // batches received and not yet among those that run has taken to acknowledge
	acks  []ack // to be sent
	over  error // why no more is read, or no more can be stored; io.EOF: the uplink has said that it is done
	ended bool  // nobody sends acks any more
}

// ack is a batch whose fate is known.
type ack struct {
	sequence uint64
	level    record.Level
	outcome
}

func newStream(s *Server, g grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage],
	id record.UplinkID) *stream {
	st := &stream{server: s, grpc: g, id: id, uplink: s.ledger.open(id), wake: make(chan struct{}, 1)}
	st.account = s.budget.open(st.wakeUp)
	return st
}

// end is called when run has returned. Batches that are being stored stay so, unacknowledged.
func (st *stream) end() {
	st.mu.Lock()
	copies := st.open + len(st.acks)
	st.open, st.acks, st.ended = 0, nil, true
	st.mu.Unlock()
	st.account.release(charge{bytes: int64(copies) * batchCost})
	st.account.close()
	st.server.ledger.close(st.uplink)
}

func (st *stream) wakeUp() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// run sends what there is to send until the stream is over.
func (st *stream) run(ctx context.Context) error {
	draining := st.server.draining
	offer := func() terms {
		t := st.terms()
		if draining == nil {
			t.bytes, t.direct = 0, 0
		}
		return t
	}
	told := offer()
	if err := st.grpc.Send(st.welcome(told.bytes)); err != nil {
		return err
	}
	told.direct, told.closed = told.bytes, nil // a welcome does not tell them
	go st.read(ctx)

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var quiet <-chan time.Time // fires lastWord after draining began
	for drained, due := false, false; ; {
		acks, open, over := st.take()
		for _, a := range acks {
			if err := st.grpc.Send(a.message()); err != nil {
				return err
			}
		}
		switch {
		case over != nil && !errors.Is(over, io.EOF):
			return over
		case open == 0 && (over != nil || drained):
			return nil
		}
		if now := offer(); due || now.worthSending(told) {
			told, due = now, false
			if err := st.grpc.Send(now.message()); err != nil {
				return err
			}
		}
		select {
		case <-st.wake:
		case <-beat.C:
			due = true
		case <-draining:
			draining = nil
			quiet = time.After(lastWord)
			due = true
			if err := st.grpc.Send(drainingMessage()); err != nil {
				return err
			}
		case <-quiet:
			drained = true
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// The levels of batches, by where they wait.
var (
	spooled = []record.Level{record.LevelMemory, record.LevelDisk}
	direct  = []record.Level{record.LevelKafka}
	all     = []record.Level{record.LevelMemory, record.LevelDisk, record.LevelKafka}
)

// terms returns what the uplink may send now.
func (st *stream) terms() terms {
	var disk []string
	free, passing := int64(unlimited), all
	if st.server.spool != nil {
		free, disk = st.server.spool.Room()
		passing = direct
	}
	t, memory := st.account.window(free)
	t.closed = closedTopics(memory, disk, passing, spooled)
	return t
}

// take returns the acks to send, how many batches are left without one, and why the stream is over if it is. The
// acks count no more: a peer that does not read its acks blocks run, and with it all further ones.
func (st *stream) take() (acks []ack, open int, over error) {
	st.mu.Lock()
	acks, open, over = st.acks, st.open, st.over
	st.acks = nil
	st.mu.Unlock()
	if len(acks) > 0 {
		st.account.release(charge{bytes: int64(len(acks)) * batchCost})
	}
	return acks, open, over
}

// read takes batches in until the stream is over.
func (st *stream) read(ctx context.Context) {
	err := st.readBatches(ctx)
	st.mu.Lock()
	if st.over == nil {
		st.over = err
	}
	st.mu.Unlock()
	st.wakeUp()
}

func (st *stream) readBatches(ctx context.Context) error {
	for st.account.admit(ctx) {
		var f frame
		if err := st.grpc.RecvMsg(&f); err != nil {
			return err
		}
		m, err := record.ParseUplinkMessage(f.raw)
		if err == nil && m.Hello != nil {
			err = errors.New("a second hello")
		}
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if m.Batch == nil {
			continue // of a kind that a later version may have brought
		}
		b, err := parse(m.Batch)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		st.server.metrics.received(b.Received, len(f.raw))
		st.accept(&b, int64(len(f.raw)))
	}
	return status.FromContextError(ctx.Err()).Err()
}

// accept has a batch stored and acknowledged, or only acknowledged, if it was here before.
func (st *stream) accept(b *batch, length int64) {
	s := st.server
	if !st.begin() {
		return
	}
	a := ack{sequence: b.Sequence, level: record.LevelDisk}
	if s.toKafka(b) {
		a.level = record.LevelKafka
	}
	if !st.uplink.receive(b.Head, waiter{
		told: func(o outcome) {
			a.outcome = o
			if o.direct {
				a.level = record.LevelKafka
			}
			st.finish(a)
		},
		gone: st.gone,
	}) {
		s.metrics.deduplicated.Inc()
		return
	}
	held := charge{bytes: length}
	if a.level == record.LevelKafka {
		held.topic = strings.Clone(b.topic)
	}
	st.account.take(held)
	s.store(st.id, b, func(o outcome) {
		st.account.release(held)
		st.uplink.settle(b.Sequence, o)
	})
}

// begin notes a copy of a batch that will be acknowledged; false: by nobody, as the stream has ended.
func (st *stream) begin() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return false
	}
	st.open++
	st.account.take(charge{bytes: batchCost})
	return true
}

// finish has a copy acknowledged, if the stream is still there; that of a batch that was not stored ends it.
func (st *stream) finish(a ack) {
	st.mu.Lock()
	if st.ended {
		st.mu.Unlock()
		return
	}
	st.open--
	if a.err == nil {
		st.acks = append(st.acks, a)
	} else {
		st.account.release(charge{bytes: batchCost})
		if st.over == nil || errors.Is(st.over, io.EOF) {
			st.over = a.err
		}
	}
	st.mu.Unlock()
	st.wakeUp()
}

func (st *stream) gone() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ended
}

func (st *stream) welcome(window int64) *collectpb.CollectorMessage {
	s := st.server
	w := &collectpb.Welcome{
		Levels: []collectpb.Level{collectpb.Level_LEVEL_KAFKA}, WindowBytes: uint64(window), Collector: s.name,
		Version: record.Version, Instance: s.instance[:],
	}
	if s.spool != nil {
		w.Levels = []collectpb.Level{collectpb.Level_LEVEL_DISK, collectpb.Level_LEVEL_KAFKA}
	}
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Welcome{Welcome: w}}
}

func (a ack) message() *collectpb.CollectorMessage {
	m := &collectpb.Ack{Sequence: a.sequence, Level: collectpb.Level(a.level)}
	for _, r := range a.refused {
		m.Refused = append(m.Refused, &collectpb.Refused{
			Index: uint32(r.Index), Class: r.Class, Reason: strings.ToValidUTF8(r.Reason, "?"), DeadLettered: r.DeadLettered,
		})
	}
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{Ack: m}}
}

func drainingMessage() *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Draining{Draining: &collectpb.Draining{}}}
}
