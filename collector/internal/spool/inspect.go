package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/marceloboeira/crowd/collector/record"
)

// Found is what Visit finds under one key: an entry, or a record that was set aside.
type Found struct {
	Topic       string
	ID          uint64    // of two of a topic, that of the newer is larger
	Stored      time.Time // when its commit began, or a little later
	SetAside    bool
	Reason      string // why it was set aside
	Uplink      record.UplinkID
	Sequence    uint64
	Redelivered bool
	Records     []record.Record
	Problems    []error // what is wrong with it: sentences that name topic and entry; the rest is what can be read
}

// Visit reads a spool that nobody uses, all of it, and calls visit for each entry and for each record that was set
// aside, topic by topic, in order of storing. What visit gets is valid until it returns. An error of visit ends it.
// files is the file system; nil is the machine's. Nothing is written but the lock, without which it is an error.
func Visit(dir string, files vfs.FS, log *slog.Logger, visit func(*Found) error) error {
	if files == nil {
		files = vfs.Default
	}
	db, closeDB, err := openReadOnly(dir, files, log)
	if err != nil {
		return err
	}
	err = visitAll(db, visit)
	if err != nil {
		err = fmt.Errorf("spool %s: %w", dir, err)
	}
	return errors.Join(err, closeDB())
}

func visitAll(db *pebble.DB, visit func(*Found) error) error {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	err = func() error {
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			if err := visit(examine(it.Key(), value)); err != nil {
				return err
			}
		}
		return it.Error()
	}()
	return errors.Join(err, it.Close())
}

// examine reads a key and its value as far as that is possible.
func examine(rawKey, value []byte) *Found {
	k, err := parseKey(rawKey)
	if err != nil {
		return &Found{Problems: []error{err}}
	}
	f := &Found{Topic: k.topic, ID: uint64(k.id), Stored: k.id.time(), SetAside: k.kind == kindAside}
	problem := func(err error) { f.Problems = append(f.Problems, fmt.Errorf("%v: %w", k, err)) }
	c, err := parseContent(value)
	if err != nil {
		problem(err)
		return f
	}
	f.Uplink, f.Sequence, f.Redelivered, f.Reason = c.uplink, c.sequence, c.redelivered, c.reason
	for i, raw := range c.records {
		r, err := record.Parse(raw)
		if err != nil {
			problem(fmt.Errorf("record %d: %w", i, err))
			continue
		}
		if r.Topic != k.topic {
			problem(fmt.Errorf("record %d, %s, is for topic %q", i, r.ID, r.Topic))
		}
		f.Records = append(f.Records, r)
	}
	return f
}
