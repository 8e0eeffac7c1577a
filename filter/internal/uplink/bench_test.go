package uplink

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

// sink is a Host that takes everything.
type sink struct{ sent uint64 }

func (*sink) Open() (Stream, error)           { return 1, nil }
func (s *sink) Send(_ Stream, _ []byte) error { s.sent++; return nil }
func (*sink) Cancel(Stream)                   {}
func (*sink) Warn(string)                     {}

// steady is an uplink with one stream, and a record of 512 bytes for it.
func steady(t testing.TB) (u *Uplink, route *Route, r record.Parts) {
	t.Helper()
	u = New(config(), &sink{}, &Stats{})
	route = u.Route("leads", "leads", record.LevelMemory, 0)
	r = (&record.Record{
		ID: record.NewID(time.Unix(1, 0)), Received: time.Unix(1, 0), Route: "leads", Topic: "leads", Method: "POST",
		Scheme: "https", Authority: "shop.example", Path: "/leads", Source: "10.0.0.1:1234",
		Headers: []record.Header{{Name: "content-type", Value: "application/json"}, {Name: "content-length", Value: "512"}},
		Body:    make([]byte, 512),
	}).Parts()
	u.Add(route, r, 0, nil)
	u.Send()
	u.Received(1, encoded(t, welcome(1<<20)))
	return u, route, r
}

func encoded(t testing.TB, m *collectpb.CollectorMessage) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// acknowledgeAll acknowledges whatever is in flight, and what is sent then.
func acknowledgeAll(t testing.TB, u *Uplink) {
	t.Helper()
	for sequence := u.sequence - uint64(len(u.streams[0].inflight)) + 1; len(u.streams[0].inflight) > 0; sequence++ {
		u.Received(1, encoded(t, ack(int(sequence))))
	}
}

// BenchmarkAdd takes records and acknowledges a batch after every hundred.
func BenchmarkAdd(b *testing.B) {
	u, route, r := steady(b)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if u.Add(route, r, 0, nil) != Taken {
			b.Fatal("refused")
		}
		if n%100 == 99 {
			u.Send()
			acknowledgeAll(b, u)
		}
	}
}

// TestARecordAllocatesNothing holds that in steady state the uplink takes records without allocating: a batch and what goes
// with it costs some, a record in it none.
func TestARecordAllocatesNothing(t *testing.T) {
	u, route, r := steady(t)
	batch := func(records int) float64 {
		return testing.AllocsPerRun(100, func() {
			for range records {
				if u.Add(route, r, 0, nil) != Taken {
					t.Fatal("refused")
				}
			}
			u.Send()
			acknowledgeAll(t, u)
		})
	}
	const many = 10 // fit a batch
	batch(many)     // has the memory that it needs from now on

	if few, several := batch(2), batch(many); several > few {
		t.Errorf("%d records cost %v allocations, two %v", many, several, few)
	}
}
