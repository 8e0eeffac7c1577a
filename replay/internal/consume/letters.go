package consume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// topicLooks is how often the dead-letter topic is asked for before it is missed. The first time has it created where the
// brokers do that, which takes them up to a second.
const topicLooks = 5

// letters writes to the dead-letter topic. It is safe for concurrent use.
type letters struct {
	config   Config
	trouble  *trouble
	client   sarama.Client
	producer sarama.SyncProducer
}

// newLetters fails if there is no dead-letter topic, and waits for Kafka.
func newLetters(ctx context.Context, c Config, settings *sarama.Config, t *trouble) (*letters, error) {
	client, err := sarama.NewClient(c.Kafka.Brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	l := &letters{config: c, trouble: t, client: client}
	if err = l.checkTopic(ctx); err == nil {
		err = t.insist(ctx, "preparing to write dead letters", l.connect)
	}
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return l, nil
}

func (l *letters) checkTopic(ctx context.Context) error {
	var missing error
	looks := 0
	err := l.trouble.insist(ctx, "asking kafka for the dead-letter topic "+l.config.DeadLetterTopic, func() error {
		looks++
		err := l.client.RefreshMetadata(l.config.DeadLetterTopic)
		if missing = nil; looks >= topicLooks && (errors.Is(err, sarama.ErrUnknownTopicOrPartition) ||
			errors.Is(err, sarama.ErrTopicAuthorizationFailed)) || errors.Is(err, sarama.ErrInvalidTopic) {
			missing, err = err, nil
		}
		return err
	})
	if err == nil && missing != nil {
		err = fmt.Errorf("the dead-letter topic %q is not there, or not to be written by this user; create it, or name another "+
			"with --dead-letter-topic: %w", l.config.DeadLetterTopic, missing)
	}
	return err
}

func (l *letters) connect() error {
	producer, err := sarama.NewSyncProducerFromClient(l.client)
	if err != nil {
		return err
	}
	if producer.TxnStatus()&sarama.ProducerTxnFlagInError != 0 {
		// sarama does not return this error: without a producer id it would send without idempotence.
		_ = producer.Close()
		return errors.New("kafka gives no producer id; a user needs WRITE on a topic for that")
	}
	l.producer = producer
	return nil
}

func (l *letters) close() error { return errors.Join(l.producer.Close(), l.client.Close()) }

// Bury writes a message to the dead-letter topic, with why. It tries for as long as it takes, and returns an error only if
// ctx ends first.
//
// Where the topic takes no record as large as the message with what is said of it, the answer is left out; where that is
// not enough, the body, and record.Failure.StoredAt says where the whole is.
func (c *Consumer) Bury(ctx context.Context, m *flow.Message, l flow.Letter) error {
	return c.letters.write(ctx, m, l)
}

// shape is how much of a letter is written.
type shape int

const (
	whole         shape = iota
	withoutAnswer       // without the last answer
	withoutBody         // without the body either
	bare                // nothing but the headers that say which record it is, and why it is here
)

func (l *letters) write(ctx context.Context, m *flow.Message, letter flow.Letter) error {
	earlier, headers := record.FailureFromKafka(m.Headers)
	failure := record.Failure{
		Topic: m.Record.Topic, Class: letter.Class, Reason: letter.Reason, Group: l.config.Group,
		Attempts: earlier.Attempts + letter.Attempts, Status: letter.Last.Status, Answer: letter.Last.Answer, Time: time.Now(),
	}
	size, timestamp := whole, m.Timestamp
	send := func() error {
		_, _, err := l.producer.SendMessage(l.message(m, headers, failure, size, timestamp))
		return err
	}
	return l.trouble.insist(ctx, "writing to the dead-letter topic "+l.config.DeadLetterTopic, func() error {
		err := send()
		if errors.Is(err, sarama.ErrInvalidTimestamp) && !timestamp.IsZero() {
			timestamp = time.Time{} // topics bound how old a record may be; its time of receipt stays in ce_time
			err = send()
		}
		for isTooLarge(err) && size < bare {
			if size++; size == withoutBody {
				failure.StoredAt = fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset)
				l.config.Log.Error("a record is larger than the dead-letter topic takes: its letter has no body and says where the "+
					"whole is; raise the topic's max.message.bytes", "id", m.Record.ID, "stored_at", failure.StoredAt,
					"topic", l.config.DeadLetterTopic, "bytes", m.Size())
			}
			err = send()
		}
		return err
	}, "id", m.Record.ID, "partition", place{m.Topic, m.Partition}, "offset", m.Offset)
}

func isTooLarge(err error) bool {
	return errors.Is(err, sarama.ErrMessageSizeTooLarge) || errors.Is(err, sarama.ErrMessageSetSizeTooLarge) ||
		errors.As(err, new(sarama.ConfigurationError)) // the only one of a running producer: longer than MaxMessageBytes
}

func (l *letters) message(m *flow.Message, headers []record.Header, f record.Failure, size shape, timestamp time.Time,
) *sarama.ProducerMessage {
	if size >= withoutAnswer {
		f.Answer = nil
	}
	message := &sarama.ProducerMessage{Topic: l.config.DeadLetterTopic, Timestamp: timestamp}
	if m.Record.Key != nil && size < bare {
		message.Key = sarama.ByteEncoder(m.Record.Key)
	}
	if m.Record.Body != nil && size < withoutBody {
		message.Value = sarama.ByteEncoder(m.Record.Body)
	}
	for _, h := range headers {
		if size < bare || strings.HasPrefix(h.Name, record.CloudEventsPrefix) {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: []byte(h.Value)})
		}
	}
	for _, h := range record.FailureHeaders(f) {
		message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: []byte(h.Value)})
	}
	return message
}
