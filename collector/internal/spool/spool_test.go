package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marceloboeira/crowd/collector/record"
)

// patience is how long tests wait for what must come.
const patience = 30 * time.Second

func summed(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// testConfig is that of a small spool.
func testConfig(files vfs.FS) Config {
	return Config{Dir: "spool", MaxBytes: 8 << 20, MaxMemoryBytes: 1 << 20, FS: files}
}

func open(t testing.TB, c Config) *Spool {
	t.Helper()
	s, err := Open(c, quietLog(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeSpool closes a spool that must close without error, and returns what is left.
func closeSpool(t testing.TB, s *Spool, wait time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	left, err := s.Close(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// noGoroutinesLeft fails the test if goroutines of the spool outlive it, other than those that a failed spool of
// another test has left standing. Call it first.
func noGoroutinesLeft(t *testing.T) {
	t.Helper()
	running := func() (all []string) {
		buf := make([]byte, 1<<20)
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && strings.Contains(g, "internal/spool.") && !strings.Contains(g, "testing.") {
				all = append(all, g)
			}
		}
		return all
	}
	before := len(running())
	t.Cleanup(func() {
		for deadline := time.Now().Add(patience); len(running()) > before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("goroutines left behind, of which %d were there before:\n%s", before, strings.Join(running(), "\n\n"))
			}
		}
	})
}

// noise does not get smaller when it is compressed.
var noise = func() []byte {
	b := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

// entry makes one of a record of size bytes, whose first say which entry it is.
func entry(topic string, sequence uint64, size int) Entry {
	r := append(fmt.Appendf(nil, "%s/%d", topic, sequence), 0)
	if size > len(r) {
		r = append(r, noise[len(r):size]...)
	}
	return Entry{Uplink: record.UplinkID{1}, Sequence: sequence, Topic: topic, Records: [][]byte{r}}
}

// name returns what entry wrote.
func name(e *Entry) string {
	r, _, _ := bytes.Cut(e.Records[0], []byte{0})
	return string(r)
}

// sink takes what is delivered, and is done with what it does not hold back.
type sink struct {
	mu        sync.Mutex
	cond      sync.Cond
	delivered []string // of every topic, in order
	marked    map[string]bool
	holds     map[string]bool // topics
	held      []func([]Undeliverable)
	heldBytes map[string]int
}

func newSink(holds ...string) *sink {
	k := &sink{marked: map[string]bool{}, holds: map[string]bool{}, heldBytes: map[string]int{}}
	k.cond.L = &k.mu
	for _, topic := range holds {
		k.holds[topic] = true
	}
	return k
}

func (k *sink) deliver(e *Entry, done func([]Undeliverable)) {
	k.mu.Lock()
	n := name(e)
	k.delivered = append(k.delivered, n)
	k.marked[n] = k.marked[n] || e.Redelivered
	hold := k.holds[e.Topic] || k.holds["*"]
	if hold {
		k.held = append(k.held, done)
		k.heldBytes[e.Topic] += len(e.Records[0])
	}
	k.cond.Broadcast()
	k.mu.Unlock()
	if !hold {
		done(nil)
	}
}

// release lets everything go.
func (k *sink) release() {
	k.mu.Lock()
	held := k.held
	k.held, k.holds = nil, map[string]bool{}
	k.mu.Unlock()
	for _, done := range held {
		done(nil)
	}
}

// await waits until so many have been delivered.
func (k *sink) await(t testing.TB, n int) []string {
	t.Helper()
	timer := time.AfterFunc(patience, func() { k.cond.Broadcast() })
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.delivered) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d delivered, want %d", len(k.delivered), n)
		}
		k.cond.Wait()
	}
	return slices.Clone(k.delivered)
}

// of returns those of one topic.
func of(topic string, names []string) (some []string) {
	for _, n := range names {
		if strings.HasPrefix(n, topic+"/") {
			some = append(some, n)
		}
	}
	return some
}

// store appends and waits.
func store(t testing.TB, s *Spool, e Entry) {
	t.Helper()
	if err := tryStore(t, s, e); err != nil {
		t.Fatal(err)
	}
}

func tryStore(t testing.TB, s *Spool, e Entry) error {
	t.Helper()
	stored := make(chan error, 2)
	s.Append(e, func(err error) { stored <- err })
	select {
	case err := <-stored:
		return err
	case <-time.After(patience):
		t.Fatalf("%s is never stored", name(&e))
		return nil
	}
}

// eventually waits for something that nobody tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func names(topic string, first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprintf("%s/%d", topic, i))
	}
	return all
}

func TestDelivers(t *testing.T) {
	noGoroutinesLeft(t)
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	k := newSink()
	s.Deliver(k.deliver)
	for i := 1; i <= 20; i++ {
		store(t, s, entry("a", uint64(i), 1000))
		store(t, s, entry("b", uint64(i), 1000))
	}
	got := k.await(t, 40)
	for _, topic := range []string{"a", "b"} {
		if diff := cmp.Diff(names(topic, 1, 20), of(topic, got)); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}

	s = open(t, testConfig(files.CrashClone(vfs.CrashCloneCfg{}))) // so that what Close did not sync is gone
	s.Left(func(_ record.UplinkID, sequence uint64) { t.Errorf("%d is still there", sequence) })
	closeSpool(t, s, patience)
}

func TestLeftovers(t *testing.T) {
	noGoroutinesLeft(t)
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	k := newSink("stuck")
	s.Deliver(k.deliver)
	for i := 1; i <= 10; i++ {
		store(t, s, entry("stuck", uint64(i), 1000))
		store(t, s, entry("fine", uint64(i), 1000))
	}
	k.await(t, 20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if left, err := s.Close(ctx); left < 10 || err != nil {
		t.Errorf("Close: %d left, %v", left, err)
	}
	k.release() // late, and of no consequence

	s = open(t, testConfig(files))
	var sequences []uint64
	s.Left(func(uplink record.UplinkID, sequence uint64) {
		if uplink != (record.UplinkID{1}) {
			t.Errorf("of uplink %x", uplink)
		}
		sequences = append(sequences, sequence)
	})
	k = newSink()
	store(t, s, entry("stuck", 11, 1000))
	s.Deliver(k.deliver)
	got := k.await(t, len(sequences)+1)
	if diff := cmp.Diff(names("stuck", 1, 11), of("stuck", got)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	for n, marked := range k.marked {
		if marked != (n != "stuck/11") {
			t.Errorf("%s is redelivered: %v", n, marked)
		}
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
}

func TestLeftIsInOrderOfStoring(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	var want []uint64
	for i := range uint64(20) {
		want = append(want, i)
		store(t, s, entry([]string{"b", "c", "a"}[i%3], i, 100))
	}
	closeSpool(t, s, patience)
	s = open(t, testConfig(files))
	var got []uint64
	s.Left(func(_ record.UplinkID, sequence uint64) { got = append(got, sequence) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	closeSpool(t, s, patience)
}

func TestStuckTopic(t *testing.T) {
	noGoroutinesLeft(t)
	c := testConfig(vfs.NewCrashableMem())
	s := open(t, c)
	k := newSink("stuck")
	s.Deliver(k.deliver)
	const size = 32 << 10
	var stored sync.WaitGroup
	n := 0
	for range 2 * c.MaxBytes / size { // far more than there is room for
		n++
		stored.Add(1)
		s.Append(entry("stuck", uint64(n), size), func(err error) {
			if err != nil {
				t.Error(err)
			}
			stored.Done()
		})
	}
	eventually(t, "the topic is closed", func() bool {
		_, closed := s.Room()
		return slices.Equal(closed, []string{"stuck"})
	})
	for i := 1; i <= 300; i++ { // more than the room that is left for all
		store(t, s, entry("fine", uint64(i), size))
	}
	k.mu.Lock()
	if held := int64(k.heldBytes["stuck"]); held > c.MaxMemoryBytes*2/3 {
		t.Errorf("a stuck topic holds %d bytes of memory", held)
	}
	k.mu.Unlock()
	s.mu.Lock()
	if used := s.disk.Used(); used > c.MaxBytes {
		t.Errorf("%d bytes wait, more than %d", used, c.MaxBytes)
	}
	s.mu.Unlock()

	k.release()
	stored.Wait()
	got := k.await(t, n+300)
	if diff := cmp.Diff(names("stuck", 1, n), of("stuck", got)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
	if used, closed := s.disk.Used(), s.disk.Closed(); used > 0 || len(closed) > 0 || len(s.topics) > 0 {
		t.Errorf("%d bytes used, %v closed, topics %v", used, closed, s.topics)
	}
}

func TestALargeEntryPassesAStuckTopic(t *testing.T) {
	noGoroutinesLeft(t)
	c := testConfig(vfs.NewCrashableMem())
	s := open(t, c)
	k := newSink("stuck", "large")
	s.Deliver(k.deliver)
	const size = 32 << 10
	n := int(c.MaxMemoryBytes) * 3 / 4 / size // more than its share
	for i := 1; i <= n; i++ {
		store(t, s, entry("stuck", uint64(i), size))
	}
	eventually(t, "the topic has its share of memory", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.memory.Held("stuck") >= c.MaxMemoryBytes/2 && s.topics["stuck"].backlog > 0
	})
	large := int(c.MaxMemoryBytes) * 3 / 4
	store(t, s, entry("large", 1, large))
	eventually(t, "it is delivered", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.Contains(k.delivered, "large/1")
	})
	store(t, s, entry("large", 2, large))
	for i := 1; i <= 50; i++ { // it does not stand in others' way
		store(t, s, entry("fine", uint64(i), size))
	}
	eventually(t, "small entries are delivered", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return slices.Contains(k.delivered, "fine/50")
	})
	k.mu.Lock()
	if held := int64(k.heldBytes["large"]); held != int64(large) {
		t.Errorf("%d bytes of large entries are in memory at once", held)
	}
	k.mu.Unlock()
	k.release()
	k.await(t, n+2+50)
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
	if s.overdrawn || s.memory.Used() > 0 {
		t.Errorf("overdrawn: %v, %d bytes used", s.overdrawn, s.memory.Used())
	}
}

func TestWatch(t *testing.T) {
	c := testConfig(vfs.NewCrashableMem())
	s := open(t, c)
	var mu sync.Mutex
	var seen []int64
	s.Watch(func() {
		free, _ := s.Room()
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, free)
	})
	k := newSink("*")
	s.Deliver(k.deliver)
	n := 0
	for range 5 {
		n++
		store(t, s, entry("a", uint64(n), 1<<20))
	}
	mu.Lock()
	if len(seen) == 0 || seen[len(seen)-1] > c.MaxBytes/2 {
		t.Errorf("seen free: %v", seen)
	}
	mu.Unlock()
	k.release()
	eventually(t, "everything is free", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[len(seen)-1] == c.MaxBytes
	})
	closeSpool(t, s, patience)
}

func TestATopicsStateDoesNotKeepAMessage(t *testing.T) {
	s := open(t, testConfig(vfs.NewCrashableMem()))
	message := "leads and up to 64 MiB more"
	store(t, s, entry(message[:len("leads")], 1, 100))
	for at, topic := range s.topics {
		if unsafe.StringData(at) == unsafe.StringData(message) || unsafe.StringData(topic.name) == unsafe.StringData(message) {
			t.Error("a topic's name is part of a message")
		}
	}
	if len(s.topics) != 1 {
		t.Errorf("topics %v", s.topics)
	}
	closeSpool(t, s, patience)
}

func TestRefuses(t *testing.T) {
	s := open(t, testConfig(vfs.NewCrashableMem()))
	if err := tryStore(t, s, entry("a", 1, 8<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry larger than the spool: %v", err)
	}
	if err := tryStore(t, s, entry(strings.Repeat("a", maxTopic+1), 1, 10)); !errors.Is(err, errTopic) {
		t.Errorf("a topic of 65536 bytes: %v", err)
	}
	k := newSink()
	s.Deliver(k.deliver)
	store(t, s, entry("a", 1, 6<<20)) // far beyond a memtable, and beyond the memory
	k.await(t, 1)
	closeSpool(t, s, patience)
	if err := tryStore(t, s, entry("a", 2, 10)); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSetAside(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	refuse := func(e *Entry, done func([]Undeliverable)) { done([]Undeliverable{{1, "nobody takes it"}}) }
	s.Deliver(refuse)
	e := entry("a", 1, 100)
	e.Records = append(e.Records, []byte("a/1/1"), []byte("a/1/2"))
	store(t, s, e)
	eventually(t, "it is set aside", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.setAside == 1 && s.entries == 0
	})
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
	found := visit(t, files)
	if len(found) != 1 || !found[0].SetAside || found[0].Reason != "nobody takes it" || found[0].Sequence != 1 {
		t.Fatalf("found %+v", found)
	}

	// Again at the next start: marked, alone, and this time something takes it.
	s = open(t, testConfig(files))
	k := newSink()
	s.Deliver(k.deliver)
	if got := k.await(t, 1); got[0] != "a/1/1" || !k.marked["a/1/1"] {
		t.Errorf("delivered %v, redelivered %v", got, k.marked)
	}
	if left := closeSpool(t, s, patience); left != 0 {
		t.Errorf("%d left", left)
	}
	if found := visit(t, files); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
}

// visit reads a closed spool.
func visit(t testing.TB, files vfs.FS) (all []Found) {
	t.Helper()
	err := Visit("spool", files, quietLog(), func(f *Found) error {
		all = append(all, *f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUnreadable(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := open(t, testConfig(files))
	store(t, s, entry("a", 1, 100))
	store(t, s, entry("a", 2, 100))
	s.mu.Lock()
	k := key{kind: kindEntry, topic: "a", id: s.last}
	s.mu.Unlock()
	store(t, s, entry("a", 3, 100))
	if err := s.db.Set(k.append(nil), []byte("what is this?"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	crashed := files.CrashClone(vfs.CrashCloneCfg{})
	for _, c := range []struct {
		name string
		s    *Spool
	}{
		{"while running", s},
		{"at the start", open(t, testConfig(crashed))},
		{"at the start after that", nil},
	} {
		s := c.s
		if s == nil {
			s = open(t, testConfig(crashed))
		}
		sink := newSink()
		s.Deliver(sink.deliver)
		if c.s != nil {
			if diff := cmp.Diff([]string{"a/1", "a/3"}, sink.await(t, 2)); diff != "" {
				t.Errorf("%s: delivered (-want +got):\n%s", c.name, diff)
			}
		}
		closeSpool(t, s, patience)
		if s.setAside != 1 || s.disk.Used() == 0 {
			t.Errorf("%s: %d set aside, %d bytes", c.name, s.setAside, s.disk.Used())
		}
	}
	for _, fs := range []vfs.FS{files, crashed} {
		found := visit(t, fs)
		if len(found) != 1 || !found[0].SetAside || len(found[0].Problems) != 1 {
			t.Errorf("found %+v", found)
		}
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(nil)
	c.Dir = dir
	s := open(t, c)
	_, err := Open(c, quietLog(), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	never := func(*Found) error { return errors.New("visited") }
	if err := Visit(dir, nil, quietLog(), never); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("visited while open: %v", err)
	}
	closeSpool(t, s, patience)
	for _, dir := range []string{t.TempDir(), dir + "/no such"} {
		if err := Visit(dir, nil, quietLog(), never); err == nil || !strings.Contains(err.Error(), "no spool") {
			t.Errorf("visited %s: %v", dir, err)
		}
		if again, err := vfs.Default.List(dir); len(again) != 0 {
			t.Errorf("visiting %s left %v, %v", dir, again, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	s, err := Open(testConfig(vfs.NewCrashableMem()), quietLog(), registry)
	if err != nil {
		t.Fatal(err)
	}
	store(t, s, entry("a", 1, 1000))
	store(t, s, entry("a", 2, 1000))
	want := `
# HELP crowd_spool_commits_total Synced commits, each of what all uplinks had sent meanwhile.
# TYPE crowd_spool_commits_total counter
crowd_spool_commits_total 2
# HELP crowd_spool_entries Entries that wait for Kafka.
# TYPE crowd_spool_entries gauge
crowd_spool_entries 2
`
	err = testutil.GatherAndCompare(registry, strings.NewReader(want), "crowd_spool_commits_total", "crowd_spool_entries")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	s.mu.Lock()
	age := s.oldest()
	s.mu.Unlock()
	if age <= 0 || age > patience.Seconds() {
		t.Errorf("the oldest has waited for %v s", age)
	}
	closeSpool(t, s, patience)
}
