package ingest

import (
	"bytes"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// TestAllocations holds what it costs in allocations to read a batch and have it stored: so many for the batch, and few of
// them more for many records.
func TestAllocations(t *testing.T) {
	const records = 64
	var encoded record.Batch
	for range records {
		r := record.Record{
			ID: record.NewID(time.Now()), Received: time.Now(), Route: "leads", Ack: record.LevelKafka, Topic: "leads",
			Method: "POST", Scheme: "https", Authority: "shop.example", Path: "/leads",
		}
		for range 12 {
			r.Headers = append(r.Headers, record.Header{Name: "x-header", Value: "value"})
		}
		r.Body = bytes.Repeat([]byte("x"), 512)
		encoded.Add(r.Parts())
	}
	raw := encoded.Message(record.Head{Sequence: 1})
	const want = 10 // the batch and its list of records; items; room for headers, each time twice as much
	got := testing.AllocsPerRun(100, func() {
		m, err := record.ParseUplinkMessage(raw)
		if err != nil {
			t.Fatal(err)
		}
		b, err := parse(m.Batch)
		if err != nil || len(b.items) != records {
			t.Fatal(b, err)
		}
	})
	if got > want {
		t.Errorf("%v allocations for a batch of %d records, want %d at most", got, records, want)
	}
}
