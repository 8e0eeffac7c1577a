package record

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/collectpb"
)

// sample builds a record from a seed: every field empty or not, bytes of any value where the wire form allows.
func sample(seed uint64) Record {
	rnd := rand.New(rand.NewPCG(seed, 1))
	blob := func(limit int) string {
		b := make([]byte, rnd.IntN(limit+1))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return string(b)
	}
	headers := func() (hs []Header) {
		for range rnd.IntN(4) {
			hs = append(hs, Header{blob(12), blob(40)})
		}
		return hs
	}
	r := Record{
		Received: time.Unix(0, rnd.Int64N(math.MaxInt64)), Route: "leads", Ack: Level(rnd.IntN(4)), Topic: "leads-2",
		Method: blob(8), Scheme: blob(5), Authority: blob(20), Path: blob(200), Source: "[::1]:443",
		Headers: headers(), Trailers: headers(), Body: []byte(blob(3000)), Mirrored: rnd.IntN(2) == 0,
	}
	r.ID = NewID(r.Received)
	switch rnd.IntN(3) {
	case 0:
		r.Key = []byte(blob(10))
	case 1:
		r.Key = []byte{}
	}
	return r
}

func toProto(r *Record) *collectpb.Record {
	headers := func(hs []Header) (out []*collectpb.Header) {
		for _, h := range hs {
			p := &collectpb.Header{}
			if h.Name != "" {
				p.Name = []byte(h.Name)
			}
			if h.Value != "" {
				p.Value = []byte(h.Value)
			}
			out = append(out, p)
		}
		return out
	}
	optional := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	return &collectpb.Record{
		Id: r.ID[:], ReceivedUnixNanos: r.Received.UnixNano(), Route: r.Route, Ack: collectpb.Level(r.Ack),
		Topic: r.Topic, Key: r.Key, Method: optional(r.Method), Scheme: optional(r.Scheme),
		Authority: optional(r.Authority), Path: optional(r.Path), Source: r.Source, Mirrored: r.Mirrored,
		Headers: headers(r.Headers), Trailers: headers(r.Trailers), Body: optional(string(r.Body)),
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	opts := cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) })
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestRecordIsTheGeneratedMessage(t *testing.T) {
	for seed := range uint64(500) {
		r := sample(seed)
		raw := r.Append(nil)
		if p := r.Parts(); len(raw) != p.size() {
			t.Fatalf("seed %d: %d bytes, size said %d", seed, len(raw), p.size())
		}

		var generated collectpb.Record
		if err := proto.Unmarshal(raw, &generated); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if want := toProto(&r); !proto.Equal(&generated, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, &generated, want)
		}

		other, err := proto.Marshal(toProto(&r))
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(other)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(r.Body) == 0 {
			r.Body = nil
		}
		equal(t, "parsed", back, r)
	}
}

// TestParserKeepsRecordsApart reads many records with one Parser, some of them cut off or with very many headers, and
// appends to their headers.
func TestParserKeepsRecordsApart(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var p Parser
		var got, want []Record
		for i := range uint64(30) {
			r := sample(seed*30 + i)
			for range rnd.IntN(20) / 19 * 600 {
				r.Headers = append(r.Headers, Header{"x-more", "much"})
			}
			raw := r.Append(nil)
			if rnd.IntN(10) == 0 {
				raw = raw[:rnd.IntN(len(raw))]
			}
			var parsed Record
			err := p.Parse(raw, &parsed)
			alone, wantErr := Parse(raw)
			if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("seed %d, record %d: %v, want %v", seed, i, err, wantErr)
			}
			_ = append(parsed.Headers, Header{"written", "over"})
			got, want = append(got, parsed), append(want, alone)
		}
		equal(t, "records", got, want)
	}
}

func TestMessagesAreTheGeneratedOnes(t *testing.T) {
	t.Run("hello", func(t *testing.T) {
		h := Hello{Uplink: UplinkID{1, 2, 3}, NodeID: "edge-1", NodeCluster: "edge", Version: Version}
		raw := h.AppendMessage(nil)
		var p collectpb.UplinkMessage
		if err := proto.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		want := &collectpb.UplinkMessage{Message: &collectpb.UplinkMessage_Hello{Hello: &collectpb.Hello{
			Uplink: h.Uplink[:], NodeId: "edge-1", NodeCluster: "edge", Version: 1}}}
		if !proto.Equal(&p, want) {
			t.Errorf("got %v, want %v", &p, want)
		}
		back, err := ParseUplinkMessage(raw)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "parsed", back, UplinkMessage{Hello: &h})
	})

	t.Run("batch", func(t *testing.T) {
		var b Batch
		var want collectpb.Batch
		var raws [][]byte
		for seed := range uint64(40) {
			r := sample(seed)
			before := b.Len()
			cut := len(r.Body) / 3
			body := [][]byte{r.Body[:cut], nil, r.Body[cut:]}
			p := r.Parts()
			p.Body = body
			b.Add(p)
			if before > 0 && b.Len()-before != Size(p) {
				t.Fatalf("seed %d: grew by %d, Size said %d", seed, b.Len()-before, Size(p))
			}
			want.Records = append(want.Records, toProto(&r))
			raws = append(raws, r.Append(nil))
		}
		answered := []Answered{{"leads", LevelMemory, 7}, {"orders", LevelKafka, math.MaxUint64}}
		for _, a := range answered {
			b.AddAnswered(a)
			want.Answered = append(want.Answered,
				&collectpb.Answered{Route: a.Route, Level: collectpb.Level(a.Level), Answers: a.Answers})
		}
		for _, h := range []Head{{1, false, 0}, {1, true, 1}, {math.MaxUint64, true, math.MaxUint64}} {
			raw := b.Message(h)
			want.Sequence, want.Redelivered, want.SettledBelow = h.Sequence, h.Redelivered, h.SettledBelow
			var got collectpb.UplinkMessage
			if err := proto.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got.GetBatch(), &want) {
				t.Fatalf("got %v, want %v", &got, &want)
			}
			back, err := ParseUplinkMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "parsed", back, UplinkMessage{Batch: &Received{
				Head: h, Answered: answered, Records: raws}})
		}
	})

	t.Run("batch in used memory", func(t *testing.T) {
		var used, fresh Batch
		for seed := range uint64(20) {
			r := sample(seed)
			used.Add(r.Parts())
		}
		used.Message(Head{math.MaxUint64, true, math.MaxUint64})
		memory := used.Cap()
		used.Reset()
		if used.Len() != 0 || used.Records() != 0 {
			t.Errorf("%d bytes, %d records after Reset", used.Len(), used.Records())
		}
		r := sample(99)
		used.Add(r.Parts())
		fresh.Add(r.Parts())
		if used.Len() != fresh.Len() || !bytes.Equal(used.Message(Head{Sequence: 1}), fresh.Message(Head{Sequence: 1})) {
			t.Error("differs from a batch in fresh memory")
		}
		if used.Cap() != memory {
			t.Error("did not use its memory again")
		}
	})

	for name, c := range map[string]struct {
		sent *collectpb.CollectorMessage
		want CollectorMessage
	}{
		"welcome": {
			&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Welcome{Welcome: &collectpb.Welcome{
				Levels:      []collectpb.Level{collectpb.Level_LEVEL_DISK, collectpb.Level_LEVEL_KAFKA},
				WindowBytes: 1 << 20, Collector: "c-0", Version: 1, Instance: []byte("i")}}},
			CollectorMessage{Welcome: &Welcome{Levels: []Level{LevelDisk, LevelKafka}, Window: 1 << 20, Collector: "c-0",
				Version: 1, Instance: []byte("i")}},
		},
		"ack": {
			&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{Ack: &collectpb.Ack{
				Sequence: 9, Level: collectpb.Level_LEVEL_KAFKA,
				Refused: []*collectpb.Refused{
					{Index: 3, Reason: "too large", Class: "too_large"},
					{Index: 4, Reason: "no", Class: "rejected", DeadLettered: true}}}}},
			CollectorMessage{Ack: &Ack{Sequence: 9, Level: LevelKafka, Refused: []Refused{
				{3, "too large", "too_large", false}, {4, "no", "rejected", true}}}},
		},
		"window": {
			&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{
				Window: &collectpb.Window{Bytes: math.MaxUint64, DirectBytes: 7, Closed: []*collectpb.ClosedTopic{
					{Topic: "leads", Level: collectpb.Level_LEVEL_DISK}, {Topic: "orders"}}}}},
			CollectorMessage{Window: &Window{Bytes: math.MaxInt32, Direct: 7, Closed: []ClosedTopic{{"leads", LevelDisk}, {"orders", 0}}}},
		},
		"closed window": {
			&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{Window: &collectpb.Window{}}},
			CollectorMessage{Window: &Window{}},
		},
		"draining": {
			&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Draining{Draining: &collectpb.Draining{}}},
			CollectorMessage{Draining: true},
		},
		"a later version's message": {&collectpb.CollectorMessage{}, CollectorMessage{}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := proto.Marshal(c.sent)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseCollectorMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "parsed", got, c.want)
		})
	}
}

func TestUnknownKindsOfMessagesArePassedOver(t *testing.T) {
	for _, raw := range [][]byte{{}, {9<<3 | 2, 1, 'x'}} {
		if m, err := ParseUplinkMessage(raw); err != nil || m != (UplinkMessage{}) {
			t.Errorf("%v: %+v, %v", raw, m, err)
		}
	}
}

func TestUnknownFieldsArePassedOver(t *testing.T) {
	r := sample(3)
	raw := r.Append([]byte{0x90, 0x03, 1})              // a varint field 50
	raw = append(raw, 0xa2, 0x06, 3, 'n', 'e', 'w')     // a bytes field 100
	raw = append(raw, 4<<3|2, 1, 'x')                   // field 4 with another wire type
	raw = append(raw, 0xa5, 0x06, 0xff, 0xff, 0xff, 42) // a fixed32 field 100
	got, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "parsed", got, r)
}

func TestMalformed(t *testing.T) {
	for name, raw := range map[string][]byte{
		"tag":            {0x80},
		"length":         {1<<3 | 2, 200, 1},
		"uplink's size":  {1<<3 | 2, 3, 1<<3 | 2, 1, 0},
		"no uplink":      {1<<3 | 2, 0},
		"no sequence":    {2<<3 | 2, 0},
		"answered":       {2<<3 | 2, 4, 3<<3 | 2, 2, 2 << 3, 0x80},
		"field number 0": {0, 0},
	} {
		if m, err := ParseUplinkMessage(raw); err == nil {
			t.Errorf("%s: no error, but %+v", name, m)
		}
	}
	for name, raw := range map[string][]byte{
		"id":     {1<<3 | 2, 1, 0},
		"header": {12<<3 | 2, 2, 1<<3 | 2, 9},
	} {
		if r, err := Parse(raw); err == nil {
			t.Errorf("record: %s: no error, but %+v", name, r)
		}
	}
}

// FuzzWire feeds bytes to the hand-written parsers and to the generated code: whatever the generated code
// refuses or understands, ours does too (it is only stricter about lengths of ids and about what is required,
// and laxer about UTF-8).
func FuzzWire(f *testing.F) {
	for seed := range uint64(8) {
		r := sample(seed)
		f.Add(r.Append(nil))
		var b Batch
		b.Add(r.Parts())
		b.AddAnswered(Answered{"leads", LevelMemory, seed})
		f.Add(bytes.Clone(b.Message(Head{seed + 1, seed%2 == 0, seed})))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var generated collectpb.Record
		refused := proto.Unmarshal(raw, &generated)
		r, err := Parse(raw)
		if err == nil && refused == nil {
			var again collectpb.Record
			if err := proto.Unmarshal(r.Append(nil), &again); err != nil {
				t.Fatal(err)
			}
			if string(again.GetBody()) != string(generated.GetBody()) || again.GetRoute() != generated.GetRoute() ||
				len(again.GetHeaders()) != len(generated.GetHeaders()) ||
				again.GetReceivedUnixNanos() != generated.GetReceivedUnixNanos() {
				t.Fatalf("read %.300v, generated code read %.300v", &again, &generated)
			}
		}
		if err != nil && refused == nil && len(generated.GetId()) == len(ID{}) {
			t.Fatalf("refused what the generated code reads: %v", err)
		}

		_, _ = ParseUplinkMessage(raw)
		_, _ = ParseCollectorMessage(raw)
	})
}
