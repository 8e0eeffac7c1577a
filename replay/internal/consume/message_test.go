package consume

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// noise is text that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.UintN(256))
	}
	return string(b)
}

// consumed is a message as sarama gives it.
func consumed(m *sarama.ProducerMessage, offset int64) *sarama.ConsumerMessage {
	c := &sarama.ConsumerMessage{Topic: m.Topic, Partition: m.Partition, Offset: offset, Timestamp: m.Timestamp}
	if m.Key != nil {
		c.Key, _ = m.Key.Encode() // of bytes: never an error
	}
	if m.Value != nil {
		c.Value, _ = m.Value.Encode()
	}
	for i := range m.Headers {
		c.Headers = append(c.Headers, &m.Headers[i])
	}
	return c
}

func TestDecode(t *testing.T) {
	r := request("body", "key")
	r.Headers = []record.Header{{Name: "x-a", Value: "1"}}
	m := consumed(message(r, 3), 17)
	got := decode(m)
	want := &flow.Message{Topic: "leads", Partition: 3, Offset: 17, Record: r, Headers: r.KafkaHeaders(false), Timestamp: r.Received}
	equateTime := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	if diff := cmp.Diff(want, got, equateTime); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	clear(m.Key) // that of want, too
	clear(m.Value)
	if string(got.Record.Key) != "key" || string(got.Record.Body) != "body" {
		t.Error("it shares memory with sarama's batch")
	}
}

func TestUnreadable(t *testing.T) {
	for _, c := range []struct {
		headers []record.Header
		want    string
	}{
		{nil, "the record has no header :method, so it is no request"},
		{[]record.Header{{Name: ":method", Value: "GET"}}, "the record has no header :path, so it is no request"},
		{[]record.Header{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/"}}, ""},
	} {
		m := &sarama.ConsumerMessage{}
		for _, h := range c.headers {
			m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(h.Name), Value: []byte(h.Value)})
		}
		if got := decode(m).Unreadable; got != c.want {
			t.Errorf("%v: %q, want %q", c.headers, got, c.want)
		}
	}
}

// A null key is not an empty one: only the latter has an order.
func TestNullKey(t *testing.T) {
	if decode(&sarama.ConsumerMessage{}).Record.Key != nil {
		t.Error("a null key is not nil")
	}
	if decode(&sarama.ConsumerMessage{Key: []byte{}}).Record.Key == nil {
		t.Error("an empty key is nil")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), ":method", []byte("POST"), ":path", []byte("/"), int64(5), true)
	f.Add([]byte(nil), []byte(nil), "ce_id", []byte("x"), "crowd-error-topic", []byte("leads"), int64(-1), false)
	f.Fuzz(func(t *testing.T, key, value []byte, name1 string, value1 []byte, name2 string, value2 []byte, millis int64, again bool) {
		c := &Consumer{config: Config{Topics: []string{"leads"}, Group: "g", FromDeadLetter: again, Log: slogTo(t.Output()),
			Since: time.UnixMilli(0), Wanted: func(*flow.Message) bool { return true }}}
		read := &sarama.ConsumerMessage{Topic: "t", Key: key, Value: value, Timestamp: time.UnixMilli(millis), Headers: []*sarama.RecordHeader{
			{Key: []byte(name1), Value: value1}, nil, {Key: []byte(name2), Value: value2}}}
		m, fate := c.message(read)
		if fate != wanted {
			return
		}
		if m.Unreadable == "" && (m.Record.Method == "" || m.Record.Path == "") {
			t.Errorf("%+v is no request", m.Record)
		}
		if again && m.Record.Topic != "leads" {
			t.Errorf("of topic %q", m.Record.Topic)
		}
		l := letters{config: c.config}
		_, headers := record.FailureFromKafka(m.Headers)
		for size := whole; size <= bare; size++ {
			l.message(m, headers, record.Failure{}, size, m.Timestamp)
		}
	})
}
