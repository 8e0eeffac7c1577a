package produce

import (
	"runtime"
	"testing"
	"unsafe"
	"weak"

	"github.com/IBM/sarama"
)

// silent is a producer that takes messages and gives nothing back.
type silent struct {
	sarama.AsyncProducer
	input chan *sarama.ProducerMessage
}

func (s silent) Input() chan<- *sarama.ProducerMessage { return s.input }

// TestAMessageKeepsNoOtherBatch guards the bound of memory: a batch that is done is not accounted for any more, so a
// message of another one, which may be under way for long, must not keep it.
func TestAMessageKeepsNoOtherBatch(t *testing.T) {
	producer := silent{input: make(chan *sarama.ProducerMessage, burst)}
	s := &sender{async: producer}
	var entries []*entry
	var bodies []weak.Pointer[byte]
	for i := range burst {
		body := make([]byte, 1<<20)
		r := post("leads", body)
		r.Headers[0].Value = unsafe.String(&body[0], len(body)) // as both lie in an uplink's message
		entries = append(entries, &entry{item: &Item{Index: i, Record: r}, batch: &batch{}, value: body})
		bodies = append(bodies, weak.Make(&body[0]))
	}
	s.submit(entries, "leads", new(builder))
	clear(entries)
	stuck := <-producer.input
	for range burst - 1 {
		<-producer.input
	}
	runtime.GC()
	for i, body := range bodies[1:] {
		if body.Value() != nil {
			t.Errorf("the message of the first batch keeps batch %d", i+1)
		}
	}
	runtime.KeepAlive(stuck)
}
