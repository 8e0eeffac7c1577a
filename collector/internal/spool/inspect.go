package spool

import (
	"bytes"
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
	index, err := newIndexWalk(db)
	if err != nil {
		return errors.Join(err, it.Close())
	}
	err = func() error {
		for ok := it.First(); ok; ok = it.Next() {
			raw := it.Key()
			if bytes.HasPrefix(raw, []byte{kindIndex}) || bytes.Equal(raw, indexWhole) {
				continue
			}
			value, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			f := examine(raw, value)
			if bytes.HasPrefix(raw, []byte{kindEntry}) {
				if err := index.until(raw, visit); err != nil {
					return err
				}
				index.check(f, raw, len(value))
			}
			if err := visit(f); err != nil {
				return err
			}
		}
		return errors.Join(it.Error(), index.until(nil, visit))
	}()
	return errors.Join(err, it.Close(), index.it.Close())
}

// indexWalk walks through the index beside the entries, which are in the same order.
type indexWalk struct {
	it    *pebble.Iterator
	whole bool // otherwise the next start makes it anew
}

func newIndexWalk(db *pebble.DB) (*indexWalk, error) {
	whole, err := hasIndex(db)
	if err != nil {
		return nil, err
	}
	lower, upper := bounds(kindIndex)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err == nil && whole {
		it.First()
	}
	return &indexWalk{it, whole}, err
}

// until visits what is in the index before an entry, or nil for all that is left, and stands for no entry.
func (w *indexWalk) until(entry []byte, visit func(*Found) error) error {
	for ; w.it.Valid() && (entry == nil || bytes.Compare(w.it.Key()[1:], entry[1:]) < 0); w.it.Next() {
		k, err := parseKey(w.it.Key())
		if err == nil {
			err = fmt.Errorf("%v: in the index, but not there", k)
		}
		f := &Found{Topic: k.topic, ID: uint64(k.id), Stored: k.id.time(), Problems: []error{err}}
		if err := visit(f); err != nil {
			return err
		}
	}
	return w.it.Error()
}

// check adds to the problems of an entry what is wrong with its place in the index, and goes behind that.
func (w *indexWalk) check(f *Found, entry []byte, size int) {
	if !w.whole {
		return
	}
	var err error
	if w.it.Valid() && bytes.Equal(w.it.Key()[1:], entry[1:]) {
		var i indexed
		i, err = parseIndexed(w.it.Value())
		if want := (indexed{f.Uplink, f.Sequence, int64(size)}); err == nil && i != want && len(f.Problems) == 0 {
			err = fmt.Errorf("the index has uplink %x, sequence %d and %d bytes", i.uplink, i.sequence, i.size)
		}
		w.it.Next()
	} else {
		err = errors.New("not in the index")
	}
	if err != nil {
		f.Problems = append(f.Problems, fmt.Errorf("topic %q, entry %d: %w", f.Topic, f.ID, err))
	}
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
