package spool

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/quick"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/record"
)

func TestIndexedInverse(t *testing.T) {
	inverse := func(uplink record.UplinkID, sequence uint64, size uint32) bool {
		want := indexed{uplink, sequence, int64(size)}
		raw := want.append(nil)
		got, err := parseIndexed(raw)
		return err == nil && got == want && len(raw) == indexedSize
	}
	if err := quick.Check(inverse, nil); err != nil {
		t.Error(err)
	}
}

func FuzzIndexed(f *testing.F) {
	f.Add(indexed{record.UplinkID{1}, 2, 3}.append(nil))
	f.Add([]byte("too short"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := parseIndexed(raw)
		if err == nil && !reflect.DeepEqual(i.append(nil), raw) {
			t.Errorf("%x is read as %+v", raw, i)
		}
	})
}

// change changes a closed spool's database.
func change(t *testing.T, files vfs.FS, do func(*pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open("spool", &pebble.Options{FS: files, FormatMajorVersion: format, Logger: &logger{log: quietLog()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := do(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// dropIndex makes a closed spool one of before there was an index.
func dropIndex(t *testing.T, files vfs.FS) {
	t.Helper()
	change(t, files, func(db *pebble.DB) error {
		lower, upper := bounds(kindIndex)
		if err := db.DeleteRange(lower, upper, pebble.Sync); err != nil {
			return err
		}
		return db.Delete(indexWhole, pebble.Sync)
	})
}

// problems are what Visit finds wrong, but for the records, which are none of record's.
func problems(t *testing.T, files vfs.FS) (all []string) {
	t.Helper()
	for _, f := range visit(t, files) {
		for _, p := range f.Problems {
			if !strings.Contains(p.Error(), "record 0") {
				all = append(all, p.Error())
			}
		}
	}
	return all
}

// A start that finds an index knows from it what one knows that has read every entry.
func TestStartKnowsTheSame(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	for i := range uint64(300) {
		store(t, s, entry(fmt.Sprint("topic ", i%3), i, int(i)*10))
	}
	closeSpool(t, s, 0)
	type state struct {
		left    []left
		entries int
		used    int64
		held    map[string]int64
		last    id
	}
	start := func() state {
		s := open(t, testConfig(files))
		s.left.sort()
		known := state{slices.Clone(s.left), s.entries, s.disk.Used(), map[string]int64{}, s.last}
		for name := range s.topics {
			known.held[name] = s.disk.Held(name)
		}
		if left := closeSpool(t, s, 0); left != 300 {
			t.Errorf("%d left", left)
		}
		return known
	}
	want := start()
	if want.entries != 300 || want.used <= 300*299/2*10 || len(want.left) != 300 || len(want.held) != 3 {
		t.Errorf("it knows %+v", want)
	}
	dropIndex(t, files)
	if got := problems(t, files); got != nil {
		t.Errorf("without an index: %q", got)
	}
	for range 2 {
		if diff := cmp.Diff(want, start(), cmp.AllowUnexported(state{}, left{})); diff != "" {
			t.Errorf("without its index it knew (-want +got):\n%s", diff)
		}
	}
	if got := problems(t, files); got != nil {
		t.Errorf("with the index made again: %q", got)
	}
}

// A version that knows of no index reads all that begins like an entry, and must refuse what has one.
func TestVersionsWithoutAnIndexRefuseASpoolThatHasOne(t *testing.T) {
	s := open(t, testConfig(vfs.NewMem()))
	store(t, s, entry("a", 1, 100))
	err := s.scan(kindEntry, func(*pebble.Batch, key, []byte) error { return nil })
	if !errors.Is(err, errKey) {
		t.Errorf("read with %v", err)
	}
	closeSpool(t, s, 0)
}

// tables returns those of all levels, of which there must be one.
func tables(t *testing.T, s *Spool) []pebble.SSTableInfo {
	t.Helper()
	levels, err := s.db.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(levels...)
	if len(all) == 0 {
		t.Fatal("there are no tables")
	}
	return all
}

// straddling returns a table that has both entries and a part of the index, if there is one.
func straddling(t *testing.T, s *Spool) string {
	t.Helper()
	for _, table := range tables(t, s) {
		first, last := table.Smallest.UserKey[0], table.Largest.UserKey[0]
		if first != last && !table.Largest.IsExclusiveSentinel() { // where a deletion ends, it is none of the table's
			return fmt.Sprintf("%v from %q to %q", table.FileNum, table.Smallest, table.Largest)
		}
	}
	return ""
}

func TestNoTableHasEntriesAndIndex(t *testing.T) {
	s := open(t, testConfig(vfs.NewMem()))
	k := newSink("*")
	s.Deliver(k.deliver)
	for round := range uint64(4) {
		for i := range uint64(30) {
			store(t, s, entry(fmt.Sprint("topic ", i%3), 100*round+i, 10_000))
		}
		if round == 2 {
			k.release()
			k.mu.Lock()
			k.holds["*"] = true
			k.mu.Unlock()
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		if table := straddling(t, s); table != "" {
			t.Fatalf("after round %d: %s", round, table)
		}
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	if table := straddling(t, s); table != "" {
		t.Errorf("after a compaction: %s", table)
	}
	k.release()
	closeSpool(t, s, patience)
}

// Whatever is wrong with the index, the entries are there, and it is made again.
func TestUnreadableIndex(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *vfs.MemFS, string){
		"a value": func(t *testing.T, files *vfs.MemFS, _ string) {
			change(t, files, func(db *pebble.DB) error {
				return db.Set(key{kind: kindIndex, topic: "a", id: 1}.append(nil), []byte("short"), pebble.Sync)
			})
		},
		"a key": func(t *testing.T, files *vfs.MemFS, _ string) {
			change(t, files, func(db *pebble.DB) error { return db.Set([]byte("ibad"), nil, pebble.Sync) })
		},
		"a table": func(t *testing.T, files *vfs.MemFS, table string) {
			f, err := files.OpenReadWrite(table, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("damage"), 20); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := vfs.NewMem()
			s := open(t, testConfig(files))
			for i := range uint64(200) {
				store(t, s, entry("a", i+1, 1000))
			}
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			table := ""
			for _, f := range tables(t, s) {
				if f.Smallest.UserKey[0] == kindIndex {
					table = fmt.Sprintf("spool/%s.sst", f.BackingSSTNum)
				}
			}
			closeSpool(t, s, 0)
			damage(t, files, table)
			for range 2 {
				s = open(t, testConfig(files))
				if s.entries != 200 || len(s.left) != 200 || s.topics["a"].backlog != 200 {
					t.Errorf("%d entries are found", s.entries)
				}
				if left := closeSpool(t, s, 0); left != 200 {
					t.Errorf("%d left", left)
				}
			}
			s = open(t, testConfig(files))
			k := newSink()
			s.Deliver(k.deliver)
			k.await(t, 200)
			if left := closeSpool(t, s, patience); left != 0 {
				t.Errorf("%d left", left)
			}
		})
	}
}

// A start that has to write, as for the index, and cannot, is none.
func TestStartThatCannotWrite(t *testing.T) {
	for name, f := range map[string]*faults{
		"the log cannot be synced":       failing(syscall.EIO, "*.log", syncs...),
		"the log cannot be written":      failing(syscall.EIO, "*.log", errorfs.OpFileWrite),
		"the disk is full under the log": failing(syscall.ENOSPC, "*.log", errorfs.OpFileWrite),
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			f.on.Store(true)
			if _, err := Open(testConfig(errorfs.Wrap(disk, f)), quietLog(), prometheus.NewRegistry()); err == nil {
				t.Error("it started")
			}
			if f.seen.Load() == 0 {
				t.Error("nothing failed")
			}
			f.on.Store(false)
			closeSpool(t, open(t, testConfig(disk)), 0)
		})
	}
}

func TestIndexThatIsWrong(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	var ids []id
	for i := range uint64(4) {
		store(t, s, entry("a", i+1, 100))
		s.mu.Lock()
		ids = append(ids, s.last)
		s.mu.Unlock()
	}
	closeSpool(t, s, 0)
	raw := func(kind byte, i int) []byte { return key{kind: kind, topic: "a", id: ids[i]}.append(nil) }
	change(t, files, func(db *pebble.DB) error {
		for _, k := range [][]byte{raw(kindEntry, 0), raw(kindIndex, 2), raw(kindEntry, 3)} {
			if err := db.Delete(k, pebble.Sync); err != nil {
				return err
			}
		}
		return nil
	})
	got := problems(t, files)
	want := []string{
		fmt.Sprintf(`topic "a", entry %d: in the index, but not there`, ids[0]),
		fmt.Sprintf(`topic "a", entry %d: not in the index`, ids[2]),
		fmt.Sprintf(`topic "a", entry %d: in the index, but not there`, ids[3]),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}

	// What the index has and is not there ends the spool; the next start finds what there is.
	s = open(t, testConfig(files))
	if s.entries != 3 {
		t.Errorf("%d entries were found in an index of 3", s.entries)
	}
	s.Deliver(newSink("*").deliver)
	<-s.Failed()
	if !strings.Contains(s.Err().Error(), "not there any more") {
		t.Error(s.Err())
	}
	<-s.committed
	s.running.Wait()
	if err := s.db.Close(); err != nil {
		t.Error(err)
	}
	if err := s.lock.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, testConfig(files))
	k := newSink()
	s.Deliver(k.deliver)
	if diff := cmp.Diff([]string{"a/2", "a/3"}, k.await(t, 2)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
}
