package consume

import (
	"bytes"
	"slices"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// later reports whether what was read is of a time that is not this run's, but another one's yet.
func (c *Consumer) later(m *sarama.ConsumerMessage) bool {
	return !c.config.Until.IsZero() && !m.Timestamp.Before(c.config.Until)
}

// message makes a message of what was read; false: it is not to be sent.
func (c *Consumer) message(m *sarama.ConsumerMessage) (*flow.Message, bool) {
	if m.Timestamp.Before(c.config.Since) {
		return nil, false
	}
	message := decode(m)
	if c.config.FromDeadLetter {
		failure, _ := record.FailureFromKafka(message.Headers)
		if !c.sendsAgain(failure) {
			return nil, false
		}
		if failure.StoredAt != "" {
			c.config.Log.Warn("a dead letter has no body, as it was too large for the dead-letter topic: it is passed over; "+
				"the whole record is where stored_at says", "id", message.Record.ID, "at", placeOf(m), "offset", m.Offset,
				"stored_at", failure.StoredAt)
			return nil, false
		}
		message.Record.Topic = failure.Topic
	}
	return message, c.config.Wanted == nil || c.config.Wanted(message)
}

// sendsAgain reports whether a dead letter is among those that this run sends.
func (c *Consumer) sendsAgain(f record.Failure) bool {
	return slices.Contains(c.config.Topics, f.Topic) && (f.Group == "" || f.Group == c.config.Group) &&
		f.Class != flow.ClassMalformed
}

func placeOf(m *sarama.ConsumerMessage) place { return place{m.Topic, m.Partition} }

// decode copies what it takes: sarama's key, value and headers keep their whole Kafka batch in memory.
func decode(m *sarama.ConsumerMessage) *flow.Message {
	headers := make([]record.Header, 0, len(m.Headers))
	for _, h := range m.Headers {
		if h != nil {
			headers = append(headers, record.Header{Name: string(h.Key), Value: string(h.Value)})
		}
	}
	message := &flow.Message{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Headers: headers, Timestamp: m.Timestamp}
	message.Record, _ = record.FromKafka(m.Topic, bytes.Clone(m.Key), bytes.Clone(m.Value), m.Timestamp, headers)
	switch {
	case message.Record.Method == "":
		message.Unreadable = "the record has no header :method, so it is no request"
	case message.Record.Path == "":
		message.Unreadable = "the record has no header :path, so it is no request"
	}
	return message
}
