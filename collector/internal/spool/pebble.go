package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/marceloboeira/crowd/collector/internal/throttle"
)

// format is Pebble's format of files. Since FormatWALSyncChunks a log that is damaged before its end is told from one
// that was being written when the process died; before, it would have counted as ended there.
const format = pebble.FormatTableFormatV6

const (
	// memtables is how many of them may wait to be written as tables before commits wait for that.
	memtables = 3
	// logs is how many memtables' worth of logs there may be: one for each memtable, and as many and one that wait to
	// be used again.
	logs = 2*memtables + 1
	// reclaimDelay is how long after a deletion its memtable is written at the latest, so that the space of what is
	// gone is given back though nothing comes any more.
	reclaimDelay = 10 * time.Second
	// cacheBytes is for what finds blocks; the blocks themselves are read once.
	cacheBytes = 1 << 20
	// fullPause is how long a write waits for space before it is tried once more.
	fullPause = 100 * time.Millisecond
)

// memtableSize returns the size of a memtable, in bytes, for a spool of maxBytes on a disk of so many. Most entries are
// delivered before their memtable is full, and never written but to the log.
func memtableSize(maxBytes, disk int64) int64 { return min(max(min(maxBytes, disk)/32, 1<<20), 64<<20) }

// options returns how the database is opened for writing.
func (s *Spool) options(lock *pebble.Lock) *pebble.Options {
	o := &pebble.Options{
		FS:                          s.guard,
		Lock:                        lock,
		FormatMajorVersion:          format,
		CacheSize:                   cacheBytes,
		MemTableSize:                uint64(s.memtable),
		MemTableStopWritesThreshold: memtables,
		FlushDelayDeleteRange:       reclaimDelay,
		Logger:                      &logger{log: s.log, fatal: s.fatal},
		EventListener:               events(s.trouble),
	}
	// No table has both entries and a part of the index: it would lie across all entries that come later, and be rewritten
	// with them, where tables of a topic's entries follow each other.
	lower, upper := bounds(kindIndex)
	o.Experimental.SpanPolicyFunc = pebble.MakeStaticSpanPolicyFunc(bytes.Compare,
		pebble.KeyRange{Start: lower, End: upper}, pebble.SpanPolicy{})
	return o
}

// lockDir keeps other processes off the spool.
func lockDir(dir string, fs vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	if err != nil {
		return nil, fmt.Errorf("spool %s: cannot be locked, as when another process such as a running collector uses it: %w",
			dir, err)
	}
	return lock, nil
}

// openReadOnly opens a spool that nobody uses without writing to it, but for its lock. close closes it.
func openReadOnly(dir string, files vfs.FS, log *slog.Logger) (db *pebble.DB, close func() error, err error) {
	there, err := pebble.Peek(dir, files)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !there.Exists {
		return nil, nil, fmt.Errorf("there is no spool in %s", dir)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("spool %s: %w", dir, err)
	}
	lock, err := lockDir(dir, files)
	if err != nil {
		return nil, nil, err
	}
	quiet := &logger{log: log}
	listener := events(throttle.New(log))
	db, err = pebble.Open(dir, &pebble.Options{
		FS: files, Lock: lock, ReadOnly: true, ErrorIfNotExists: true, Logger: quiet, EventListener: listener,
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("spool %s: %w", dir, err), lock.Close())
	}
	return db, func() error { return errors.Join(db.Close(), lock.Close()) }, nil
}

// logger is Pebble's.
type logger struct {
	log   *slog.Logger
	fatal func(error) // returns only while the database is being opened
}

func (l *logger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

func (l *logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble: "+format, args...)
	l.log.Error(err.Error())
	if l.fatal != nil {
		l.fatal(err)
	}
}

// events logs those of Pebble that mean trouble.
func events(trouble *throttle.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			trouble.Warn("spool: a table could not be written; tried again", "error", err)
		},
		DataCorruption: func(c pebble.DataCorruptionInfo) {
			trouble.Warn("spool: damaged file", "path", c.Path, "error", c.Details)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			trouble.Warn("spool: commits wait for tables to be written", "reason", i.Reason)
		},
	}
}
