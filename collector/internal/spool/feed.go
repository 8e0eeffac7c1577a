package spool

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// turn is how many bytes of a topic's backlog are read, at the least, before it is another topic's turn.
const turn = 1 << 20

// ready is an entry to be delivered straight from memory.
type ready struct {
	*flying
	entry Entry
}

// feedAll is the feeder's goroutine.
func (s *Spool) feedAll() {
	for {
		s.mu.Lock()
		fresh := s.ready
		s.ready = nil
		t := s.nextBacklog()
		s.mu.Unlock()
		for _, r := range fresh {
			s.hand(r.flying, &r.entry)
		}
		if t != nil {
			s.load(t)
		}
		if t != nil || len(fresh) > 0 {
			select {
			case <-s.failed:
				return
			case <-s.stop:
				return
			default:
				continue
			}
		}
		select {
		case <-s.wakeFeeds:
		case <-s.failed:
			return
		case <-s.stop:
			return
		}
	}
}

// fitsMemory says whether an entry may be in memory. One of a topic that has nothing there may be on top of what all
// others share, if no other is: it may be larger than what they leave. The caller holds mu.
func (s *Spool) fitsMemory(t *topic, size int64) bool {
	return s.memory.Fits(t.name, size) || !s.overdrawn && s.memory.Held(t.name) == 0
}

// fly takes an entry of a topic into memory, which must be newer than all that is there of it; it returns nil if there
// is no room. The caller holds mu.
func (s *Spool) fly(t *topic, entry id, size int64) *flying {
	if !s.fitsMemory(t, size) {
		return nil
	}
	f := t.fly(entry, size)
	if f.overdraws = !s.memory.Fits(t.name, size); f.overdraws {
		s.overdrawn = true
	} else {
		s.memory.Take(t.name, size)
	}
	return f
}

// nextBacklog returns the topic whose turn it is, if one has room in memory, and puts it last. The caller holds mu.
func (s *Spool) nextBacklog() *topic {
	for i, t := range s.backlogs {
		if !t.paused && s.fitsMemory(t, t.need) {
			s.backlogs = append(slices.Delete(s.backlogs, i, i+1), t)
			return t
		}
	}
	return nil
}

// load reads the oldest of a topic's backlog and has it delivered, until memory is full or it is another's turn.
func (s *Spool) load(t *topic) {
	s.mu.Lock()
	lower := key{kind: kindEntry, topic: t.name, id: t.next}.append(nil)
	backlog := t.backlog // of what the iterator sees: commits are visible before they count
	s.mu.Unlock()
	upper := key{kind: kindEntry, topic: t.name, id: ^id(0)}.append(nil)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err == nil {
		err = s.loadFrom(t, it, backlog)
		err = errors.Join(err, it.Close())
	}
	if err != nil {
		s.mu.Lock()
		t.paused = true
		s.mu.Unlock()
		s.trouble.Warn("spool: a topic's entries cannot be read; tried again", "topic", t.name, "error", err)
	}
}

// loadFrom loads at most so many of the entries that the iterator sees.
func (s *Spool) loadFrom(t *topic, it *pebble.Iterator, backlog int) error {
	read := int64(0)
	for ok := it.First(); backlog > 0 && read < turn; ok = it.Next() {
		if !ok {
			if err := it.Error(); err != nil {
				return err
			}
			// The next start finds out what is there.
			err := s.db.Delete(indexWhole, pebble.Sync)
			s.fail(errors.Join(fmt.Errorf("entries of topic %q are not there any more", t.name), err))
			return nil
		}
		k, value, err := at(it)
		if err != nil {
			return err
		}
		size := entrySize(k.topic, int64(len(value)))
		f := s.board(t, k.id, size)
		if f == nil {
			return nil
		}
		read += size
		backlog--
		s.handValue(f, k, bytes.Clone(value))
	}
	return nil
}

// board moves the oldest entry of a topic's backlog to its flight; it returns nil if memory has no room.
func (s *Spool) board(t *topic, entry id, size int64) *flying {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.fly(t, entry, size)
	if f == nil {
		t.need = size
		return nil
	}
	t.backlog--
	t.next, t.need = entry+1, 0
	if t.backlog == 0 {
		s.backlogs = slices.DeleteFunc(s.backlogs, func(other *topic) bool { return other == t })
	}
	return f
}

// handValue delivers an entry that has been read; one that is unreadable is set aside.
func (s *Spool) handValue(f *flying, k key, value []byte) {
	c, err := parseContent(value)
	if err != nil {
		s.log.Error("spool: an entry is unreadable and is set aside", "entry", k.String(), "error", err)
		s.finish(f, []aside{{key{kindAside, k.topic, k.id, unreadable}, value}})
		return
	}
	s.hand(f, &Entry{
		Uplink: c.uplink, Sequence: c.sequence, Redelivered: c.redelivered || k.id <= s.found, Topic: k.topic,
		Records: c.records,
	})
}

// hand delivers an entry.
func (s *Spool) hand(f *flying, e *Entry) {
	s.deliver(e, func(undeliverable []Undeliverable) {
		var asides []aside
		for _, u := range undeliverable {
			s.trouble.Warn("spool: a record that nothing takes is set aside", "topic", e.Topic, "reason", u.Reason)
			c := content{
				uplink: e.Uplink, sequence: e.Sequence, redelivered: e.Redelivered, reason: u.Reason,
				records: [][]byte{e.Records[u.Index]},
			}
			asides = append(asides, aside{key{kindAside, e.Topic, f.id, uint32(u.Index)}, c.append(nil)})
		}
		s.finish(f, asides)
	})
}

// finish has an entry deleted, and what is left of it set aside in the same commit.
func (s *Spool) finish(f *flying, asides []aside) {
	s.mu.Lock()
	if f.done {
		panic("BUG: an entry is done twice")
	}
	f.done, f.aside = true, asides
	t := f.topic
	if f.overdraws {
		s.overdrawn = false
	} else {
		s.memory.Release(t.name, f.size)
	}
	if len(t.done) == 0 {
		if len(s.landed) == 0 {
			s.landedAt = time.Now()
		}
		s.landed = append(s.landed, t)
	}
	t.done = append(t.done, f)
	backlog := len(s.backlogs) > 0
	s.mu.Unlock()
	wake(s.wakeCommits)
	if backlog {
		wake(s.wakeFeeds)
	}
}
