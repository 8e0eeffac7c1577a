package share

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFits(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int64
		held  map[string]int64
		topic string
		n     int64
		want  bool
	}{
		{"a whole pool", 100, nil, "a", 100, true},
		{"more than the pool", 100, nil, "a", 101, false},
		{"up to 2/3", 90, map[string]int64{"a": 50}, "a", 10, true},
		{"beyond 2/3", 90, map[string]int64{"a": 50}, "a", 11, false},
		{"a first batch beyond its share", 90, map[string]int64{"a": 60}, "b", 30, true},
		{"a first batch beyond the pool", 90, map[string]int64{"a": 60}, "b", 31, false},
		{"a second batch up to 2/5", 100, map[string]int64{"a": 40, "b": 30}, "b", 10, true},
		{"a second batch beyond 2/5", 100, map[string]int64{"a": 40, "b": 30}, "b", 11, false},
		{"nothing to take, nothing free", 100, map[string]int64{"a": 100}, "b", 0, true},
		{"more taken than there is", 10, map[string]int64{"a": 60}, "b", 1, false},
		{"no pool", 0, nil, "a", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(c.limit)
			for topic, n := range c.held {
				p.Take(topic, n)
			}
			if got := p.Fits(c.topic, c.n); got != c.want {
				t.Errorf("Fits(%s, %d) = %v", c.topic, c.n, got)
			}
		})
	}
}

// fill has topics take n bytes in turn until none may any more.
func fill(p *Pool, n int64, topics ...string) {
	for more := true; more; {
		more = false
		for _, topic := range topics {
			if p.Fits(topic, n) {
				p.Take(topic, n)
				more = true
			}
		}
	}
}

func TestStuckTopics(t *testing.T) {
	const limit = 100_000
	for k := 1; k <= 50; k++ {
		p := New(limit)
		var stuck []string
		for i := range k {
			stuck = append(stuck, fmt.Sprintf("stuck %02d", i))
		}
		fill(p, 1, stuck...)
		if diff := cmp.Diff(stuck, p.Closed()); diff != "" {
			t.Fatalf("%d stuck topics are not the closed ones (-want +got):\n%s", k, diff)
		}
		each, free := int64(2*limit/(1+2*k)), int64(limit/(1+2*k))
		for _, topic := range stuck {
			if got := p.held[topic]; got < each-2 || got > each+2 {
				t.Errorf("%d stuck topics: one holds %d, want %d", k, got, each)
			}
		}
		if got := p.Free(); got < free-2*int64(k) || got > free+2*int64(k) {
			t.Errorf("%d stuck topics leave %d free, want %d", k, got, free)
		}
		if !p.Fits("healthy", p.Free()) {
			t.Errorf("%d stuck topics keep another from what is free", k)
		}
	}
}

// TestShares holds the pool against sums of its own, and against what its description promises.
func TestShares(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	topics := strings.Split("abcdefgh", "")
	for range 200 {
		limit := 1 + random.Int64N(10_000)
		p, held := New(limit), map[string]int64{}
		for range 500 {
			topic, n := topics[random.IntN(len(topics))], random.Int64N(limit/4+1)
			if random.IntN(50) == 0 {
				limit = 1 + random.Int64N(10_000)
				p.SetLimit(limit)
			}
			if random.IntN(3) > 0 {
				fits := p.Fits(topic, n)
				if fits {
					p.Take(topic, n)
					held[topic] += n
				}
				free := limit - sum(held)
				switch {
				case fits && free < 0:
					t.Fatalf("%d bytes more than there are", -free)
				case fits && held[topic] != n && held[topic] > 2*free:
					t.Fatalf("a topic holds %d with %d free", held[topic], free)
				case !fits && held[topic] == 0 && n <= free:
					t.Fatalf("a topic that holds nothing may not take %d of %d", n, free)
				}
			} else {
				n = min(n, held[topic])
				p.Release(topic, n)
				held[topic] -= n
			}
			if p.Used() != sum(held) || p.Free() != max(0, limit-sum(held)) {
				t.Fatalf("used %d, free %d; want %d of %d used", p.Used(), p.Free(), sum(held), limit)
			}
			var closed []string
			for _, topic := range topics {
				if held[topic] > 0 && held[topic]+1 > 2*(limit-sum(held)-1) {
					closed = append(closed, topic)
				}
			}
			if diff := cmp.Diff(closed, p.Closed()); diff != "" {
				t.Fatalf("closed (-want +got):\n%s", diff)
			}
		}
		for topic, n := range held {
			p.Release(topic, n)
		}
		if p.Used() != 0 || len(p.held) != 0 {
			t.Fatalf("after releasing everything %d bytes are used, by %v", p.Used(), slices.Collect(maps.Keys(p.held)))
		}
	}
}

func sum(held map[string]int64) (n int64) {
	for _, v := range held {
		n += v
	}
	return n
}

func TestReleaseOfMoreThanTaken(t *testing.T) {
	p := New(100)
	p.Take("a", 10)
	defer func() {
		if got, _ := recover().(string); !strings.HasPrefix(got, "BUG: ") {
			t.Errorf("panicked with %q", got)
		}
	}()
	p.Release("a", 11)
}
