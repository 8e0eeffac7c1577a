// Package consume reads topics as a member of a consumer group, commits what is done, and writes dead letters.
//
//	Kafka --claim--> flow.Partition --> flow.Engine --Bury--> letters --> Kafka
//	      <-- committer <-- flow.Commit --+
//
// A claim is a partition that this member has. It reads for as long as it has it, and when it has it no more it waits for
// what of it is under way, commits, and only then lets the group give the partition to another member.
//
// Commits do not go through sarama's session: it does not say whether a commit came about, nor what metadata an offset has
// that was committed before.
package consume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// closing is how long Close may take.
const closing = time.Second

// Config says what to read.
type Config struct {
	Kafka kafka.Config
	// Group is the consumer group.
	Group  string
	Topics []string
	// DeadLetterTopic takes what Bury gives it.
	DeadLetterTopic string
	// FromDeadLetter has DeadLetterTopic read in place of Topics: what came from Topics, and from Group or no group.
	FromDeadLetter bool
	// Since and Until bound the records by their timestamps, where they are not zero: from Since on, and before Until. Those
	// before Since count as done, those from Until on do not.
	Since, Until time.Time
	// Wanted says whether a message is to be sent.
	Wanted func(*flow.Message) bool
	// RequestTimeout is how long an attempt takes at most: a partition is not given to another member before.
	RequestTimeout time.Duration
	// DrainTimeout is how long the end waits for what is under way.
	DrainTimeout time.Duration

	Log *slog.Logger
}

// Consumer is a member of the group.
type Consumer struct {
	config  Config
	group   string   // whose offsets count
	topics  []string // that are read
	trouble *trouble

	settings settings
	client   sarama.Client // for everything but the group's membership and dead letters
	letters  *letters      // nil before Run

	skipped, lost atomic.Int64
	member        atomic.Pointer[member] // nil before Run
}

// New connects to Kafka and checks the topics. It fails for a topic that does not exist; while Kafka cannot be reached it
// tries until ctx ends.
func New(ctx context.Context, c Config) (*Consumer, error) {
	settings, err := newSettings(c)
	if err != nil {
		return nil, err
	}
	consumer := &Consumer{config: c, group: c.Group, topics: c.Topics, trouble: newTrouble(c.Log), settings: settings}
	if c.FromDeadLetter {
		consumer.group, consumer.topics = c.Group+"-dead-letters", []string{c.DeadLetterTopic}
	}
	if consumer.client, err = sarama.NewClient(c.Kafka.Brokers, settings.client); err != nil {
		return nil, fmt.Errorf("kafka: %w", err) // it does not connect yet: a matter of configuration
	}
	if err = consumer.checkTopics(ctx); err != nil {
		_ = consumer.client.Close()
		return nil, err
	}
	return consumer, nil
}

// checkTopics fails for a topic that is not there or not to be read.
func (c *Consumer) checkTopics(ctx context.Context) error {
	for _, topic := range c.topics {
		var hopeless error
		err := c.trouble.insist(ctx, "asking kafka for topic "+topic, func() error {
			err := c.client.RefreshMetadata(topic)
			if errors.Is(err, sarama.ErrUnknownTopicOrPartition) || errors.Is(err, sarama.ErrTopicAuthorizationFailed) ||
				errors.Is(err, sarama.ErrInvalidTopic) {
				hopeless, err = err, nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if hopeless != nil {
			return fmt.Errorf("topic %q in the kafka at %s: check its name and whether this user may read it: %w", topic,
				strings.Join(c.config.Kafka.Brokers, ","), hopeless)
		}
	}
	return nil
}

// Close ends the connections. Run must have returned. While Kafka does not answer, sarama is left to itself after a while: a
// client waits for what it asked last, again and again.
func (c *Consumer) Close() error {
	closed := make(chan error, 1)
	go func() {
		var letters error
		if c.letters != nil {
			letters = c.letters.close()
		}
		closed <- errors.Join(letters, c.client.Close())
	}()
	select {
	case err := <-closed:
		return err
	case <-time.After(closing):
		return errors.New("kafka does not answer")
	}
}

// bounded reports whether the run has an end.
func (c *Consumer) bounded() bool { return c.config.FromDeadLetter || !c.config.Until.IsZero() }

// place is a partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.partition) }

// places are all partitions of the topics, as far as the client knows. A topic that is missing has none.
func (c *Consumer) places() ([]place, error) {
	var all []place
	for _, topic := range c.topics {
		partitions, err := c.client.Partitions(topic)
		if err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return nil, fmt.Errorf("asking for the partitions of %s: %w", topic, err)
		}
		for _, partition := range partitions {
			all = append(all, place{topic, partition})
		}
	}
	return all, nil
}
