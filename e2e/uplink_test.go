package e2e

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// uplink stands for an Envoy worker: a stream to a collector, on a connection of its own, on which it sends batches of
// records again and again.
type uplink struct {
	t        testing.TB
	stream   grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage]
	batches  []*record.Batch // in turn
	next     uint64          // sequence
	window   atomic.Int64
	windowed chan struct{}       // holds one wake-up
	acked    chan *collectpb.Ack // of batches that were sent
}

// uplinkVariety is how many different batches an uplink has: as many as make compressing them no easier than it is.
const uplinkVariety = 16

// uplinkTopic is that of all their records.
const uplinkTopic = "leads"

// newUplink connects to a collector. Its batches have so many records, which ask for a level.
func newUplink(b *testing.B, address string, records int, level record.Level) *uplink {
	b.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = connection.Close() })
	stream, err := collectpb.NewCollectorClient(connection).Collect(b.Context(),
		grpc.ForceCodecV2(encodedCodec{encoding.GetCodecV2("proto")}))
	if err != nil {
		b.Fatal(err)
	}
	u := &uplink{t: b, stream: stream, next: 1, windowed: make(chan struct{}, 1), acked: make(chan *collectpb.Ack, 1<<16)}
	for i := range uplinkVariety {
		batch := &record.Batch{}
		for j := range records {
			r, body := exampleRecord(i*records+j, level)
			r.Body = body
			batch.Add(r.Parts())
		}
		u.batches = append(u.batches, batch)
	}
	hello := record.Hello{Uplink: record.NewUplinkID(), NodeID: "bench", NodeCluster: "bench", Version: record.Version}
	if err := stream.SendMsg(encoded(hello.AppendMessage(nil))); err != nil {
		b.Fatal(err)
	}
	welcomed := make(chan struct{})
	go u.receive(welcomed)
	<-welcomed
	return u
}

func (u *uplink) receive(welcomed chan struct{}) {
	for {
		m, err := u.stream.Recv()
		if err != nil {
			close(u.acked)
			return
		}
		switch {
		case m.GetWelcome() != nil:
			u.window.Store(int64(m.GetWelcome().GetWindowBytes()))
			close(welcomed)
		case m.GetWindow() != nil:
			u.window.Store(int64(m.GetWindow().GetBytes()))
			select {
			case u.windowed <- struct{}{}:
			default:
			}
		case m.GetAck() != nil:
			u.acked <- m.GetAck()
		}
	}
}

// send sends so many batches, one every interval, unless so many are under way or the window is full, and returns how
// long each waited for its acknowledgement.
func (u *uplink) send(batches int, interval time.Duration, most int) []time.Duration {
	type underWay struct {
		since time.Time
		bytes int64
	}
	waiting := map[uint64]underWay{}
	var held int64
	var waits []time.Duration
	answered := func(a *collectpb.Ack, ok bool) bool {
		if !ok || len(a.GetRefused()) > 0 {
			u.t.Errorf("an uplink's stream ended, or records were refused: %v", a)
			return false
		}
		w := waiting[a.GetSequence()]
		delete(waiting, a.GetSequence())
		held -= w.bytes
		waits = append(waits, time.Since(w.since))
		return true
	}
	due := time.NewTimer(0)
	defer due.Stop()
	began, ready := time.Now(), false
	for sent := 0; sent < batches || len(waiting) > 0; {
		message := u.batches[u.next%uplinkVariety].Message(record.Head{
			Sequence: u.next, SettledBelow: u.next - min(u.next-1, uint64(2*most)),
		})
		if ready && sent < batches && len(waiting) < most && held+int64(len(message)) <= u.window.Load() {
			waiting[u.next] = underWay{time.Now(), int64(len(message))}
			held += int64(len(message))
			if err := u.stream.SendMsg(encoded(slices.Clone(message))); err != nil { // gRPC may still hold the one before
				u.t.Error(err)
				return nil
			}
			u.next++
			sent++
			if wait := time.Until(began.Add(time.Duration(sent) * interval)); wait > 0 {
				ready = false
				due.Reset(wait)
			}
			continue
		}
		select {
		case a, ok := <-u.acked:
			if !answered(a, ok) {
				return nil
			}
		case <-due.C:
			ready = true
		case <-u.windowed:
		}
	}
	return waits
}

// exampleRecord is a browser's POST of 512 bytes, as it comes through an Envoy.
func exampleRecord(i int, level record.Level) (record.Record, []byte) {
	now := time.Now()
	body := fmt.Appendf(nil, `{"id":%d,"email":"user-%d@shop.example","campaign":"autumn-%x"}`, i, i*7919, i*104729)
	for len(body) < 512 {
		body = fmt.Appendf(body[:len(body)-1], `,"field-%d":"value %x"}`, len(body), uint32(len(body)*i)*2654435761)
	}
	return record.Record{
		ID: record.NewID(now), Received: now, Route: "leads", Ack: level, Topic: uplinkTopic, Method: "POST", Scheme: "https",
		Authority: "shop.example", Path: fmt.Sprintf("/leads?source=newsletter&n=%d", i), Source: "192.0.2.1:54321",
		Headers: []record.Header{
			{Name: "content-length", Value: "512"}, {Name: "content-type", Value: "application/json"},
			{Name: "accept", Value: "*/*"}, {Name: "accept-encoding", Value: "gzip, deflate, br, zstd"},
			{Name: "accept-language", Value: "de-DE,de;q=0.9,en;q=0.8"}, {Name: "origin", Value: "https://shop.example"},
			{Name: "referer", Value: "https://shop.example/newsletter"},
			{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"},
			{Name: "x-forwarded-for", Value: "192.0.2.1"}, {Name: "x-forwarded-proto", Value: "https"},
			{Name: "x-request-id", Value: record.NewID(now).String()},
		},
	}, body[:512]
}

// encoded is a message as it goes over the wire.
type encoded []byte

// encodedCodec sends those as they are.
type encodedCodec struct{ encoding.CodecV2 }

func (c encodedCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}
