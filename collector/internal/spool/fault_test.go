package spool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// faults makes operations fail for as long as it is on.
type faults struct {
	on   atomic.Bool
	seen atomic.Int64
	fail func(errorfs.Op) error
}

func (f *faults) String() string { return "faults" }

func (f *faults) MaybeError(op errorfs.Op) error {
	if !f.on.Load() {
		return nil
	}
	err := f.fail(op)
	if err != nil {
		f.seen.Add(1)
	}
	return err
}

// failing returns faults of operations of these kinds on files whose name fits the pattern of path.Match.
func failing(err error, pattern string, kinds ...errorfs.OpKind) *faults {
	return &faults{fail: func(op errorfs.Op) error {
		if fits, _ := path.Match(pattern, path.Base(op.Path)); fits && slices.Contains(kinds, op.Kind) {
			return err
		}
		return nil
	}}
}

var syncs = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}

// Whatever of the log or the manifest cannot be written ends the spool: nothing of that commit, and nothing after it,
// is acknowledged; what was before is on the disk.
func TestFinalFaults(t *testing.T) {
	broken := syscall.EIO
	for _, c := range []struct {
		name   string
		faults *faults
		size   int // of entries: large ones have logs and tables follow each other
	}{
		{"the log cannot be synced", failing(broken, "*.log", syncs...), 100},
		{"the log cannot be written", failing(broken, "*.log", errorfs.OpFileWrite), 100},
		{"the disk is full under the log", failing(syscall.ENOSPC, "*.log", errorfs.OpFileWrite), 100},
		{"no new log can be made", failing(broken, "*.log", errorfs.OpCreate, errorfs.OpReuseForWrite), 100_000},
		{"the directory cannot be synced", failing(broken, "spool", syncs...), 100_000},
		{"the manifest cannot be synced", failing(broken, "MANIFEST-*", syncs...), 100_000},
		{"the manifest cannot be written", failing(broken, "MANIFEST-*", errorfs.OpFileWrite), 100_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			s := open(t, testConfig(errorfs.Wrap(disk, c.faults)))
			k := newSink("*")
			s.Deliver(k.deliver)
			for i := 1; i <= 5; i++ {
				store(t, s, entry("a", uint64(i), 100))
			}
			c.faults.on.Store(true)
			var mu sync.Mutex
			var stored, refused []string
			var answers sync.WaitGroup
			appendOne := func(i int) {
				answers.Add(1)
				e := entry("a", uint64(i), c.size)
				s.Append(e, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						stored = append(stored, name(&e))
					} else {
						refused = append(refused, name(&e))
					}
					answers.Done()
				})
			}
			n := 5
			for ; n < 50; n++ {
				appendOne(n + 1)
			}
			select {
			case <-s.Failed():
			case <-time.After(patience):
				t.Fatal("the spool has not failed")
			}
			answers.Wait()
			if err := s.Err(); err == nil || !strings.Contains(err.Error(), "spool spool has failed") {
				t.Errorf("Err: %v", err)
			}
			if len(refused) == 0 {
				t.Error("everything was stored")
			}
			if free, closed := s.Room(); free != 0 || len(closed) > 0 {
				t.Errorf("room of %d, closed %v", free, closed)
			}
			crashed := disk.CrashClone(vfs.CrashCloneCfg{})
			var there []string
			for _, f := range visit(t, crashed) {
				n, _ := rawEntry(t, f)
				there = append(there, n)
			}
			if want := append(names("a", 1, 5), stored...); len(there) < len(want) {
				t.Errorf("on the disk are %d, stored were %d", len(there), len(want))
			} else if diff := cmp.Diff(want, there[:len(want)]); diff != "" {
				t.Errorf("on the disk (-want +got):\n%s", diff)
			}
			c.faults.on.Store(false) // nothing goes on as if it had not happened
			if err := tryStore(t, s, entry("a", 100, 100)); err == nil {
				t.Error("stored after the failure")
			}
			begun := time.Now()
			if _, err := s.Close(t.Context()); err == nil {
				t.Error("closed without error")
			}
			if took := time.Since(begun); took > closeGrace {
				t.Errorf("closing took %v", took)
			}
			k.release() // late
		})
	}
}

// Tables are written again until it works, and entries are in the log meanwhile.
func TestTablesFail(t *testing.T) {
	noGoroutinesLeft(t)
	for _, c := range []struct {
		name   string
		faults *faults
	}{
		{"cannot be made", failing(syscall.ENOSPC, "*.sst", errorfs.OpCreate)},
		{"cannot be written", failing(syscall.ENOSPC, "*.sst", errorfs.OpFileWrite)},
		{"cannot be synced", failing(syscall.EIO, "*.sst", syncs...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			s := open(t, testConfig(errorfs.Wrap(disk, c.faults)))
			k := newSink("*")
			s.Deliver(k.deliver)
			c.faults.on.Store(true)
			const n = 50
			var answers sync.WaitGroup
			for i := 1; i <= n; i++ {
				answers.Add(1)
				s.Append(entry("a", uint64(i), 100_000), func(err error) {
					if err != nil {
						t.Error(err)
					}
					answers.Done()
				})
			}
			eventually(t, "tables fail", func() bool { return c.faults.seen.Load() > 2 })
			c.faults.on.Store(false)
			answers.Wait()
			k.release()
			if diff := cmp.Diff(names("a", 1, n), k.await(t, n)); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
			if left := closeSpool(t, s, patience); left != 0 {
				t.Errorf("%d left", left)
			}
		})
	}
}

// A topic that cannot be read is tried again, and holds up no other; at the start it is an error.
func TestReadsFail(t *testing.T) {
	noGoroutinesLeft(t)
	disk := vfs.NewCrashableMem()
	c := testConfig(disk)
	c.MaxBytes = 32 << 20
	s := open(t, c)
	const n = 160
	for i := 1; i <= n; i++ {
		store(t, s, entry("a", uint64(i), 100_000))
	}
	closeSpool(t, s, patience)

	faults := failing(syscall.EIO, "*.sst", errorfs.OpFileReadAt)
	c.FS = errorfs.Wrap(disk, faults)
	s = open(t, c)
	faults.on.Store(true)
	k := newSink()
	s.Deliver(k.deliver)
	store(t, s, entry("b", 1, 100))
	eventually(t, "the topic cannot be read", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.topics["a"].paused
	})
	eventually(t, "another is delivered", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(of("b", k.delivered)) == 1
	})
	faults.on.Store(false)
	if diff := cmp.Diff(names("a", 1, n), of("a", k.await(t, n+1))); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}

	s = open(t, c)
	for i := 1; i <= n; i++ {
		store(t, s, entry("a", uint64(i), 100_000))
	}
	closeSpool(t, s, patience)
	faults.on.Store(true)
	if _, err := Open(c, quietLog(), prometheus.NewRegistry()); !errors.Is(err, syscall.EIO) {
		t.Errorf("opened: %v", err)
	}
	faults.on.Store(false)
	closeSpool(t, open(t, c), patience)
}

// smallDisk is a file system of so many bytes, as far as its files in one directory go.
type smallDisk struct {
	vfs.FS
	bytes atomic.Int64
}

func (d *smallDisk) used(dir string) (n int64) {
	names, _ := d.List(dir)
	for _, name := range names {
		if info, err := d.Stat(d.PathJoin(dir, name)); err == nil {
			n += info.Size()
		}
	}
	return n
}

func (d *smallDisk) GetDiskUsage(dir string) (vfs.DiskUsage, error) {
	total, used := d.bytes.Load(), d.used(dir)
	return vfs.DiskUsage{AvailBytes: uint64(max(0, total-used)), TotalBytes: uint64(total), UsedBytes: uint64(used)}, nil
}

// A disk that is nearly full closes the spool before it is full, and opens it again when entries are delivered, however
// often; and that though topics lie mixed on it.
func TestFullDisk(t *testing.T) {
	noGoroutinesLeft(t)
	disk := &smallDisk{FS: vfs.NewCrashableMem()}
	disk.bytes.Store(40 << 20)
	c := Config{Dir: "spool", MaxBytes: 32 << 20, MinFree: 4 << 20, MaxMemoryBytes: 1 << 20, FS: disk}
	s := open(t, c)
	const size = 64 << 10
	n, all := 0, 0
	var delivered atomic.Int64
	k := newSink("*")
	s.Deliver(func(e *Entry, done func([]Undeliverable)) {
		k.deliver(e, func(u []Undeliverable) {
			delivered.Add(1)
			done(u)
		})
	})
	for round := range 3 {
		k.mu.Lock()
		k.holds["*"] = true
		k.mu.Unlock()
		var answers sync.WaitGroup
		for range 2 * c.MaxBytes / size {
			n++
			answers.Add(1)
			s.Append(entry([]string{"a", "b", "c"}[n%3], uint64(n), size), func(err error) {
				if err != nil {
					t.Error(err)
				}
				answers.Done()
			})
		}
		all = n
		eventually(t, "the room is used up", func() bool {
			free, closed := s.Room()
			return free < size || len(closed) == 3
		})
		if used := disk.used("spool"); used > disk.bytes.Load() {
			t.Errorf("round %d: %d bytes on the disk", round, used)
		}
		k.release()
		answers.Wait()
		eventually(t, "everything is delivered", func() bool { return delivered.Load() == int64(all) })
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
}

// A spool that has no room from the start says so; one that is only full does not.
func TestNoRoomAtTheStart(t *testing.T) {
	disk := &smallDisk{FS: vfs.NewCrashableMem()}
	c := testConfig(disk)
	c.MinFree = 50 << 20
	opened := func(size int64) (*Spool, string) {
		disk.bytes.Store(size)
		var logged bytes.Buffer
		s, err := Open(c, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn})),
			prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		return s, logged.String()
	}
	s, logged := opened(50 << 20)
	if !strings.Contains(logged, "directory=spool free=") || !strings.Contains(logged, " must_stay_free=52428800\n") {
		t.Errorf("logged %q", logged)
	}
	closeSpool(t, s, patience)
	s, logged = opened(100 << 20)
	if logged != "" {
		t.Errorf("with room: logged %q", logged)
	}
	store(t, s, entry("a", 1, 100))
	closeSpool(t, s, patience)
	s, logged = opened(50 << 20)
	if logged != "" {
		t.Errorf("with an entry: logged %q", logged)
	}
	closeSpool(t, s, patience)
}

// What others take of the disk is looked at from time to time.
func TestOthersFillTheDisk(t *testing.T) {
	noGoroutinesLeft(t)
	disk := &smallDisk{FS: vfs.NewCrashableMem()}
	disk.bytes.Store(100 << 20)
	c := testConfig(disk)
	c.MinFree = 50 << 20
	s := open(t, c)
	changed := make(chan struct{}, 1)
	s.Watch(func() { wake(changed) })
	store(t, s, entry("a", 1, 100))
	disk.bytes.Store(50 << 20)
	for free := int64(1); free > 0; free, _ = s.Room() {
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("there is still room")
		}
	}
	stored := make(chan error, 1)
	s.Append(entry("a", 2, 100), func(err error) { stored <- err })
	disk.bytes.Store(100 << 20)
	if err := <-stored; err != nil {
		t.Error(err)
	}
	if left := closeSpool(t, s, patience); left != 2 {
		t.Errorf("%d left", left)
	}
}

// Close gives up when its context is done, though appends still wait for room.
func TestCloseGivesUp(t *testing.T) {
	noGoroutinesLeft(t)
	s := open(t, testConfig(vfs.NewCrashableMem()))
	s.Deliver(newSink("*").deliver)
	store(t, s, entry("a", 1, 5<<20))
	s.Append(entry("a", 2, 5<<20), func(err error) { t.Errorf("stored: %v", err) })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if left, err := s.Close(ctx); left != 1 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
}

// TestANewDirectorySurvivesACrash opens a spool in a directory whose parents are missing as well.
func TestANewDirectorySurvivesACrash(t *testing.T) {
	for _, dir := range []string{"spool", "/spool", "/var/lib/crowd/spool"} {
		files := vfs.NewCrashableMem()
		c := testConfig(files)
		c.Dir = dir
		s := open(t, c)
		store(t, s, entry("a", 1, 100))
		crashed := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
		closeSpool(t, s, patience)
		c.FS = crashed
		s = open(t, c)
		s.mu.Lock()
		n := s.entries
		s.mu.Unlock()
		if n != 1 {
			t.Errorf("%s: %d entries after a power loss, want 1", dir, n)
		}
		closeSpool(t, s, patience)
	}
}

// TestWhatDoesNotFitIsInNobodysWay has an entry wait that is larger than what the disk has left: beside another topic's, and
// in an empty spool.
func TestWhatDoesNotFitIsInNobodysWay(t *testing.T) {
	for _, used := range []int{0, 1 << 20} {
		disk := &smallDisk{FS: vfs.NewCrashableMem()}
		disk.bytes.Store(6 << 20)
		c := testConfig(disk)
		c.MaxBytes, c.MinFree = 64<<20, 1
		s := open(t, c)
		if used > 0 {
			store(t, s, entry("stuck", 1, used))
		}
		free, _ := s.Room()
		s.Append(entry("big", 2, int(free)+1<<18), func(error) {})
		if now, closed := s.Room(); now < free-1<<20 || !slices.Equal(closed, []string{"big"}) {
			t.Errorf("beside %d bytes there is room for %d, then for %d, and closed are %q", used, free, now, closed)
		}
		store(t, s, entry("other", 3, 1000))
		closeSpool(t, s, 0)
	}
}

// TestCloseWaitsForASlowDisk has the disk take longer for tables than closeGrace.
func TestCloseWaitsForASlowDisk(t *testing.T) {
	var slow atomic.Bool
	f := &faults{fail: func(op errorfs.Op) error {
		if path.Ext(op.Path) == ".sst" && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && slow.Load() {
			time.Sleep(closeGrace + time.Second)
		}
		return nil
	}}
	f.on.Store(true)
	s := open(t, testConfig(errorfs.Wrap(vfs.NewCrashableMem(), f)))
	k := newSink()
	s.Deliver(k.deliver)
	slow.Store(true)
	for i := range 20 { // fills a memtable of 1 MiB and more
		store(t, s, entry("a", uint64(i+1), 100_000))
	}
	k.await(t, 20)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if left, err := s.Close(ctx); left > 0 || err != nil {
		t.Errorf("%d entries left, error %v", left, err)
	}
}
