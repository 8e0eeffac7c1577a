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
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

const (
	// heartbeat is how often the window is sent though it has not changed.
	heartbeat = time.Second
	// lastWord is how long a drained stream stays open for batches that were under way when the uplink was told.
	// Without it they would be sent again elsewhere: correct, but marked as redelivered.
	lastWord = 250 * time.Millisecond
	// batchCost is what a batch takes in memory beside its message, until its acknowledgement is written. It counts:
	// a batch may be empty, and its acknowledgement wait for an uplink that does not read.
	batchCost = 128
)

// stream is one uplink's stream after its hello. The handler's goroutine runs it and is the only one that sends;
// another one reads; the sink's calls finish.
type stream struct {
	server  *Server
	grpc    grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage]
	account *account
	uplink  *uplink
	wake    chan struct{} // holds one wake-up for run

	mu      sync.Mutex
	open    int   // batches received and not yet among those that run has taken to acknowledge
	acks    []ack // to be sent
	readErr error // why reading has ended
	ended   bool  // nobody sends acks any more
}

// ack is a batch whose fate is known.
type ack struct {
	sequence uint64
	bytes    int64
	refused  []produce.Refusal
}

func newStream(s *Server, g grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage],
	id record.UplinkID) *stream {
	st := &stream{server: s, grpc: g, uplink: s.ledger.open(id), wake: make(chan struct{}, 1)}
	st.account = s.budget.open(st.wakeUp)
	return st
}

// end is called when run has returned. Batches that are still with the sink stay there, unacknowledged.
func (st *stream) end() {
	st.mu.Lock()
	acks := st.acks
	st.acks, st.ended = nil, true
	st.mu.Unlock()
	st.release(acks)
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
	window := func() int64 {
		if draining == nil {
			return 0
		}
		return st.account.window()
	}
	told := window()
	if err := st.grpc.Send(&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Welcome{
		Welcome: &collectpb.Welcome{
			Levels: []collectpb.Level{collectpb.Level_LEVEL_KAFKA}, WindowBytes: uint64(told), Collector: st.server.name,
			Version: record.Version, Instance: st.server.instance[:],
		},
	}}); err != nil {
		return err
	}
	go st.read(ctx)

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var quiet <-chan time.Time // fires lastWord after draining began
	for drained, due := false, false; ; {
		acks, open, readErr := st.take()
		for _, a := range acks {
			if err := st.grpc.Send(a.message()); err != nil {
				return err
			}
		}
		switch {
		case readErr != nil && !errors.Is(readErr, io.EOF):
			return readErr
		case open == 0 && (readErr != nil || drained):
			return nil
		}
		if now := window(); due || worthSending(told, now) {
			told, due = now, false
			if err := st.grpc.Send(windowMessage(now)); err != nil {
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

// take returns the acks to send, how many batches are left without one, and why reading has ended if it has. The
// acks' bytes count no more: a peer that does not read its acks blocks run, and with it all further ones.
func (st *stream) take() ([]ack, int, error) {
	st.mu.Lock()
	acks, open, readErr := st.acks, st.open, st.readErr
	st.acks = nil
	st.mu.Unlock()
	st.release(acks)
	return acks, open, readErr
}

func (st *stream) release(acks []ack) {
	var bytes int64
	for _, a := range acks {
		bytes += a.bytes
	}
	if bytes > 0 {
		st.account.release(bytes)
	}
}

// read takes batches in until the stream is over.
func (st *stream) read(ctx context.Context) {
	err := st.readBatches(ctx)
	st.mu.Lock()
	st.readErr = err
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
		st.accept(m.Batch, len(f.raw))
	}
	return status.FromContextError(ctx.Err()).Err()
}

// accept hands a batch to the sink.
func (st *stream) accept(b *record.Received, length int) {
	s := st.server
	s.metrics.received(b, length)
	bytes := int64(length + batchCost)
	items := make([]produce.Item, 0, len(b.Records))
	for i, raw := range b.Records {
		item := produce.Item{Index: i}
		var err error
		if item.Record, err = record.Parse(raw); err != nil {
			item.Record, item.Malformed = record.Record{Body: raw}, err.Error()
		}
		items = append(items, item)
	}
	s.ledger.report(b)
	st.account.take(bytes)
	st.mu.Lock()
	st.open++
	st.mu.Unlock()
	sequence := b.Sequence
	s.sink.Produce(items, b.Redelivered, func(refused []produce.Refusal) {
		s.metrics.acknowledged(items, refused)
		if len(refused) > 0 {
			s.trouble.Warn("records refused by their topic", "records", len(refused), "first", refused[0].Reason,
				"dead_lettered", refused[0].DeadLettered)
		}
		st.finish(ack{sequence, bytes, refused})
	})
}

// finish has a batch acknowledged, if the stream is still there.
func (st *stream) finish(a ack) {
	st.mu.Lock()
	ended := st.ended
	if !ended {
		st.acks = append(st.acks, a)
	}
	st.open--
	st.mu.Unlock()
	if ended {
		st.account.release(a.bytes)
		return
	}
	st.wakeUp()
}

func (a ack) message() *collectpb.CollectorMessage {
	m := &collectpb.Ack{Sequence: a.sequence, Level: collectpb.Level_LEVEL_KAFKA}
	for _, r := range a.refused {
		m.Refused = append(m.Refused, &collectpb.Refused{
			Index: uint32(r.Index), Class: r.Class, Reason: strings.ToValidUTF8(r.Reason, "?"),
			DeadLettered: r.DeadLettered,
		})
	}
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{Ack: m}}
}

func windowMessage(bytes int64) *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{
		Window: &collectpb.Window{Bytes: uint64(bytes)},
	}}
}

func drainingMessage() *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Draining{Draining: &collectpb.Draining{}}}
}
