package spool

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// history is what is known from outside of a spool that crashes.
type history struct {
	mu       sync.Mutex
	appended map[string]uint64 // the sequence
	stored   map[string]bool
	done     map[string]bool
	counts   map[string]uint64 // of topics
}

func (h *history) snapshot() (stored map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.stored)
}

var seeds = flag.Uint64("seeds", 20, "how many spools crash")

// TestCrash lets spools crash at any point, over and over: what was stored and is not done must be there again, in
// order, and nothing else but what was appended.
func TestCrash(t *testing.T) {
	first := rand.Uint64()
	for seed := first; seed < first+*seeds; seed++ {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { crashes(t, seed) }) {
			return
		}
	}
}

func crashes(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{
		appended: map[string]uint64{}, stored: map[string]bool{}, done: map[string]bool{}, counts: map[string]uint64{},
	}
	files := vfs.NewCrashableMem()
	var left []string
	for range 4 {
		files, left = live(t, h, random, files, left)
	}
}

// live opens a spool that should hold what was left, uses it, has it crash, and returns the disk after that, and what
// is on it.
func live(t *testing.T, h *history, random *rand.Rand, files *vfs.MemFS, want []string) (*vfs.MemFS, []string) {
	c := Config{Dir: "spool", MaxBytes: 4 << 20, MaxMemoryBytes: 256 << 10, FS: files}
	s, err := Open(c, quietLog(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}

	// Deliveries are done late, in any order, some never.
	var again []string
	var later []func()
	lateness := rand.New(rand.NewPCG(random.Uint64(), 0))
	s.Deliver(func(e *Entry, done func([]Undeliverable)) {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := name(e)
		if len(again) < len(want) && e.Redelivered {
			again = append(again, n)
		}
		later = append(later, func() {
			h.mu.Lock()
			h.done[n] = true
			h.mu.Unlock()
			done(nil)
		})
	})
	finish := func(share int) {
		h.mu.Lock()
		var now []func()
		later = slices.DeleteFunc(later, func(f func()) bool {
			if lateness.IntN(100) >= share {
				return false
			}
			now = append(now, f)
			return true
		})
		lateness.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
		h.mu.Unlock()
		for _, f := range now {
			f()
		}
	}
	// The crash comes after so many appends, at any point of what they set off.
	topics, largest := 1+random.IntN(4), 1<<(4+random.IntN(13))
	n := random.IntN(300)
	for range n {
		topic := fmt.Sprintf("t%d", random.IntN(topics))
		h.mu.Lock()
		h.counts[topic]++
		e := entry(topic, h.counts[topic], random.IntN(largest))
		h.appended[name(&e)] = e.Sequence
		h.mu.Unlock()
		s.Append(e, func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", name(&e), err)
			}
			h.stored[name(&e)] = true
		})
		if random.IntN(4) == 0 {
			finish(random.IntN(100))
		}
		if random.IntN(50) == 0 {
			time.Sleep(time.Duration(random.IntN(int(2 * time.Millisecond)))) // so that commits are of all sizes
		}
	}
	stored := h.snapshot()
	crashed := files.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 20, 80, 100}[random.IntN(4)], RNG: rand.New(rand.NewPCG(random.Uint64(), 0)),
	})
	h.mu.Lock()
	done := maps.Clone(h.done)
	if !slices.Equal(again, want[:len(again)]) && len(want) > 0 {
		checkOrder(t, h, again)
	}
	h.mu.Unlock()
	finish(100)
	ended := make(chan struct{})
	go func() { // what has been handed over meanwhile
		defer close(ended)
		for {
			select {
			case <-s.quiet:
				return
			case <-s.failed:
				return
			case <-time.After(time.Millisecond):
				finish(100)
			}
		}
	}()
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
	<-ended
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range want {
		if !h.done[n] {
			t.Errorf("%s was there and was not delivered again", n)
		}
	}
	// What happened after the crash did not, on the other disk.
	h.done, h.stored = done, map[string]bool{}

	var found []string
	for _, f := range visit(t, crashed) {
		e, ok := rawEntry(t, f)
		if !ok {
			continue
		}
		found = append(found, e)
		if h.appended[e] == 0 {
			t.Errorf("%s is invented", e)
		}
		if h.appended[e] != f.Sequence {
			t.Errorf("%s has sequence %d", e, f.Sequence)
		}
	}
	checkOrder(t, h, found)
	there := map[string]bool{}
	for _, n := range found {
		if there[n] {
			t.Errorf("%s is there twice", n)
		}
		there[n] = true
	}
	for _, n := range want {
		stored[n] = true
	}
	for n := range stored {
		if !there[n] && !done[n] {
			t.Errorf("%s was stored and is lost", n)
		}
	}
	// What is there may have been done before: its deletion was not synced.
	for n := range there {
		delete(h.done, n)
	}
	return crashed, found
}

// rawEntry returns the name of an entry. Records of these tests are none of record's, so they are problems; no other
// may be found.
func rawEntry(t *testing.T, f Found) (string, bool) {
	if f.SetAside || len(f.Problems) != 1 {
		t.Errorf("found damaged: %+v", f)
		return "", false
	}
	return fmt.Sprintf("%s/%d", f.Topic, f.Sequence), true
}

// checkOrder checks that each topic's come in order. The caller holds h.mu.
func checkOrder(t *testing.T, h *history, found []string) {
	t.Helper()
	for topic := range h.counts {
		some := of(topic, found)
		sorted := slices.SortedFunc(slices.Values(some), func(a, b string) int {
			return int(h.appended[a]) - int(h.appended[b])
		})
		if diff := cmp.Diff(sorted, some); diff != "" {
			t.Errorf("out of order (-want +got):\n%s", diff)
		}
	}
}
