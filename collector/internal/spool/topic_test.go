package spool

import (
	"math/rand/v2"
	"testing"
)

// TestLand holds runs against what they must be: all that is done, nothing that is not, in as few pieces as can be.
func TestLand(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		var tp topic
		var flight []*flying // what should be in it
		next := id(1)
		for range 30 {
			for range random.IntN(10) {
				next += id(1 + random.IntN(3))
				flight = append(flight, tp.fly(next, int64(random.IntN(100))))
			}
			for _, i := range random.Perm(len(flight)) {
				if random.IntN(2) == 0 {
					flight[i].done = true
					tp.done = append(tp.done, flight[i])
				}
			}
			runs := tp.land()

			var kept []*flying
			gone := map[id]int64{}
			pieces := 0
			for i, f := range flight {
				if !f.done {
					kept = append(kept, f)
					continue
				}
				gone[f.id] = f.size
				if i == 0 || !flight[i-1].done {
					pieces++
				}
			}
			if len(runs) != pieces {
				t.Fatalf("%d runs, want %d", len(runs), pieces)
			}
			for _, r := range runs {
				for f := r.first; f <= r.last; f++ {
					if size, ok := gone[f]; ok {
						r.bytes -= size
						r.entries--
						delete(gone, f)
					}
				}
				for _, f := range kept {
					if r.first <= f.id && f.id <= r.last {
						t.Fatalf("entry %d is deleted with the run from %d to %d", f.id, r.first, r.last)
					}
				}
				if r.bytes != 0 || r.entries != 0 {
					t.Fatalf("a run counts %d entries and %d bytes too many", r.entries, r.bytes)
				}
			}
			if len(gone) > 0 {
				t.Fatalf("not deleted: %v", gone)
			}
			flight = kept
			at := tp.oldest
			for i, f := range flight {
				if at != f || i == len(flight)-1 && tp.newest != f {
					t.Fatal("the flight is not what is left")
				}
				at = at.newer
			}
			if at != nil || len(flight) == 0 && tp.newest != nil {
				t.Fatal("the flight is more than what is left")
			}
		}
	}
}
