package consume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

const (
	// commitEvery is how often what is done is committed.
	commitEvery = 200 * time.Millisecond
	// triesKnown bounds what is remembered of commits of a partition that have had no answer.
	triesKnown = 16
)

var (
	errNoSession = errors.New("this process is not a member of the group now")
	// errLost is why a session ends whose member the coordinator does not know any more: others have its partitions.
	errLost = errors.New("the group's coordinator does not know this member any more")
)

// committer commits, for one member, on connections of its own: on the group's, a commit would wait behind a JoinGroup,
// which waits for all members.
//
// One request is under way at a time, and what it holds is taken under the same lock, so that no earlier state of a
// partition is committed after a later one.
type committer struct {
	*Consumer

	mu      sync.Mutex
	session sarama.ConsumerGroupSession // nil: none
	lose    context.CancelCauseFunc     // ends the session
	known   map[place][]position        // what was committed last, and behind it what has been tried since without an answer
	kept    map[place]position          // what could not be committed at the end of a claim
}

func newCommitter(c *Consumer) *committer {
	return &committer{Consumer: c, known: map[place][]position{}, kept: map[place]position{}}
}

// begin says that there is a session; nil: there is none any more.
func (k *committer) begin(s sarama.ConsumerGroupSession, lose context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session, k.lose = s, lose
}

// lost ends the session as one whose partitions others have.
func (k *committer) lost() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lose != nil {
		k.lose(errLost)
	}
}

// generation returns the group's, 0 where there is no session.
func (k *committer) generation() int32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session == nil {
		return 0
	}
	return k.session.GenerationID()
}

// assigned returns how many partitions the session has.
func (k *committer) assigned() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session != nil {
		for _, partitions := range k.session.Claims() {
			n += len(partitions)
		}
	}
	return n
}

// run commits what is done until ctx ends.
func (k *committer) run(ctx context.Context, e *flow.Engine) {
	ticks := time.NewTicker(commitEvery)
	defer ticks.Stop()
	wanted := e.CommitWanted()
	var failing time.Time // since when; zero: not
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		case <-wanted:
		}
		err := k.commitDone(e)
		if err == nil {
			wanted, failing = e.CommitWanted(), time.Time{}
			continue
		}
		wanted = nil // not before the next tick
		if failing.IsZero() {
			failing = time.Now()
		}
		if !errors.Is(err, errNoSession) && (!isRebalance(err) || time.Since(failing) > lastCommit) {
			k.trouble.warn("offsets could not be committed: it is tried again", err)
		}
	}
}

func (k *committer) commitDone(e *flow.Engine) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	commits := e.Uncommitted()
	if len(commits) == 0 {
		return nil
	}
	states := make(map[place]position, len(commits))
	for _, c := range commits {
		states[placeOfCommit(c)] = position{c.Offset, c.Metadata}
	}
	committed, err := k.send(states)
	done := commits[:0]
	for _, c := range commits {
		if committed[placeOfCommit(c)] {
			done = append(done, c)
		}
	}
	e.Committed(done)
	return err
}

// isRebalance reports whether a commit failed because the group was changing at that moment, which passes.
func isRebalance(err error) bool {
	return errors.Is(err, sarama.ErrIllegalGeneration) || errors.Is(err, sarama.ErrRebalanceInProgress)
}

func placeOfCommit(c flow.Commit) place { return place{c.Topic, c.Partition} }

// commit commits the last state of one partition; it does so as soon as it can, and returns an error if ctx ends or the
// session is lost first.
func (k *committer) commit(ctx context.Context, p place, state position) error {
	for {
		result := make(chan error, 1)
		go func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.isCommitted(p, state) || ctx.Err() != nil { // the latter: who waited may have the partition anew by now
				result <- context.Cause(ctx)
				return
			}
			_, err := k.send(map[place]position{p: state})
			result <- err
		}()
		select {
		case err := <-result:
			if err == nil || errors.Is(err, errNoSession) || errors.Is(err, sarama.ErrUnknownMemberId) ||
				errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				return err
			}
			if !isRebalance(err) {
				k.trouble.warn("offsets could not be committed: it is tried again", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("committing the offset of %s: %w", p, context.Cause(ctx))
		}
		if err := sleep(ctx, commitEvery); err != nil {
			return fmt.Errorf("committing the offset of %s: %w", p, err)
		}
	}
}

// send returns which of the states are committed. mu is held.
func (k *committer) send(states map[place]position) (map[place]bool, error) {
	if k.session == nil {
		return nil, errNoSession
	}
	request := sarama.NewOffsetCommitRequest(k.client.Config(), k.group)
	request.ConsumerID, request.ConsumerGroupGeneration = k.session.MemberID(), k.session.GenerationID()
	for p, s := range states {
		request.AddBlockWithLeaderEpoch(p.topic, p.partition, s.offset, -1, 0, s.metadata)
		k.try(p, s)
	}
	var answer *sarama.OffsetCommitResponse
	err := k.atCoordinator(func(coordinator *sarama.Broker) (err error) {
		answer, err = coordinator.CommitOffset(request)
		return err
	})
	if err != nil {
		return nil, err
	}
	committed := make(map[place]bool, len(states))
	failed := map[sarama.KError]place{}
	bare := map[place]position{}
	for p, s := range states {
		result, ok := answer.Errors[p.topic][p.partition]
		switch {
		case !ok:
			failed[sarama.ErrUnknown] = p
		case result == sarama.ErrNoError:
			committed[p] = true
			k.known[p] = []position{s}
		case result == sarama.ErrOffsetMetadataTooLarge && s.metadata != "":
			bare[p] = position{offset: s.offset}
		default:
			failed[result] = p
		}
	}
	var errs []error
	for result, p := range failed { // most errors are all partitions' alike
		errs = append(errs, fmt.Errorf("%s: %w", p, result))
		k.coordinatorFailed(result)
		if result == sarama.ErrUnknownMemberId {
			k.lose(errLost)
		}
	}
	if len(bare) > 0 {
		k.trouble.warn("the brokers' offset.metadata.max.bytes is below its default of 4096: offsets are committed without what is "+
			"done behind them, which a crash would repeat", sarama.ErrOffsetMetadataTooLarge)
		also, err := k.send(bare)
		maps.Copy(committed, also)
		errs = append(errs, err)
	}
	return committed, errors.Join(errs...)
}

// keep remembers the last state of a partition if it could not be committed, for the case that the partition comes back
// before anybody else has committed anything: then nothing of it is sent again.
func (k *committer) keep(p place, state position) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.isCommitted(p, state) {
		return false
	}
	k.kept[p] = state
	return true
}

// opened says what was found committed for a partition, and returns what is kept of it.
func (k *committer) opened(p place, found position) (kept position, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, ok = k.kept[p]
	delete(k.kept, p)
	ok = ok && slices.Contains(k.known[p], found)
	k.known[p] = []position{found}
	return kept, ok
}

// isCommitted reports whether a state is known to be what was committed last. mu is held.
func (k *committer) isCommitted(p place, state position) bool {
	return len(k.known[p]) == 1 && k.known[p][0] == state
}

// try notes that a state may be committed from now on. mu is held.
func (k *committer) try(p place, state position) {
	known := k.known[p]
	if len(known) == 0 || known[len(known)-1] != state {
		k.known[p] = append(known[:min(len(known), triesKnown)], state)
	}
}
