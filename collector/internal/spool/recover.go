package spool

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/marceloboeira/crowd/collector/internal/share"
)

// recover finds out what there is: entries become their topics' backlogs, and records that were set aside become entries
// again.
func (s *Spool) recover() error {
	begun := time.Now()
	if err := s.findEntries(); err != nil {
		return err
	}
	if err := s.scan(kindAside, s.foundAside); err != nil {
		return err
	}
	s.found = s.last
	if s.entries+s.setAside > 0 {
		s.log.Info("spool: found entries of before", "directory", s.config.Dir, "entries", s.entries, "bytes", s.disk.Used(),
			"topics", len(s.topics), "unreadable", s.setAside, "took", time.Since(begun).Round(time.Millisecond))
	}
	return nil
}

// findEntries reads the index, or makes it where it is not whole or cannot be read, which takes reading every entry.
func (s *Spool) findEntries() error {
	whole, err := hasIndex(s.db)
	if err != nil {
		return err
	}
	if whole {
		if err = s.scan(kindIndex, s.foundIndexed); err == nil {
			return nil
		}
		s.log.Error("spool: its index is unreadable and is made again, by reading all entries", "directory", s.config.Dir,
			"error", err)
		s.topics, s.backlogs, s.entries, s.last, s.left = map[string]*topic{}, nil, 0, 0, nil
		s.disk = share.New(s.config.MaxBytes)
	}
	lower, upper := bounds(kindIndex)
	err = errors.Join(s.db.Delete(indexWhole, pebble.NoSync), s.db.DeleteRange(lower, upper, pebble.NoSync))
	if err == nil {
		err = s.scan(kindEntry, s.foundEntry)
	}
	if err == nil {
		err = s.db.Set(indexWhole, nil, pebble.Sync)
	}
	return err
}

// at returns what an iterator stands on; the value is valid until it moves.
func at(it *pebble.Iterator) (key, []byte, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return key{}, nil, err
	}
	k, err := parseKey(it.Key())
	return k, value, err
}

// scanBytes is how much scan changes at a time.
const scanBytes = 4 << 20

// scan calls found for everything of one kind as it was before, and commits what found adds to a batch.
func (s *Spool) scan(kind byte, found func(b *pebble.Batch, k key, value []byte) error) error {
	lower, upper := bounds(kind)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	batch := s.db.NewBatch()
	commit := func() error {
		if batch.Empty() {
			return batch.Close()
		}
		return errors.Join(batch.Commit(pebble.Sync), batch.Close())
	}
	err = func() error {
		for ok := it.First(); ok; ok = it.Next() {
			k, value, err := at(it)
			if err != nil {
				return err
			}
			s.last = max(s.last, k.id)
			if err := found(batch, k, value); err != nil {
				return err
			}
			if batch.Len() >= scanBytes {
				if err := commit(); err != nil {
					return err
				}
				batch = s.db.NewBatch()
			}
		}
		return it.Error()
	}()
	if err != nil {
		return errors.Join(fmt.Errorf("reading: %w", err), it.Close(), batch.Close())
	}
	return errors.Join(it.Close(), commit())
}

// foundEntry puts an entry into the index; one that is unreadable is set aside.
func (s *Spool) foundEntry(b *pebble.Batch, k key, value []byte) error {
	c, err := parseContent(value)
	if err != nil {
		s.log.Error("spool: an entry is unreadable and is set aside", "entry", k.String(), "error", err)
		a := aside{key{kindAside, k.topic, k.id, unreadable}, bytes.Clone(value)}
		return errors.Join(b.Delete(k.append(nil), nil), b.Set(a.key.append(nil), a.value, nil))
	}
	i := indexed{c.uplink, c.sequence, int64(len(value))}
	s.foundAgain(k.topic, k.id, i)
	return setIndexed(b, k.topic, k.id, i)
}

func (s *Spool) foundIndexed(_ *pebble.Batch, k key, value []byte) error {
	i, err := parseIndexed(value)
	if err != nil {
		return fmt.Errorf("%v: %w", k, err)
	}
	s.foundAgain(k.topic, k.id, i)
	return nil
}

func (s *Spool) foundAside(b *pebble.Batch, k key, value []byte) error {
	c, err := parseContent(value)
	if err != nil {
		s.setAside++
		s.disk.Take(k.topic, int64(k.size()+len(value)))
		return nil
	}
	c.reason = ""
	s.last = s.last.after(time.Now())
	s.foundAgain(k.topic, s.last, indexed{c.uplink, c.sequence, int64(c.size())})
	return errors.Join(b.Delete(k.append(nil), nil), setEntry(b, k.topic, s.last, &c))
}

// foundAgain counts an entry.
func (s *Spool) foundAgain(topic string, entry id, i indexed) {
	t := s.topic(topic)
	t.entries++
	s.entries++
	s.disk.Take(t.name, entrySize(topic, i.size))
	s.shelve(t, entry)
	s.left.add(left{entry, i.uplink, i.sequence})
}
