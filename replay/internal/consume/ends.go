package consume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// endsEvery is how often the group is asked whether it has reached the ends.
const endsEvery = 500 * time.Millisecond

// ends are where a run ends: the ends that the partitions' logs had at one moment. Partitions that had nothing to read then
// are none of it, nor are those that come later.
type ends struct {
	set chan struct{} // closed when they are known

	mu      sync.Mutex
	offsets map[place]int64
}

func newEnds() *ends { return &ends{set: make(chan struct{})} }

// known is closed once the ends are known; nil for a run without an end.
func (e *ends) known() <-chan struct{} {
	if e == nil {
		return nil
	}
	return e.set
}

// of returns a partition's end, or -1 if it has none. The ends must be known.
func (e *ends) of(p place) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if end, ok := e.offsets[p]; ok {
		return end
	}
	return -1
}

// all returns the ends.
func (e *ends) all() map[place]int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.offsets)
}

// lower moves a partition's end down: what was before the old one does not exist any more.
func (e *ends) lower(p place, end int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.offsets[p] = end
}

// endsLater reports whether the moment that the ends are of is still to come.
func (c *Consumer) endsLater() bool {
	return !c.config.FromDeadLetter && time.Until(c.config.Until) > 0
}

// setEnds fails only if ctx ends.
func (m *member) setEnds(ctx context.Context) error {
	var found map[place]int64
	err := m.trouble.insist(ctx, "finding out where the run ends", func() (err error) {
		found, err = m.findEnds()
		return err
	})
	if err == nil {
		m.ends.mu.Lock()
		m.ends.offsets = found
		m.ends.mu.Unlock()
		close(m.ends.set)
	}
	return err
}

// awaitEnds returns nil when the group has committed up to the ends, whichever of its members did, or ctx's error.
func (m *member) awaitEnds(ctx context.Context) error {
	select {
	case <-m.ends.known():
	default:
		if err := sleep(ctx, time.Until(m.config.Until)); err != nil {
			return err
		}
		if err := m.setEnds(ctx); err != nil {
			return err
		}
	}
	for {
		var reached atomic.Bool
		err := m.trouble.insist(ctx, "finding out whether all is done", func() error {
			all, err := m.reached()
			reached.Store(all)
			return err
		})
		if err != nil || reached.Load() {
			return err
		}
		if err := sleep(ctx, endsEvery); err != nil {
			return err
		}
	}
}

func (c *Consumer) findEnds() (map[place]int64, error) {
	if err := c.client.RefreshMetadata(c.topics...); err != nil { // there may be partitions that the client does not know of
		return nil, fmt.Errorf("asking for the partitions of %q: %w", c.topics, err)
	}
	places, err := c.places()
	if err != nil {
		return nil, err
	}
	found := map[place]int64{}
	for _, p := range places {
		oldest, newest, err := c.logRange(p)
		if err != nil {
			return nil, err
		}
		if newest > oldest {
			found[p] = newest
		}
	}
	return found, nil
}

// reached reports whether the group has committed up to all ends. A member's own partitions may also have ended with
// records that stay undone.
//
// Of another member's it knows only where the first one is that is later than until. What is before that, though behind it
// in the log, and what is left of dead letters, that member alone knows: if it is killed, that stays undone as well.
func (m *member) reached() (bool, error) {
	all := m.ends.all()
	if len(all) == 0 {
		return true, nil
	}
	positions, err := m.positions(slices.Collect(maps.Keys(all)))
	if err != nil {
		return false, err
	}
	own := map[place]*claim{}
	for _, c := range m.claimed() {
		own[c.place] = c
	}
	for p, end := range all {
		if positions[p].offset >= end {
			continue
		}
		var reached bool
		if c := own[p]; c != nil {
			reached = c.finished(end)
		} else if m.config.FromDeadLetter {
			reached = len(own) > 0 && len(own) == m.commits.assigned()
		} else {
			reached, err = m.reachedUntil(p, positions[p].offset)
		}
		if err != nil || !reached {
			return false, err
		}
	}
	return true, nil
}

// reachedUntil reports whether the first record that is not done is later than until.
func (m *member) reachedUntil(p place, offset int64) (bool, error) {
	first, err := m.client.GetOffset(p.topic, p.partition, m.config.Until.UnixMilli())
	if err != nil {
		return false, fmt.Errorf("asking %s for the offset at %s: %w", p, m.config.Until, err)
	}
	return first >= 0 && offset >= first, nil // below: there is none
}

// lowerEnds looks whether topics have been deleted or created anew, so that their ends will never be reached.
func (m *member) lowerEnds() {
	if m.ends == nil {
		return
	}
	for p, end := range m.ends.all() {
		newest, err := m.client.GetOffset(p.topic, p.partition, sarama.OffsetNewest)
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			newest, err = -1, nil // what a group has that has committed nothing
		}
		if err == nil && newest < end {
			m.config.Log.Error("a topic has been deleted or created anew: the run ends before it was to", "partition", p, "end", end,
				"new_end", newest)
			m.ends.lower(p, newest)
		}
	}
}

// passNothing says that there is nothing left to read before the end, if that is so: transactions end in records that are
// never read, those of aborted ones are not either, and others are compacted away.
func (c *claim) passNothing(end int64) error {
	from := c.next.Load()
	nothing, err := c.nothingIn(c.place, from, end)
	if err == nil && nothing {
		c.passTo(end)
	}
	return err
}

// nothingIn reports whether a partition has no record that is read from one offset on and before another.
func (c *Consumer) nothingIn(p place, from, end int64) (bool, error) {
	for from < end {
		leader, err := c.client.Leader(p.topic, p.partition)
		if err != nil {
			return false, fmt.Errorf("looking for the leader of %s: %w", p, err)
		}
		request := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: fetchBytes, Isolation: sarama.ReadCommitted}
		request.AddBlock(p.topic, p.partition, from, fetchBytes, -1)
		answer, err := leader.Fetch(request)
		if err != nil {
			_ = leader.Close()
			return false, fmt.Errorf("fetching from %s: %w", p, err)
		}
		block := answer.GetBlock(p.topic, p.partition)
		if block == nil {
			return false, fmt.Errorf("fetching from %s: %w", p, sarama.ErrIncompleteResponse)
		}
		if block.Err != sarama.ErrNoError {
			return false, fmt.Errorf("fetching from %s: %w", p, block.Err)
		}
		some, at := records(block, from, end)
		if some || at == from {
			return false, nil
		}
		from = at
	}
	return true, nil
}

// records reports whether an answer has a record that is read from one offset on and before another, and where the answer
// ends: from, if there is nothing in it.
func records(block *sarama.FetchResponseBlock, from, end int64) (some bool, at int64) {
	at = from
	begun := map[*sarama.AbortedTransaction]bool{}
	aborted := map[int64]bool{} // producers that are in a transaction that is aborted
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil {
			return true, at // of an old format, which knows of nothing but records
		}
		at = max(at, batch.LastOffset()+1)
		for _, t := range block.AbortedTransactions {
			if !begun[t] && t.FirstOffset <= batch.LastOffset() {
				begun[t], aborted[t.ProducerID] = true, true
			}
		}
		if batch.Control { // it ends its producer's transaction
			delete(aborted, batch.ProducerID)
			continue
		}
		if batch.IsTransactional && aborted[batch.ProducerID] {
			continue
		}
		for _, r := range batch.Records {
			if offset := batch.FirstOffset + r.OffsetDelta; offset >= from && offset < end {
				return true, at
			}
		}
	}
	return false, at
}
