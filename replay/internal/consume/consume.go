// Package consume reads topics as a member of a consumer group, commits what is done, and writes dead letters.
package consume

import (
	"context"
	"log/slog"
	"time"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

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
	// Since and Until bound the records by their timestamps, where they are not zero: from Since on, and before Until.
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
type Consumer struct{}

// New connects to Kafka and checks the topics. It fails for a topic that does not exist, or a dead-letter topic that cannot
// be had; while Kafka cannot be reached it tries until ctx ends.
func New(ctx context.Context, c Config) (*Consumer, error) { panic("not yet") }

// Run hands messages to the engine and commits what is done, until ctx ends or, where the run has an end, all is done. Then
// it gives what is under way DrainTimeout, commits, and leaves the group. Trouble with Kafka is logged and waited out.
func (c *Consumer) Run(ctx context.Context, e *flow.Engine) error { panic("not yet") }

// Bury writes a message to the dead-letter topic, with why. It tries for as long as it takes, and returns an error only if
// ctx ends first.
func (c *Consumer) Bury(ctx context.Context, m *flow.Message, l flow.Letter) error { panic("not yet") }

// Progress is how far the group is.
type Progress struct {
	// Partitions is how many this member has, and All how many there are.
	Partitions, All int
	// Lag is how many records of this member's partitions are not done, as far as Kafka has said lately.
	Lag int64
	// Skipped is how many records were not wanted.
	Skipped int64
	// Lost is how many records Kafka had deleted before they were done (retention), of which the group had been told.
	Lost int64
	// Ready is whether the group has been joined.
	Ready bool
}

// Progress returns how far it is.
func (c *Consumer) Progress() Progress { panic("not yet") }

// Peek reads what Run would, without joining the group or committing, to the end that the topics have at the call, and
// calls show for each message that is wanted, until that fails.
func (c *Consumer) Peek(ctx context.Context, show func(*flow.Message) error) error { panic("not yet") }

// Close ends the connections. Run must have returned.
func (c *Consumer) Close() error { panic("not yet") }
