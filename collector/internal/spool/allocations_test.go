package spool

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAllocations holds what an entry costs in allocations, from Append until it is synced, delivered and deleted: the
// same whether it has one record or a hundred.
func TestAllocations(t *testing.T) {
	for _, records := range []int{1, 100} {
		s := open(t, Config{Dir: "spool", MaxBytes: 1 << 30, MaxMemoryBytes: 1 << 20, FS: vfs.NewMem()})
		delivered := make(chan struct{})
		s.Deliver(func(_ *Entry, done func([]Undeliverable)) {
			done(nil)
			delivered <- struct{}{}
		})
		e := Entry{Topic: "leads"}
		for range records {
			e.Records = append(e.Records, make([]byte, 600))
		}
		const want = 30 // it is 14, under the race detector 19; Pebble's goroutines may allocate too
		got := testing.AllocsPerRun(200, func() {
			e.Sequence++
			s.Append(e, func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
			<-delivered
		})
		if got > want {
			t.Errorf("%v allocations for an entry of %d records, want %d at most", got, records, want)
		}
		closeSpool(t, s, patience)
	}
}
