package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// idleDelay is how long deletions wait for a commit to ride along with.
const idleDelay = 100 * time.Millisecond

// appending is an entry on its way to the disk.
type appending struct {
	entry  Entry
	stored func(error)
	size   int64 // on the disk

	topic *topic
	id    id
}

// content returns what of the entry goes into its value.
func (e *Entry) content() *content {
	return &content{uplink: e.Uplink, sequence: e.Sequence, redelivered: e.Redelivered, records: e.Records}
}

// commit is what goes to the disk at once.
type commit struct {
	appends []*appending
	runs    []run
	sync    bool
}

// commitAll is the committer's goroutine.
func (s *Spool) commitAll() {
	defer close(s.committed)
	for {
		c, more := s.gather()
		if c != nil && !s.commit(c) || !more {
			return
		}
	}
}

// gather waits for something to commit. more is false when the spool ends, with what must be committed before it does.
func (s *Spool) gather() (c *commit, more bool) {
	for {
		s.mu.Lock()
		appends := s.pick()
		idle := len(appends) == 0 && len(s.appenders) == 0 && !s.closing
		wait := time.Until(s.landedAt.Add(idleDelay))
		if len(appends) > 0 || len(s.landed) > 0 && (!idle || wait <= 0) {
			c = s.prepare(appends)
			s.mu.Unlock()
			return c, true
		}
		var due <-chan time.Time
		if len(s.landed) > 0 {
			due = time.After(wait)
		}
		s.mu.Unlock()
		select {
		case <-s.wakeCommits:
		case <-due:
		case <-s.failed:
			return nil, false
		case <-s.stop:
			s.mu.Lock()
			defer s.mu.Unlock()
			c = s.prepare(nil)
			c.sync = len(c.runs) > 0
			return c, false
		}
	}
}

// pick takes the appends for the next commit, one of each topic in turn: all that there is room for, or as many as
// leave Pebble's memtable in one piece. It takes their room on the disk. One that is larger than what others leave there
// waits, unlike in memory: a disk cannot be overdrawn. The caller holds mu.
func (s *Spool) pick() (picked []*appending) {
	var bytes int64
	for more := true; more; {
		more = false
		for _, t := range s.appenders {
			if len(t.appends) == 0 || !s.disk.Fits(t.name, t.appends[0].size) {
				continue
			}
			a := t.appends[0]
			if bytes > 0 && bytes+a.size > s.memtable/4 {
				more = false
				break
			}
			t.appends[0] = nil
			t.appends = t.appends[1:]
			s.last = s.last.after(time.Now())
			a.id, a.topic = s.last, t
			picked = append(picked, a)
			bytes += a.size
			s.waiting -= a.size
			t.waits -= a.size
			s.take(t.name, a.size)
			more = true
		}
	}
	if len(picked) > 0 {
		s.rotate()
	}
	return picked
}

// rotate has another topic come first, and drops those of which nothing waits. The caller holds mu.
func (s *Spool) rotate() {
	first := s.appenders[0]
	waiting := s.appenders[:0]
	for _, t := range s.appenders[1:] {
		if t.listed = len(t.appends) > 0; t.listed {
			waiting = append(waiting, t)
		}
	}
	if first.listed = len(first.appends) > 0; first.listed {
		waiting = append(waiting, first)
	}
	clear(s.appenders[len(waiting):])
	s.appenders = waiting
}

// prepare makes a commit of appends and of what is done. The caller holds mu.
func (s *Spool) prepare(appends []*appending) *commit {
	c := &commit{appends: appends, sync: len(appends) > 0}
	for _, t := range s.landed {
		for _, r := range t.land() {
			c.sync = c.sync || len(r.aside) > 0
			c.runs = append(c.runs, r)
		}
	}
	s.landed = nil
	s.group = appends
	return c
}

// commit writes c and tells what came of it. It returns false when the spool has failed; or never, where the disk
// does: see guard.
func (s *Spool) commit(c *commit) bool {
	batch := s.db.NewBatch()
	begun := time.Now()
	err := errors.Join(c.write(batch), s.db.Apply(batch, &pebble.WriteOptions{Sync: c.sync}), batch.Close())
	if err != nil {
		s.fail(fmt.Errorf("committing: %w", err))
		return false
	}
	if !s.settle(c) {
		return false
	}
	if c.sync {
		s.metrics.commit(c, time.Since(begun))
	}
	for _, a := range c.appends {
		a.stored(nil)
	}
	s.enqueue(c.appends)
	s.tell()
	return true
}

// write puts c into a batch.
func (c *commit) write(b *pebble.Batch) error {
	var err error
	for _, r := range c.runs {
		err = errors.Join(err, deleteEntries(b, r.topic.name, r.first, r.last))
		for _, a := range r.aside {
			err = errors.Join(err, b.Set(a.key.append(nil), a.value, nil))
		}
	}
	for _, a := range c.appends {
		err = errors.Join(err, setEntry(b, a.entry.Topic, a.id, a.entry.content()))
	}
	return err
}

// settle counts what has been committed. It returns false when the spool failed meanwhile, so that everybody has been
// told that it is in doubt.
func (s *Spool) settle(c *commit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.group = nil
	for _, a := range c.appends { // before a topic of theirs is forgotten
		a.topic.entries++
		s.entries++
	}
	for _, r := range c.runs {
		r.topic.entries -= r.entries
		s.entries -= r.entries
		s.disk.Release(r.topic.name, r.bytes)
		for _, a := range r.aside {
			s.take(r.topic.name, a.size())
			s.setAside++
		}
		s.forget(r.topic)
	}
	s.limit()
	s.hush()
	return true
}

// forget drops a topic for which nothing waits. The caller holds mu.
func (s *Spool) forget(t *topic) {
	if t.entries == 0 && len(t.appends) == 0 && !t.listed {
		delete(s.topics, t.name)
	}
}

// enqueue has entries delivered that have been stored.
func (s *Spool) enqueue(appends []*appending) {
	if len(appends) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range appends {
		t := a.topic
		if s.deliver != nil && t.backlog == 0 {
			if f := s.fly(t, a.id, a.size); f != nil {
				s.ready = append(s.ready, &ready{f, a.entry})
				continue
			}
		}
		s.shelve(t, a.id)
	}
	wake(s.wakeFeeds)
}

// shelve adds an entry to its topic's backlog. The caller holds mu.
func (s *Spool) shelve(t *topic, entry id) {
	if t.backlog == 0 {
		t.next, t.need = entry, 0
		s.backlogs = append(s.backlogs, t)
	}
	t.backlog++
}

func (a aside) size() int64 { return int64(a.key.size() + len(a.value)) }
