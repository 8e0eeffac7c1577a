// Package spool keeps entries on disk until they are delivered.
//
//	Append --> | committer: one synced commit for all that came |--> stored
//	                 |                      |            ^
//	                 | no backlog,          | else       | deletions ride along
//	                 | room in memory       v            |
//	                 |              [Pebble's log, tables]
//	                 v                      v            |
//	           | feeder: oldest first, topic by topic |--> deliver --> done
//
// An entry is stored once its commit has been synced. It is handed to deliver straight from memory where its topic has
// nothing older on the disk and memory has room, and is read back later otherwise. When deliver is done with it, it is
// deleted, with the next commit; so most of what passes through a spool is written to the log once, and to nothing
// else. After a start everything is delivered again that was not deleted: at least once, in order of storing within a
// topic.
//
// Topics share the disk and the memory (package share), so that one of which nothing is delivered takes neither from
// the others.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/share"
	"github.com/marceloboeira/crowd/collector/internal/throttle"
	"github.com/marceloboeira/crowd/collector/record"
)

// Config configures a Spool. Every field but FS is needed.
type Config struct {
	// Dir is the directory, which is made if it is not there. It is the spool's alone.
	Dir string
	// MaxBytes bounds what waits, in bytes of records and a little for each. The directory grows by half beyond it,
	// for what is gone and not yet given back, and by 8 memtables, for the log; there the spool takes nothing more.
	// While Pebble rewrites tables it needs, for short, the room of those that it rewrites once more. A memtable has
	// 1/32 of MaxBytes, or of the disk where that is smaller, but at least 1 MiB and at most 64 MiB.
	MaxBytes int64
	// MinFree is what stays free on the disk, in bytes, whoever takes the rest. It is at least 2 memtables, which the
	// spool itself needs when it gives space back.
	MinFree int64
	// MaxMemoryBytes bounds what is with deliver and not done, in bytes of records and a little for each; but one entry,
	// of a topic that has no other there, may be on top of it, whatever its size. Pebble takes up to 4 memtables beside it.
	MaxMemoryBytes int64
	// FS is the file system; nil is the machine's.
	FS vfs.FS
}

// Entry is a batch of records.
type Entry struct {
	Uplink      record.UplinkID
	Sequence    uint64 // the uplink's
	Redelivered bool   // the records may be in Kafka already
	Topic       string // of every record
	Records     [][]byte
	// Parsed is what whoever appended the entry has made of the records, for whoever gets it delivered. An entry that was
	// read back from the disk has none.
	Parsed any
}

// Undeliverable is a record that nothing takes, and why. The spool sets it aside and tries it again at the next start.
type Undeliverable struct {
	Index  int // in Entry.Records
	Reason string
}

// Errors of Append.
var (
	ErrTooLarge = errors.New("larger than the whole spool")
	errTopic    = fmt.Errorf("a topic's name may have at most %d bytes", maxTopic)
	errClosed   = errors.New("the spool is closed")
)

// Spool is an open spool. Its methods are safe for concurrent use.
type Spool struct {
	config   Config
	log      *slog.Logger
	trouble  *throttle.Logger
	metrics  *metrics
	memtable int64 // bytes of Pebble's
	guard    *guard
	lock     *pebble.Lock
	db       *pebble.DB
	found    id // the newest entry that start-up found

	failed      chan struct{}
	wakeCommits chan struct{}  // holds one wake-up
	wakeFeeds   chan struct{}  // holds one wake-up
	wakeLooks   chan struct{}  // holds one wake-up
	quiet       chan struct{}  // closed when the spool is closing and nothing is left to do
	stop        chan struct{}  // closed to end the goroutines
	committed   chan struct{}  // closed when the committer has ended
	running     sync.WaitGroup // the other goroutines

	mu        sync.Mutex
	err       error // why the spool has failed
	closing   bool
	silent    bool // quiet is closed
	topics    map[string]*topic
	appenders []*topic     // with appends that wait for a commit
	waiting   int64        // bytes of them
	group     []*appending // being committed
	landed    []*topic     // with entries that are done
	landedAt  time.Time    // when the first of them was
	entries   int
	last      id
	disk      *share.Pool // what is on the disk, and what is being committed
	free      int64       // bytes that may still be written until the next look at the disk; below 0 when overdrawn
	seen      int64       // what free was at that look
	written   int64       // bytes that were taken on the disk since Open
	memory    *share.Pool
	overdrawn bool // an entry is in memory on top of it
	setAside  int  // records
	left      lefts

	deliver  func(*Entry, func([]Undeliverable))
	ready    []*ready // for the feeder, straight from memory
	backlogs []*topic // with a backlog, in turn

	changed func()
	told    room
}

// Open opens a spool, making a new one where there is none, and reads the index of what it holds, and all of that where
// there is no index yet. Call Deliver to have it delivered; what cannot be read then is set aside as it is.
func Open(c Config, log *slog.Logger, registry prometheus.Registerer) (*Spool, error) {
	files := c.fs()
	s := &Spool{
		config:      c,
		log:         log,
		trouble:     throttle.New(log),
		metrics:     newMetrics(),
		failed:      make(chan struct{}),
		wakeCommits: make(chan struct{}, 1),
		wakeFeeds:   make(chan struct{}, 1),
		wakeLooks:   make(chan struct{}, 1),
		quiet:       make(chan struct{}),
		stop:        make(chan struct{}),
		committed:   make(chan struct{}),
		topics:      map[string]*topic{},
		disk:        share.New(c.MaxBytes),
		free:        math.MaxInt64,
		memory:      share.New(c.MaxMemoryBytes),
	}
	s.guard = &guard{fail: s.fail, FS: vfs.OnDiskFull(files, func() {
		s.trouble.Warn("spool: the disk is full", "directory", c.Dir)
		time.Sleep(fullPause)
	})}
	if err := makeDir(files, c.Dir); err != nil {
		return nil, fmt.Errorf("spool %s: %w", c.Dir, err)
	}
	usage, err := s.usage()
	if err != nil {
		return nil, err
	}
	s.memtable = memtableSize(c.MaxBytes, int64(usage.TotalBytes))
	lock, err := lockDir(c.Dir, s.guard)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	s.db, err = pebble.Open(c.Dir, s.options(lock))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", c.Dir, err), lock.Close())
	}
	err = s.recover()
	if err == nil {
		err = s.look()
	}
	if err == nil {
		err = s.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", c.Dir, err), s.db.Close(), lock.Close())
	}
	s.warnOfNoRoom()
	s.metrics.register(registry, s)
	s.guard.armed.Store(true)
	go s.commitAll()
	s.running.Go(s.lookAll)
	return s, nil
}

// makeDir makes a directory and those above it where they are missing, so that they outlive a power loss: what Pebble syncs is
// only the one above its own.
func makeDir(files vfs.FS, dir string) error {
	if _, err := files.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return files.MkdirAll(dir, 0o700) // which says what is wrong, if anything is
	}
	above := files.PathDir(dir)
	if above != dir {
		if err := makeDir(files, above); err != nil {
			return err
		}
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	made, err := files.OpenDir(above)
	if err != nil {
		return err
	}
	return errors.Join(made.Sync(), made.Close())
}

// Left calls visit for the entries that start-up found, from the oldest on, but where there were very many for the newest
// only, 65,536 at least. It may call more than once for one. It must be called before Deliver.
func (s *Spool) Left(visit func(record.UplinkID, uint64)) {
	s.left.sort()
	for _, l := range s.left {
		visit(l.uplink, l.sequence)
	}
}

// Deliver has everything delivered: first what start-up found, marked as redelivered, then what is appended, each topic
// in order. deliver is called by one goroutine, after the entry's stored has returned, and holds up all others while it
// runs. done must be called once, by anybody, when every record has been delivered that is not among the undeliverable
// ones; until then the entry counts as memory, and its records may be pointed into. Deliver must be called once at
// most.
func (s *Spool) Deliver(deliver func(e *Entry, done func([]Undeliverable))) {
	s.mu.Lock()
	s.deliver = deliver
	s.left = nil
	s.mu.Unlock()
	s.running.Go(s.feedAll)
}

// Append stores an entry: stored is called once, with nil when it has been synced to the disk, and with an error when
// it has not or that is in doubt. It runs on a goroutine of the spool and must not block. Until then the spool holds
// the entry, and what its records point into, for as long as there is no room; how much is up to the caller. Where
// Close gives up before, stored is never called.
func (s *Spool) Append(e Entry, stored func(error)) {
	a := &appending{entry: e, stored: stored}
	a.size = entrySize(e.Topic, int64(e.content().size()))
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	switch {
	case err != nil:
	case s.closing:
		err = errClosed
	case len(e.Topic) > maxTopic:
		err = errTopic
	case a.size > s.config.MaxBytes:
		err = fmt.Errorf("an entry of %d bytes for topic %q is %w", a.size, e.Topic, ErrTooLarge)
	}
	if err != nil {
		go stored(err)
		return
	}
	t := s.topic(e.Topic)
	t.appends = append(t.appends, a)
	if !t.listed {
		t.listed = true
		s.appenders = append(s.appenders, t)
	}
	s.waiting += a.size
	t.waits += a.size
	wake(s.wakeCommits)
}

// topic returns a topic's state, of which there is none while nothing waits for it. The caller holds mu.
func (s *Spool) topic(name string) *topic {
	t := s.topics[name]
	if t == nil {
		t = &topic{name: strings.Clone(name)} // or it would keep the message that it came with
		s.topics[t.name] = t
	}
	return t
}

// Failed is closed when something could not be written: nothing is stored or delivered any more, and the process
// should end. What is stored is there at the next start.
func (s *Spool) Failed() <-chan struct{} { return s.failed }

// Err returns why the spool has failed, or nil.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail ends the spool's life. Pebble may be at any point, and must not be called.
func (s *Spool) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = fmt.Errorf("spool %s has failed; what it has acknowledged is there at the next start: %w", s.config.Dir, err)
	err = s.err
	lost := s.group
	for _, t := range s.appenders {
		lost = append(lost, t.appends...)
		t.appends, t.waits, t.listed = nil, 0, false
	}
	s.group, s.appenders, s.waiting = nil, nil, 0
	close(s.failed)
	s.mu.Unlock()
	s.log.Error(err.Error())
	go func() { // whoever met the error may be wanted by what stored does
		for _, a := range lost {
			a.stored(err)
		}
		s.tell()
	}()
}

// fatal is called by Pebble where it would end the process.
func (s *Spool) fatal(err error) {
	if !s.guard.armed.Load() { // Open returns it, which Pebble does not do where it expects to have ended the process
		s.mu.Lock()
		s.err = errors.Join(s.err, err)
		s.mu.Unlock()
		return
	}
	s.fail(err)
	select {}
}

// closeGrace is how long Close waits beyond its context for a commit under way.
const closeGrace = 2 * time.Second

// Close waits until everything is delivered or ctx is done, and closes the spool: after that a start finds just what
// was not delivered, of which left says how many entries there are. Where Deliver was not called it does not wait.
// Append must not be called any more.
func (s *Spool) Close(ctx context.Context) (left int, err error) {
	s.mu.Lock()
	s.closing = true
	s.hush()
	s.mu.Unlock()
	wake(s.wakeCommits)
	select {
	case <-s.quiet:
	case <-ctx.Done():
	case <-s.failed:
	}
	close(s.stop)
	closed := make(chan error, 1)
	go func() {
		<-s.committed
		s.running.Wait()
		if s.Err() == nil {
			closed <- errors.Join(s.db.Close(), s.lock.Close())
		}
	}()
	late, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(closeGrace, cancel) })()
	select {
	case err = <-closed:
	case <-s.failed:
		err = s.Err()
	case <-late.Done():
		err = fmt.Errorf("spool %s: the disk does not answer; not closed in order", s.config.Dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries, err
}

// hush closes quiet if the spool is closing and nothing is left to do. The caller holds mu.
func (s *Spool) hush() {
	if s.closing && !s.silent && len(s.appenders) == 0 && len(s.group) == 0 && (s.entries == 0 || s.deliver == nil) {
		s.silent = true
		close(s.quiet)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
