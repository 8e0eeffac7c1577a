package record

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

// example is a browser's POST of 512 bytes, as it comes through an Envoy.
func example() Record {
	return Record{
		ID: NewID(time.Now()), Received: time.Now(), Route: "leads", Ack: LevelDisk, Topic: "leads", Method: "POST",
		Scheme: "https", Authority: "shop.example", Path: "/leads?source=newsletter", Source: "192.0.2.1:54321",
		Headers: []Header{
			{"content-length", "512"}, {"content-type", "application/json"}, {"accept", "*/*"},
			{"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "de-DE,de;q=0.9,en;q=0.8"},
			{"origin", "https://shop.example"}, {"referer", "https://shop.example/newsletter"},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"},
			{"x-forwarded-for", "192.0.2.1"}, {"x-forwarded-proto", "https"}, {"x-request-id", NewID(time.Now()).String()},
		},
		Body: bytes.Repeat([]byte("x"), 512),
	}
}

// exampleBatch is a batch of so many, encoded.
func exampleBatch(records int) [][]byte {
	raw := make([][]byte, records)
	for i := range raw {
		r := example()
		raw[i] = r.Append(nil)
	}
	return raw
}

// TestAllocations holds what a record costs in allocations, which in the collector is what costs most.
func TestAllocations(t *testing.T) {
	const records = 64
	r, batch := example(), exampleBatch(records)
	message := func() []byte {
		var b Batch
		for range records {
			b.Add(r.Parts())
		}
		return slices.Clone(b.Message(Head{Sequence: 1}))
	}()
	headers, text := r.AppendKafkaHeaders(nil, nil, true)
	var encoded Batch
	parts, trailer := r.Parts(), Header{"x-sum", "1"}
	encoded.Add(parts)
	for name, c := range map[string]struct {
		want float64
		run  func()
	}{
		"parsing a message": {2, func() { // the batch, and the list of its records
			if m, err := ParseUplinkMessage(message); err != nil || len(m.Batch.Records) != records {
				t.Error(m, err)
			}
		}},
		"parsing the records of a batch": {6, func() { // room for headers, each time twice as much
			var p Parser
			var r Record
			for _, raw := range batch {
				if err := p.Parse(raw, &r); err != nil {
					t.Error(err)
				}
			}
		}},
		"parsing a record": {1, func() {
			if _, err := Parse(batch[0]); err != nil {
				t.Error(err)
			}
		}},
		"headers for Kafka": {0, func() { headers, text = r.AppendKafkaHeaders(headers[:0], text[:0], true) }},
		"encoding a record": {0, func() {
			encoded.Reset()
			parts.Head = AppendTrailer(r.AppendHead(parts.Head[:0]), trailer)
			encoded.Add(parts)
			encoded.Message(Head{Sequence: 1})
		}},
	} {
		if got := testing.AllocsPerRun(100, c.run); got > c.want {
			t.Errorf("%s: %v allocations, want %v at most", name, got, c.want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	batch := exampleBatch(64)
	b.ReportAllocs()
	for b.Loop() {
		var p Parser
		var r Record
		for _, raw := range batch {
			if err := p.Parse(raw, &r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/record")
}

func BenchmarkKafkaHeaders(b *testing.B) {
	r := example()
	var headers []Header
	var text []byte
	b.ReportAllocs()
	for b.Loop() {
		headers, text = r.AppendKafkaHeaders(headers[:0], text[:0], false)
	}
}
