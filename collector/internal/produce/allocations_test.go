package produce

import (
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// TestAllocations holds what making messages costs in allocations: so many for a burst, none for each record.
func TestAllocations(t *testing.T) {
	now := time.Now()
	r := record.Record{
		ID: record.NewID(now), Received: now, Route: "leads", Topic: "leads", Key: []byte("key"), Method: "POST", Scheme: "https",
		Authority: "shop.example", Path: "/leads", Source: "192.0.2.1:54321", Body: []byte("{}"),
		Trailers: []record.Header{{Name: "checksum", Value: "1"}},
	}
	for range 12 {
		r.Headers = append(r.Headers, record.Header{Name: "x-header", Value: "value"})
	}
	var entries []*entry
	for i := range burst {
		entries = append(entries, &entry{item: &Item{Index: i, Record: r}, key: r.Key, value: r.Body})
	}
	var build builder
	build.messages(entries, "leads")
	const want = 3 // messages, headers, text
	if got := testing.AllocsPerRun(100, func() { build.messages(entries, "leads") }); got > want {
		t.Errorf("%v allocations for the messages of %d records, want %d", got, burst, want)
	}
}
