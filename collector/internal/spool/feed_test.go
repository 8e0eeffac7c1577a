package spool

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/marceloboeira/crowd/collector/internal/share"
)

// Whatever comes and goes, memory holds no more than its limit and one entry, and a topic that has nothing there waits
// for the one that is on top of the limit, or for nothing.
func TestMemory(t *testing.T) {
	const limit = 1000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, i))
		s := &Spool{memory: share.New(limit)}
		topics := []*topic{{name: "a"}, {name: "b"}, {name: "c"}, {name: "d"}}
		var flights []*flying
		next := id(0)
		for range 300 {
			if len(flights) > 0 && r.IntN(3) == 0 {
				at := r.IntN(len(flights))
				s.finish(flights[at], nil)
				flights = slices.Delete(flights, at, at+1)
			} else {
				next++
				to, size := topics[r.IntN(len(topics))], r.Int64N(limit/2)+1
				if r.IntN(4) == 0 {
					size *= 10
				}
				f := s.fly(to, next, size)
				has := slices.ContainsFunc(flights, func(f *flying) bool { return f.topic == to })
				taken := slices.ContainsFunc(flights, func(f *flying) bool { return f.overdraws })
				switch {
				case f != nil:
					flights = append(flights, f)
				case !has && !taken:
					t.Fatalf("seed %d/%d: %d bytes of topic %s wait for nothing of theirs", seed, i, size, to.name)
				}
			}
			var held, top int64
			for _, f := range flights {
				held += f.size
				if f.overdraws {
					top += f.size
				}
			}
			if held-top > limit || held-top != s.memory.Used() || (top > 0) != s.overdrawn {
				t.Fatalf("seed %d/%d: %d bytes in memory, %d on top; %d counted, overdrawn: %v", seed, i, held, top,
					s.memory.Used(), s.overdrawn)
			}
		}
	}
}
