package uplink

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/record"
)

// sink is a Host that takes everything.
type sink struct{ sent uint64 }

func (*sink) Open() (Stream, error)           { return 1, nil }
func (s *sink) Send(_ Stream, _ []byte) error { s.sent++; return nil }
func (*sink) Cancel(Stream)                   {}
func (*sink) Warn(string)                     {}

// BenchmarkAdd takes records of 512 bytes and acknowledges a batch after every hundred.
func BenchmarkAdd(b *testing.B) {
	h := &sink{}
	u := New(config(), h, &Stats{})
	route := u.Route("leads", "leads", record.LevelMemory, 0)
	r := (&record.Record{
		ID: record.NewID(time.Unix(1, 0)), Received: time.Unix(1, 0), Route: "leads", Topic: "leads", Method: "POST",
		Scheme: "https", Authority: "shop.example", Path: "/leads", Source: "10.0.0.1:1234",
		Headers: []record.Header{{Name: "content-type", Value: "application/json"}, {Name: "content-length", Value: "512"}},
		Body:    make([]byte, 512),
	}).Parts()
	raw, err := proto.Marshal(welcome(1 << 20))
	if err != nil {
		b.Fatal(err)
	}
	u.Add(route, r, 0, nil)
	u.Received(1, raw)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if u.Add(route, r, 0, nil) != Taken {
			b.Fatal("refused")
		}
		if n%100 == 99 {
			for sequence := u.sequence - uint64(len(u.streams[0].inflight)) + 1; len(u.streams[0].inflight) > 0; sequence++ {
				raw, err := proto.Marshal(ack(int(sequence)))
				if err != nil {
					b.Fatal(err)
				}
				u.Received(1, raw)
			}
		}
	}
}
