package produce

import (
	"fmt"
	"slices"
	"sync"
)

// batch is a batch of an uplink of which not every record's fate is known.
type batch struct {
	producer *Producer
	sender   *sender // of those of its records that can be with others
	done     func([]Refusal)

	mu      sync.Mutex
	left    int
	refused []Refusal
}

// finish takes a record off the batch.
func (b *batch) finish(refused ...Refusal) {
	b.mu.Lock()
	b.left--
	last := b.left == 0
	b.refused = append(b.refused, refused...)
	b.mu.Unlock()
	if last {
		slices.SortFunc(b.refused, func(x, y Refusal) int { return x.Index - y.Index })
		b.done(b.refused)
		b.producer.batchDone()
	}
}

// entry is one record of a batch. At any time one goroutine owns it.
type entry struct {
	item        *Item
	batch       *batch
	redelivered bool
	restamped   bool     // Kafka did not take the time of receipt for a timestamp
	refusal     *Refusal // by its topic; the entry is a dead letter then
	key, value  encoder  // what the message's Key and Value point to
}

// topic returns where the entry goes next: its topic, and when that has refused it, the dead-letter topic.
func (e *entry) topic() string {
	if e.refusal != nil {
		return e.batch.producer.deadLetterTopic
	}
	return e.item.Record.Topic
}

// stored is the end of a record that the topic where it went has.
func (e *entry) stored() {
	r := &e.item.Record
	if e.refusal == nil {
		e.batch.producer.fates.delivered(r.Route, r.Ack)
		e.batch.finish()
		return
	}
	e.refusal.DeadLettered = true
	e.batch.producer.fates.deadLettered(r.Route, e.refusal.Class)
	e.batch.finish(*e.refusal)
}

// refuse is called when the topic where the entry goes will never take it. It goes to the dead-letter topic then; what
// that refuses too, as its own topic or as the second one, has no place to go.
func (e *entry) refuse(class, why string) {
	if e.refusal != nil {
		e.refusal.Reason += "; and the dead-letter topic does not take it either: " + why
		e.batch.finish(*e.refusal)
		return
	}
	r, p := &e.item.Record, e.batch.producer
	subject := fmt.Sprintf("record %s of route %q", r.ID, r.Route)
	if class == ClassMalformed {
		subject = fmt.Sprintf("record %d of its batch", e.item.Index)
	}
	tried := r.Topic == p.deadLetterTopic && class != ClassMalformed
	e.refusal = &Refusal{Index: e.item.Index, Class: class, Reason: subject + ": " + why}
	if p.deadLetterTopic == "" || tried {
		e.batch.finish(*e.refusal)
		return
	}
	e.batch.sender.push([]*entry{e})
}
