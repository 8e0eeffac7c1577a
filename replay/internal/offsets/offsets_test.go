package offsets

import (
	"encoding/base64"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

func must(t testing.TB, offset int64, metadata string) *Tracker {
	t.Helper()
	tracker, err := New(offset, metadata)
	if err != nil {
		t.Fatal(err)
	}
	return tracker
}

func TestStateSaysWhatIsDone(t *testing.T) {
	tracker := must(t, 100, "")
	if s := tracker.State(); s.Offset != 100 || s.Metadata != "" {
		t.Fatalf("at first %+v", s)
	}
	for _, offset := range []int64{105, 106, 107, 110, 111} { // 100 to 104, 108 and 109 do not exist
		if !tracker.Read(offset) {
			t.Fatalf("%d is done", offset)
		}
	}
	if s := tracker.State(); s.Offset != 105 || s.Metadata != "" {
		t.Errorf("behind the first gap %+v", s)
	}
	tracker.Done(106)
	tracker.Done(110)
	if got := tracker.Uncommitted(); got != 2 {
		t.Errorf("%d uncommitted, want 2", got)
	}
	s := tracker.State()
	if s.Offset != 105 || !strings.HasPrefix(s.Metadata, "crowd2:") {
		t.Errorf("state %+v", s)
	}
	tracker.Done(105)
	tracker.Committed(s)
	if got := tracker.Uncommitted(); got != 1 {
		t.Errorf("%d uncommitted, want 1: what was done after the state was taken", got)
	}
	for offset, want := range map[int64]bool{105: true, 106: false, 107: true, 110: false, 111: true} {
		if got := must(t, s.Offset, s.Metadata).Read(offset); got != want {
			t.Errorf("after a restart Read(%d) = %v, want %v", offset, got, want)
		}
	}
	tracker.Done(107)
	if s := tracker.State(); s.Offset != 111 || s.Metadata != "" {
		t.Errorf("at last %+v", s)
	}
}

func TestReadTwiceIsDone(t *testing.T) {
	tracker := must(t, 0, "")
	if !tracker.Read(3) || tracker.Read(3) || tracker.Read(2) {
		t.Error("a record is read twice")
	}
}

func TestSkippedTakesNoMetadata(t *testing.T) {
	tracker := must(t, 0, "")
	tracker.Read(0)
	for offset := int64(1); offset < 100_000; offset += 2 {
		tracker.Skip(offset)
		tracker.Read(offset + 1)
	}
	if s := tracker.State(); s.Offset != 0 || s.Metadata != "" || tracker.Uncommitted() != 0 {
		t.Errorf("state %+v, %d uncommitted", s, tracker.Uncommitted())
	}
	tracker.Done(0)
	if s := tracker.State(); s.Offset != 2 {
		t.Errorf("offset %d, want 2", s.Offset)
	}
}

func TestBadMetadata(t *testing.T) {
	var beyond bitWriter
	for _, n := range []int64{5 + 1, math.MaxInt64, 1} {
		beyond.length(n)
	}
	for name, metadata := range map[string]string{
		"not ours":         "hello",
		"another version":  "crowd1:4A",
		"not base64":       "crowd2:####",
		"padding":          "crowd2:4A==",
		"cut off":          "crowd2:AA",
		"nothing but zero": "crowd2:" + strings.Repeat("A", 4000),
		"too long":         "crowd2:" + strings.Repeat("_", MaxMetadata),
		"another offset":   encode(4, spans{{from: 6, to: 7}}),
		"out of range":     version + base64.RawURLEncoding.EncodeToString(beyond.bytes),
	} {
		t.Run(name, func(t *testing.T) {
			tracker, err := New(5, metadata)
			if err == nil {
				t.Error("no error")
			}
			if s := tracker.State(); s.Offset != 5 || s.Metadata != "" {
				t.Errorf("state %+v: it should know nothing", s)
			}
			if !tracker.Read(6) {
				t.Error("6 is done")
			}
		})
	}
}

// TestAsASet compares trackers with plain sets of records, which are read, done, committed and read again at random.
func TestAsASet(t *testing.T) {
	for round := range 300 {
		seed := uint64(time.Now().UnixNano()) + uint64(round)
		rnd := rand.New(rand.NewPCG(seed, 0))
		var all []int64 // offsets that have a record
		for offset := int64(0); offset < 2000; offset++ {
			if rnd.IntN(5) > 0 {
				all = append(all, offset)
			}
		}
		var last State
		committed := map[int64]bool{} // what last covers
		for range 6 {                 // members, one after another
			tracker := must(t, last.Offset, last.Metadata)
			done, fresh := maps.Clone(committed), map[int64]bool{}
			var read, open []int64
			rest := all[sort.Search(len(all), func(i int) bool { return all[i] >= last.Offset }):]
			for _, offset := range all[:len(all)-len(rest)] {
				if !committed[offset] {
					t.Fatalf("seed %d: %d is committed and was not done", seed, offset)
				}
			}
			finish := func(i int) {
				tracker.Done(open[i])
				done[open[i]], fresh[open[i]] = true, true
				open = slices.Delete(open, i, i+1)
			}
			for range rnd.IntN(2000) {
				switch action := rnd.IntN(20); {
				case action == 0:
					last, committed = tracker.State(), maps.Clone(done)
					if i := slices.IndexFunc(read, func(offset int64) bool { return !done[offset] }); i >= 0 && last.Offset != read[i] {
						t.Fatalf("seed %d: offset %d, want %d", seed, last.Offset, read[i])
					}
					clear(fresh)
					if rnd.IntN(2) == 0 && len(open) > 0 { // while the commit is under way
						finish(rnd.IntN(len(open)))
					}
					tracker.Committed(last)
				case action < 11 && len(rest) > 0:
					offset := rest[0]
					read, rest = append(read, offset), rest[1:]
					wanted := tracker.Read(offset)
					if wanted == done[offset] {
						t.Fatalf("seed %d: Read(%d) = %v", seed, offset, wanted)
					}
					if wanted {
						open = append(open, offset)
					}
				case len(open) > 0:
					finish(rnd.IntN(min(len(open), 50)))
				}
				if got := tracker.Uncommitted(); got != len(fresh) {
					t.Fatalf("seed %d: %d uncommitted, want %d", seed, got, len(fresh))
				}
			}
		}
	}
}

// TestNothingIsLostToOverflow begins no more than Overflows lets it, with the head stuck, and sees that the state always tells
// everything.
func TestNothingIsLostToOverflow(t *testing.T) {
	for _, spread := range []int{1, 2, 3, 10, 1000, 100_000, 1 << 40} {
		for _, underWay := range []int{1, 20, 1000} {
			seed := uint64(time.Now().UnixNano())
			rnd := rand.New(rand.NewPCG(seed, 0))
			tracker := must(t, 0, "")
			tracker.Read(0)
			next, done := int64(0), 0
			var running []int64
			finish := func(i int) {
				tracker.Done(running[i])
				running = append(running[:i], running[i+1:]...)
				done++
			}
			for {
				next += 1 + int64(rnd.IntN(spread))
				tracker.Read(next)
				if tracker.Overflows(len(running) + 1) {
					break
				}
				if rnd.IntN(2) == 0 { // another key's, which waits
					continue
				}
				running = append(running, next)
				for len(running) >= underWay {
					finish(rnd.IntN(len(running)))
				}
				if done > 100_000 {
					t.Fatalf("spread %d: no overflow", spread)
				}
			}
			for range len(running) + 1 {
				if len(running)%20 > 0 {
					finish(rnd.IntN(len(running)))
					continue
				}
				if s := tracker.State(); s.beyond != math.MaxInt64 || len(s.Metadata) > MaxMetadata {
					t.Fatalf("seed %d: %d bytes do not tell everything of %d records", seed, len(s.Metadata), done)
				}
				if len(running) > 0 {
					finish(rnd.IntN(len(running)))
				}
			}
			s := tracker.State()
			t.Logf("spread %d, %d under way: %d records in %d bytes", spread, underWay, done, len(s.Metadata))
			tracker.Done(0)
			if next := tracker.State(); len(next.Metadata) > len(s.Metadata)+21 { // for the offset
				t.Errorf("the first is done, and metadata grows from %d to %d bytes", len(s.Metadata), len(next.Metadata))
			}
		}
	}
}

// TestTooMuchToTell ignores Overflows.
func TestTooMuchToTell(t *testing.T) {
	tracker := must(t, 0, "")
	for offset := range int64(100_000) {
		tracker.Read(offset)
		if offset%2 == 1 {
			tracker.Done(offset)
		}
	}
	s := tracker.State()
	if len(s.Metadata) > MaxMetadata || len(s.Metadata) < MaxMetadata-25 || !tracker.Overflows(0) {
		t.Errorf("%d bytes, overflows: %v", len(s.Metadata), tracker.Overflows(0))
	}
	tracker.Committed(s)
	again := must(t, s.Offset, s.Metadata)
	read := 0
	for offset := range int64(100_000) {
		if done := !again.Read(offset); done && offset%2 == 0 {
			t.Fatalf("%d counts as done", offset)
		} else if !done && offset%2 == 1 {
			read++
		}
	}
	if read == 0 || read != tracker.Uncommitted() {
		t.Errorf("%d are read again, and %d said to be uncommitted", read, tracker.Uncommitted())
	}
	// A state with less room for what is far away takes back what has been told.
	tracker = must(t, 0, "")
	for offset := range int64(40_000) {
		tracker.Read(offset)
	}
	for offset := int64(20_001); offset < 40_000; offset += 2 {
		tracker.Done(offset)
	}
	tracker.Committed(tracker.State())
	if n := tracker.Uncommitted(); n != 0 {
		t.Fatalf("%d uncommitted", n)
	}
	for offset := int64(1); offset < 20_000; offset += 2 {
		tracker.Done(offset)
	}
	s = tracker.State()
	tracker.Committed(s)
	if s.beyond > 40_000 || tracker.Uncommitted() < 5000 {
		t.Errorf("told as far as %d, %d uncommitted", s.beyond, tracker.Uncommitted())
	}
	tracker.Done(0)
	tracker.Committed(s)
	if tracker.Uncommitted() < 5001 {
		t.Errorf("%d uncommitted", tracker.Uncommitted())
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add(int64(0), "")
	f.Add(int64(100), "crowd2:4A")
	f.Add(int64(7), encode(7, spans{{from: 9, to: 10}, {from: 12, to: 1 << 40}}))
	f.Add(int64(math.MaxInt64-3), encode(0, spans{{from: 1, to: 2}}))
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		tracker, err := New(offset, metadata)
		s := tracker.State()
		if s.Offset != offset {
			t.Errorf("offset %d, want %d", s.Offset, offset)
		}
		switch {
		case err != nil && s.Metadata != "":
			t.Errorf("%v, but the tracker knows %q", err, s.Metadata)
		case err == nil && s.Metadata != strings.NewReplacer("\r", "", "\n", "").Replace(metadata) && len(s.told) > 0:
			t.Errorf("%q becomes %q", metadata, s.Metadata)
		}
		if offset < 0 || offset > math.MaxInt64-100 {
			return
		}
		if !tracker.Read(offset) {
			t.Error("the first that is not done is done")
		}
		tracker.Read(offset + 50)
		tracker.Done(offset)
		tracker.Overflows(10)
		tracker.Committed(tracker.State())
		if n := tracker.Uncommitted(); n != 0 {
			t.Errorf("%d uncommitted", n)
		}
	})
}

// BenchmarkTracker does records of which every tenth waits until a thousand others are done, and commits now and then.
func BenchmarkTracker(b *testing.B) {
	tracker := must(b, 0, "")
	b.ReportAllocs()
	for offset := int64(0); b.Loop(); offset++ {
		tracker.Read(offset)
		if offset%10 != 0 {
			tracker.Done(offset)
		} else if offset >= 1000 {
			tracker.Done(offset - 1000)
		}
		if tracker.Overflows(10) {
			b.Fatal("overflows")
		}
		if offset%100 == 0 {
			tracker.Committed(tracker.State())
		}
	}
}
