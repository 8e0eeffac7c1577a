package spool

import (
	"math/rand/v2"
	"testing"
)

// TestTheNewestAreLeft adds more entries than are kept, topic by topic, and finds the newest of them all.
func TestTheNewestAreLeft(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, keepLeft, 2*keepLeft - 1, 2 * keepLeft, 5*keepLeft + 7} {
		topics := make([][]id, 3)
		for i := range n {
			topic := random.IntN(len(topics))
			topics[topic] = append(topics[topic], id(i))
		}
		var found lefts
		for _, ids := range topics {
			for _, id := range ids {
				found.add(left{id: id, sequence: uint64(id)})
			}
		}
		found.sort()
		if least, most := min(n, keepLeft), 2*keepLeft; len(found) < least || len(found) > most || cap(found) > 2*most {
			t.Errorf("of %d, %d are kept in memory for %d", n, len(found), cap(found))
		}
		for i := range min(n, keepLeft) {
			if got, want := found[len(found)-1-i].id, id(n-1-i); got != want {
				t.Fatalf("of %d, number %d from the newest is %d", n, i, got)
			}
		}
	}
}
