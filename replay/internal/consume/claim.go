package consume

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// errRevoked is why a claim ends alone: the group gives the partition to another member, or sarama can read it no further.
var errRevoked = errors.New("the partition is taken away")

const (
	// lastCommit is how long the last commit of a claim may take. It is less than handover, as others wait for it.
	lastCommit = 15 * time.Second
	// idleLooks is how often a claim that has an end looks whether there is anything left before it.
	idleLooks = time.Second
)

// claim is a partition that this member has.
type claim struct {
	*member
	place     place
	from      sarama.ConsumerGroupClaim
	partition *flow.Partition

	next   atomic.Int64 // the offset up to which has been read; -1 before it begins
	newest atomic.Int64 // the log's end, when last asked
	// stopped is whether it reads no further although there is more of this run.
	stopped atomic.Bool
}

func newClaim(m *member, from sarama.ConsumerGroupClaim) *claim {
	c := &claim{member: m, place: place{from.Topic(), from.Partition()}, from: from}
	c.next.Store(-1)
	return c
}

// held returns a context that ends when this member has the partition no more, with the reason as its cause.
func (c *claim) held(session context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(session)
	go func() {
		// What ends a claim is the end of its messages, which shows only when those that wait have been read: not before the
		// engine wants more. Its errors end at the same time.
		for err := range c.from.(interface {
			Errors() <-chan *sarama.ConsumerError
		}).Errors() {
			c.trouble.warn("trouble with kafka", err)
		}
		cancel(errRevoked)
	}()
	return ctx, func() { cancel(nil) }
}

// run reads the partition for as long as this member has it. It returns when nothing of it is under way any more and what
// is done is committed: then another member may have it.
func (c *claim) run(held context.Context) error {
	ctx, cancel := context.WithCancelCause(held)
	defer cancel(nil)
	defer context.AfterFunc(c.ending, func() { cancel(errEnding) })()
	err := c.open(ctx)
	if ctx.Err() != nil && c.partition == nil {
		return nil // it has ended before it began
	}
	if err != nil {
		return err
	}
	c.read(ctx)
	<-ctx.Done()
	c.close(context.Cause(ctx))
	return nil
}

// open finds out where the partition begins.
func (c *claim) open(ctx context.Context) error {
	var found position
	var oldest, newest int64
	err := c.trouble.insist(ctx, "finding out where "+c.place.String()+" begins", func() error {
		positions, err := c.positions([]place{c.place})
		if err == nil {
			found = positions[c.place]
			oldest, newest, err = c.logRange(c.place)
		}
		return err
	})
	if err != nil {
		return err
	}
	if kept, ok := c.commits.opened(c.place, found); ok {
		if err := c.commits.commit(ctx, c.place, kept); err != nil {
			c.commits.keep(c.place, kept)
			return err
		}
		found = kept
	}
	start := c.from.InitialOffset()
	if start < 0 {
		start = oldest
	}
	if found.offset >= 0 && start > max(found.offset, oldest) && c.config.Since.IsZero() {
		return fmt.Errorf("partition %s was to begin at offset %d, and %d is committed: beginning anew", c.place, start, found.offset)
	}
	if found.offset > newest {
		c.config.Log.Error("a topic has been created anew, or has lost records: beginning with its oldest record", "partition", c.place,
			"committed", found.offset, "end", newest)
		found = position{offset: -1}
	}
	if found.offset >= 0 && found.offset < oldest {
		c.lost.Add(oldest - found.offset)
		c.config.Log.Error("kafka has deleted records that were not done yet (retention)", "partition", c.place,
			"records_at_most", oldest-found.offset, "committed", found.offset, "oldest", oldest)
	}
	if found.offset < 0 && start > oldest { // Since: so that who comes next begins here, too
		if err := c.commits.commit(ctx, c.place, position{offset: start}); err != nil {
			return err
		}
	}
	if found.offset < 0 {
		found = position{offset: start}
	}
	c.partition, err = c.engine.Open(c.place.topic, c.place.partition, found.offset, found.metadata)
	if err != nil {
		c.config.Log.Error("what was committed with an offset cannot be read: what is done behind it is sent again", "partition", c.place,
			"offset", found.offset, "error", err)
	}
	c.next.Store(found.offset)
	c.newest.Store(newest)
	c.passTo(max(start, oldest))
	return nil
}

// passTo says that there is nothing to read before an offset.
func (c *claim) passTo(offset int64) {
	if c.next.Load() < offset {
		c.partition.Skip(offset - 1)
		c.next.Store(offset)
	}
}

// read hands what it reads to the engine, until ctx ends or what it reads does.
func (c *claim) read(ctx context.Context) {
	end, known := int64(-1), c.ends.known()
	var looks <-chan time.Time
	for end < 0 || c.next.Load() < end {
		select {
		case <-ctx.Done():
			return
		case <-known:
			known = nil
			if end = c.ends.of(c.place); end < 0 {
				return // what has come since is none of this run's business
			}
			ticks := time.NewTicker(idleLooks)
			defer ticks.Stop()
			looks = ticks.C
		case m, ok := <-c.from.Messages():
			if !ok {
				return
			}
			if end >= 0 && m.Offset >= end {
				c.passTo(end)
				return
			}
			if c.take(ctx, m) != nil {
				return
			}
		case <-looks:
			if err := c.passNothing(end); err != nil {
				c.trouble.warn("looking for the end of "+c.place.String()+": it is tried again", err)
			}
		}
	}
}

// finished reports whether nothing of what is this run's is left in the partition that can be done.
func (c *claim) finished(end int64) bool {
	if !c.stopped.Load() && c.next.Load() < end {
		return false
	}
	held, hopeless := c.partition.Held()
	if held > 0 && hopeless {
		c.stop()
		return true
	}
	return held == 0
}

// stop says that the claim reads no further: there is too much that stays undone before what is done.
func (c *claim) stop() {
	if !c.stopped.Swap(true) {
		c.config.Log.Warn("this run leaves too many records between those that it sends: some of them stay undone; first have those sent "+
			"that it leaves (of other topics, or that the filter leaves out)", "partition", c.place, "read_up_to", c.next.Load())
	}
}

// take returns an error if ctx ends, or flow.ErrFull.
func (c *claim) take(ctx context.Context, m *sarama.ConsumerMessage) error {
	if m.Offset < c.next.Load() {
		return nil
	}
	switch message, fate := c.message(m); fate {
	case wanted:
		if err := c.partition.Offer(ctx, message); err != nil {
			if errors.Is(err, flow.ErrFull) {
				c.stop()
			}
			return err
		}
	case passed:
		c.partition.Skip(m.Offset)
		c.skipped.Add(1)
	case left:
		if !c.partition.Leave(m.Offset) {
			c.stop()
			return flow.ErrFull
		}
	}
	c.next.Store(m.Offset + 1)
	return nil
}

// close ends what is under way, as far as cause lets it, and commits what is done.
func (c *claim) close(cause error) {
	grace, commits := c.grace(cause)
	ctx, cancel := context.WithTimeout(c.over, grace)
	defer cancel()
	commit := c.partition.Close(ctx)
	if errors.Is(cause, errEnding) && ctx.Err() != nil {
		c.config.Log.Warn("requests of a partition were cut off at the end, and will be sent again: they took longer than drain_timeout",
			"partition", c.place, "drain_timeout", grace)
	}
	state := position{commit.Offset, commit.Metadata}
	if commits > 0 {
		ctx, cancel := context.WithTimeout(c.lasting, commits)
		defer cancel()
		if err := c.commits.commit(ctx, c.place, state); err != nil {
			c.trouble.warn("the last offset of a partition could not be committed", fmt.Errorf("%s: %w", c.place, err))
			if errors.Is(cause, errEnding) {
				c.unfinished.Add(1)
			}
		}
	}
	if c.commits.keep(c.place, state) {
		c.engine.Lost([]flow.Commit{commit}) // whoever has the partition next begins where it was
	} else {
		c.engine.Committed([]flow.Commit{commit})
	}
}

// grace returns how long what is under way may take and then how long the commit may, 0 for none.
func (c *claim) grace(cause error) (underWay, commit time.Duration) {
	switch {
	case errors.Is(cause, errEnding):
		return c.config.DrainTimeout, c.config.DrainTimeout + leaving
	case errors.Is(cause, errRevoked), errors.Is(cause, errTopics), errors.Is(cause, sarama.ErrSessionConsumeClaimExited):
		return c.config.RequestTimeout, lastCommit // nobody has the partition before this returns
	case errors.Is(cause, errLost), errors.Is(cause, sarama.ErrUnknownMemberId), errors.Is(cause, sarama.ErrIllegalGeneration),
		errors.Is(cause, sarama.ErrFencedInstancedId), errors.Is(cause, sarama.ErrRebalanceTimedOut):
		return 0, 0 // others have it already
	}
	// The coordinator cannot be reached. Others get the partition when it has not heard from this member for sessionTimeout,
	// of which heartbeats that failed have taken up some.
	return sessionTimeout / 2, heartbeats
}
