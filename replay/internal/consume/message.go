package consume

import (
	"bytes"
	"slices"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// fate is what becomes of a message that was read.
type fate uint8

const (
	wanted fate = iota + 1 // it is sent
	passed                 // it counts as done
	left                   // it stays undone, for another run
)

// message makes a message of what was read, if it is to be sent.
//
// What a filter leaves out counts as done, or nothing behind it could be committed. But a run that is to send something
// of what is there at the start, and then ends, leaves what it does not send.
func (c *Consumer) message(m *sarama.ConsumerMessage) (*flow.Message, fate) {
	unwanted := passed
	if c.config.FromDeadLetter {
		unwanted = left
	}
	if m.Timestamp.Before(c.config.Since) {
		return nil, unwanted
	}
	if !c.config.Until.IsZero() && !m.Timestamp.Before(c.config.Until) {
		return nil, left
	}
	message := decode(m)
	if c.config.FromDeadLetter {
		failure, _ := record.FailureFromKafka(message.Headers)
		switch {
		case failure.Group != "" && failure.Group != c.config.Group:
			return nil, passed
		case !slices.Contains(c.config.Topics, failure.Topic):
			return nil, left
		case message.Unreadable != "": // not what is malformed for other reasons: another configuration may make a request of it
			c.config.Log.Warn("a dead letter is no request: it is passed over", "at", placeOf(m), "offset", m.Offset, "reason", message.Unreadable)
			return nil, passed
		case failure.StoredAt != "":
			c.config.Log.Warn("a dead letter has no body, as it was too large for the dead-letter topic: it is passed over; "+
				"the whole record is where stored_at says", "id", message.Record.ID, "at", placeOf(m), "offset", m.Offset,
				"stored_at", failure.StoredAt)
			return nil, passed
		}
		message.Record.Topic = failure.Topic
	}
	if c.config.Wanted != nil && !c.config.Wanted(message) {
		return nil, unwanted
	}
	return message, wanted
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
