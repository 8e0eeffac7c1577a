package ingest

import (
	"fmt"
	"unicode/utf8"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

// batch is a batch whose records have been looked at.
type batch struct {
	*record.Received
	items  []produce.Item
	topic  string // of all records; "" where none can be parsed
	direct bool   // their routes ask for Kafka
}

// parse reads the records of a batch. Those that cannot be read come along as malformed; what they would have had to
// have in common with the others is not known. An error says that the batch is none.
func parse(b *record.Received) (batch, error) {
	if b.SettledBelow > b.Sequence {
		return batch{}, fmt.Errorf("batch %d says that all below %d have been acknowledged", b.Sequence, b.SettledBelow)
	}
	p := batch{Received: b, items: items(b.Records, "")}
	var first *produce.Item
	for i := range p.items {
		item := &p.items[i]
		if item.Malformed != "" {
			continue
		}
		topic, direct := item.Record.Topic, item.Record.Ack.Direct()
		switch {
		case first == nil:
			first = item
			p.topic, p.direct = topic, direct
		case topic != p.topic:
			return batch{}, fmt.Errorf("batch %d mixes topics: record %d is for %q, record %d for %q", b.Sequence,
				first.Index, p.topic, i, topic)
		case direct != p.direct:
			return batch{}, fmt.Errorf("batch %d mixes ack kafka with others: record %d of route %q asks for %s, record %d of "+
				"route %q for %s", b.Sequence, first.Index, first.Record.Route, first.Record.Ack, i, item.Record.Route,
				item.Record.Ack)
		}
	}
	for i := range p.items {
		p.items[i].Record.Topic = p.topic
	}
	return p, nil
}

// items parses encoded records of a topic, into which the result points.
func items(records [][]byte, topic string) []produce.Item {
	parsed := make([]produce.Item, len(records))
	var parser record.Parser
	for i, raw := range records {
		item := &parsed[i]
		item.Index = i
		err := parser.Parse(raw, &item.Record)
		if err == nil && !utf8.ValidString(item.Record.Topic) { // it stands in messages, which take no other text
			err = fmt.Errorf("its topic %q is not UTF-8", item.Record.Topic)
		}
		if err != nil {
			item.Record, item.Malformed = record.Record{Body: raw, Topic: topic}, err.Error()
		}
	}
	return parsed
}
