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

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// Why a session ends, beside what sarama says and errLost.
var (
	errEnding = errors.New("this process ends")
	errTopics = errors.New("a topic that was missing is there")
)

const (
	// lookEvery is how often what changes rarely is looked at: shares, and topics that are missing.
	lookEvery = time.Second
	// lease is for how long a member that is stopped may send: less than until the coordinator gives its
	// partitions to others, which it does sessionTimeout after the last heartbeat.
	lease = sessionTimeout - 2*heartbeats
	// lagEvery is how often Kafka is asked how far partitions reach.
	lagEvery = 15 * time.Second
	// leaving is how long the end may take beyond DrainTimeout, for the last commits and for leaving the group.
	leaving = 3 * time.Second
	// settled is how long a session has to last for the next one to be begun without a pause.
	settled = 10 * time.Second
)

// member is this process in the group, for one Run.
type member struct {
	*Consumer
	engine  *flow.Engine
	commits *committer
	ends    *ends // nil: there is none

	ending     context.Context         // ends when nothing more is to be read
	over       context.Context         // ends when nothing may be under way any more
	lasting    context.Context         // ends when the group is to be left
	end        context.CancelCauseFunc // ends the session; of the goroutine that joins
	joined     atomic.Bool
	all        atomic.Int64 // partitions of the topics
	unfinished atomic.Int64 // partitions whose last state could not be committed at the end of all

	mu     sync.Mutex
	claims map[place]*claim // that are not closed
	closed chan struct{}    // has a value when one has been
}

// Run hands messages to the engine and commits what is done, until ctx ends or, where the run has an end, all is done. Then
// it gives what is under way DrainTimeout, commits, and leaves the group. Trouble with Kafka is logged and waited out.
//
// It returns an error if there is no dead-letter topic, or if it is not known that all that is done has been committed, so
// that some of it will be sent again. That ctx ends is none.
func (c *Consumer) Run(ctx context.Context, e *flow.Engine) error {
	var err error
	if c.letters, err = newLetters(ctx, c.config, c.settings.letters, c.trouble); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it has ended before it began
		}
		return err
	}
	client, err := sarama.NewClient(c.config.Kafka.Brokers, c.settings.membership)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	group, err := sarama.NewConsumerGroupFromClient(c.group, client)
	if err != nil {
		_ = client.Close()
		return fmt.Errorf("kafka: %w", err)
	}
	background := context.WithoutCancel(ctx)
	ending, end := context.WithCancel(background)
	defer end()
	over, giveUp := context.WithCancel(background)
	defer giveUp()
	lasting, leave := context.WithCancelCause(background)
	defer leave(nil)
	working, rest := context.WithCancel(background) // for as long as there may be something to commit
	defer rest()
	m := &member{Consumer: c, engine: e, commits: newCommitter(c), ending: ending, over: over, lasting: lasting,
		claims: map[place]*claim{}, closed: make(chan struct{}, 1)}
	if c.bounded() {
		m.ends = newEnds()
	}
	c.member.Store(m)

	var work, sessions sync.WaitGroup
	work.Go(func() {
		for err := range group.Errors() {
			c.trouble.warn("trouble with kafka", err)
		}
	})
	work.Go(func() { m.commits.run(working, e) })
	work.Go(func() { m.look(working) })
	work.Go(func() { m.renew(working) })
	allDone := make(chan struct{})
	sessions.Go(func() {
		if m.ends != nil {
			if !m.endsLater() && m.setEnds(ending) != nil { // before anything is read that comes later
				return
			}
			work.Go(func() {
				if m.awaitEnds(ending) == nil {
					close(allDone)
				}
			})
		}
		m.join(group, client)
	})
	select {
	case <-ctx.Done():
	case <-allDone:
	}
	end()
	drain := time.AfterFunc(c.config.DrainTimeout, giveUp)
	defer drain.Stop()
	left := make(chan struct{})
	go func() {
		// The session goes on until all is committed. One that ends while the group changes may not know its generation any
		// more, and then nothing can be committed in it.
		m.awaitClosed(c.config.DrainTimeout + leaving/2)
		leave(errEnding)
		sessions.Wait()
		rest()
		if err := group.Close(); err != nil {
			c.trouble.warn("trouble with kafka when leaving the group", err)
		}
		_ = client.Close()
		work.Wait()
		close(left)
	}()
	select {
	case <-left:
	case <-time.After(c.config.DrainTimeout + leaving):
		rest() // sarama goes on in the background, and waits for brokers that do not answer
		return errors.New("leaving the group: kafka does not answer; what could not be committed will be sent again")
	}
	if n := m.unfinished.Load(); n > 0 {
		return fmt.Errorf("the last offsets of %d partitions could not be committed: what was sent last of them will be sent again", n)
	}
	return nil
}

// awaitClosed waits until there is no claim any more, but not for longer than it may.
func (m *member) awaitClosed(longest time.Duration) {
	timeout := time.After(longest)
	for len(m.claimed()) > 0 {
		select {
		case <-m.closed:
		case <-timeout:
			return
		}
	}
}

// join takes part in the group until the end.
func (m *member) join(group sarama.ConsumerGroup, client sarama.Client) {
	for failures := 1; m.ending.Err() == nil; failures++ {
		begun := time.Now()
		err := m.session(m.lasting, group)
		if m.ending.Err() != nil {
			return
		}
		if err != nil {
			m.trouble.warn("the group cannot be joined, or was left: joining", err)
		}
		if time.Since(begun) > settled {
			failures = 1
		}
		if sleep(m.ending, backoff(failures)) == nil {
			_ = client.RefreshCoordinator(m.group) // sarama does not look for another one where the one it knows is gone
		}
	}
}

// session is a member of the group for as long as that goes well.
func (m *member) session(ctx context.Context, group sarama.ConsumerGroup) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	m.end = end
	topics, missing, err := m.existing()
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		m.trouble.warn("topics are missing, or not to be read by this user: waiting for them", fmt.Errorf("%q", missing))
		go m.awaitTopics(ctx, missing, end)
	}
	if len(topics) == 0 {
		<-ctx.Done()
		return nil
	}
	return group.Consume(ctx, topics, m)
}

// existing divides the topics: one that is missing must not keep the others from being read.
func (m *member) existing() (topics, missing []string, err error) {
	for _, topic := range m.topics {
		err := m.client.RefreshMetadata(topic)
		switch {
		case err == nil, errors.Is(err, sarama.ErrLeaderNotAvailable):
			topics = append(topics, topic)
		case errors.Is(err, sarama.ErrUnknownTopicOrPartition), errors.Is(err, sarama.ErrTopicAuthorizationFailed):
			missing = append(missing, topic)
		default:
			return nil, nil, fmt.Errorf("asking for topic %s: %w", topic, err)
		}
	}
	return topics, missing, nil
}

// awaitTopics ends the session when one of the topics is there.
func (m *member) awaitTopics(ctx context.Context, missing []string, end context.CancelCauseFunc) {
	for sleep(ctx, lookEvery) == nil {
		if slices.ContainsFunc(missing, func(topic string) bool { return m.client.RefreshMetadata(topic) == nil }) {
			end(errTopics)
			return
		}
	}
}

// Setup implements sarama.ConsumerGroupHandler.
func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	m.commits.begin(s, m.end)
	m.joined.Store(true)
	if m.config.Since.IsZero() || m.config.FromDeadLetter { // of dead letters what is older stays for another run
		return nil
	}
	return m.beginSince(s)
}

// beginSince has the claims of a session begin at the configured time, where what is committed lies before. A claim that
// comes later begins where another member has begun; if none has, it reads past what is older.
func (m *member) beginSince(s sarama.ConsumerGroupSession) error {
	for topic, partitions := range s.Claims() {
		for _, partition := range partitions {
			at, err := m.since(place{topic, partition})
			if err != nil {
				return err
			}
			s.MarkOffset(topic, partition, at, "") // only forward
		}
	}
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.joined.Store(false)
	m.commits.begin(nil, nil)
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, from sarama.ConsumerGroupClaim) error {
	c := newClaim(m, from)
	held, release := c.held(s.Context())
	defer release()
	m.mu.Lock()
	m.claims[c.place] = c
	m.mu.Unlock()
	m.share()
	err := c.run(held)
	m.mu.Lock()
	delete(m.claims, c.place)
	m.mu.Unlock()
	m.share()
	select {
	case m.closed <- struct{}{}:
	default:
	}
	if err == nil {
		<-held.Done() // a claim that returns before ends the session of all
	}
	return err
}

// renew renews the engine's lease for as long as this process runs, until ctx ends. If it was stopped, others may have what
// it had, which the coordinator would tell it, but not at once.
func (m *member) renew(ctx context.Context) {
	for last := time.Now(); ; {
		now := time.Now()
		if stopped := now.Sub(last); stopped > lease {
			m.config.Log.Warn("this process was stopped for a while: joining the group anew", "for", stopped)
			m.commits.lost()
		} else {
			m.engine.Lease(now.Add(lease))
		}
		last = now
		if sleep(ctx, heartbeats) != nil {
			return
		}
	}
}

// look looks at what changes rarely, until ctx ends.
func (m *member) look(ctx context.Context) {
	generation := int32(0)
	for last := time.Now(); sleep(ctx, lookEvery) == nil; {
		if g := m.commits.generation(); g != generation { // there may be partitions that the client does not know of
			if err := m.client.RefreshMetadata(m.topics...); err == nil {
				generation = g
			}
		}
		m.share()
		if time.Since(last) < lagEvery {
			continue
		}
		last = time.Now()
		m.lowerEnds()
		for _, c := range m.claimed() {
			if newest, err := m.client.GetOffset(c.place.topic, c.place.partition, sarama.OffsetNewest); err == nil {
				c.newest.Store(newest)
			}
		}
	}
}

// share tells the engine what of the group's rates is this member's.
func (m *member) share() {
	all, err := m.places()
	if err != nil {
		return // it stays as it was; whoever reads the topic will say what is wrong
	}
	m.all.Store(int64(len(all)))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engine.SetShare(min(1, float64(len(m.claims))/float64(max(1, len(all)))))
}

func (m *member) claimed() []*claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.claims))
}
