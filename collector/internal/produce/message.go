package produce

import (
	"slices"
	"time"
	"unsafe"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
)

// maxAhead is how far a timestamp may be in the future. Brokers take an hour unless told otherwise
// (message.timestamp.after.max.ms), and reject the whole batch beyond it: one Envoy with a wrong clock would have
// every batch of its topics sent record by record.
const maxAhead = 50 * time.Minute

// builder builds messages for Kafka. The zero value is ready; it is not safe for concurrent use.
type builder struct {
	headers []record.Header // of one record
}

// composed returns at least how many bytes AppendKafkaHeaders writes behind a text: id, time, source and trailers' names.
func composed(r *record.Record) int {
	n := 36 + len(time.RFC3339Nano) + len(r.Scheme) + len("://") + len(r.Authority)
	for i := range r.Trailers {
		n += len(record.TrailerPrefix) + len(r.Trailers[i].Name)
	}
	return n
}

// messages builds the messages of entries of one batch. They share three pieces of memory, which are there until the last
// one is done, and point into the batch: with entries of several batches, one that is stuck would keep others that are
// done, for which nobody accounts any more. It comes as late as possible, since with its headers a message takes several
// times the memory that the record takes in its batch; and they are new ones for each attempt, since sarama still looks at
// a message after giving it back with an error. topic is the lane's copy of the name.
func (b *builder) messages(entries []*entry, topic string) []sarama.ProducerMessage {
	count, most, length := 0, 0, 0
	for _, e := range entries {
		r := &e.item.Record
		n := len(r.Headers) + len(r.Trailers) + record.MoreKafkaHeaders
		count, most, length = count+n, max(most, n), length+composed(r)
	}
	b.headers = slices.Grow(b.headers[:0], most)
	messages := make([]sarama.ProducerMessage, len(entries))
	headers := make([]sarama.RecordHeader, 0, count)
	text := make([]byte, 0, length)
	for i, e := range entries {
		text = b.gather(e, text)
		start := len(headers)
		for j := range b.headers {
			headers = append(headers, sarama.RecordHeader{Key: view(b.headers[j].Name), Value: view(b.headers[j].Value)})
		}
		r := &e.item.Record
		messages[i] = sarama.ProducerMessage{
			Topic: topic, Value: &e.value, Headers: headers[start:len(headers):len(headers)], Timestamp: r.Received, Metadata: e,
		}
		if r.Key != nil {
			messages[i].Key = &e.key
		}
		if e.restamped || time.Until(r.Received) > maxAhead {
			messages[i].Timestamp = time.Now()
		}
	}
	clear(b.headers[:cap(b.headers)]) // or they would keep the batches that the records came with
	return messages
}

// gather collects an entry's headers, for which it may write behind text.
func (b *builder) gather(e *entry, text []byte) []byte {
	r := &e.item.Record
	b.headers = b.headers[:0]
	if e.item.Malformed == "" {
		b.headers, text = r.AppendKafkaHeaders(b.headers, text, e.redelivered)
	} else {
		b.headers = append(b.headers, record.MalformedHeaders(e.redelivered)...)
	}
	if e.refusal != nil {
		b.headers = append(b.headers, record.ErrorHeaders(r.Topic, e.refusal.Class, e.refusal.Reason)...)
	}
	return text
}

// encoder is a sarama.Encoder for bytes that are there already; by pointer, it costs no allocation.
type encoder []byte

func (e *encoder) Encode() ([]byte, error) { return *e, nil }
func (e *encoder) Length() int             { return len(*e) }

// present returns b as what Kafka stores as no bytes, where nil would be stored as null.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// view returns the bytes of s without copying them; sarama only reads them.
func view(s string) []byte {
	return present(unsafe.Slice(unsafe.StringData(s), len(s)))
}
