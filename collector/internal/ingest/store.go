package ingest

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/record"
)

// toKafka says whether a batch is stored only when Kafka has it.
func (s *Server) toKafka(b *batch) bool { return s.spool == nil || b.direct }

// store has a new batch stored, and calls done with what became of it. The answers that it reports count when it is
// spooled, so that one that could not be, and comes again, counts once. Those of other batches count now: where Envoy and
// collector die before Kafka is back, the difference is to show what is lost.
func (s *Server) store(id record.UplinkID, b *batch, done func(outcome)) {
	stored := func(o outcome) {
		s.metrics.stored(b.items, o.refused)
		s.refused(b.items, o.refused)
		done(o)
	}
	direct := func() {
		s.metrics.answers(b.Answered)
		s.sink.Produce(produce.Batch{Items: b.items, Redelivered: b.Redelivered}, func(refused []produce.Refusal) {
			stored(outcome{refused: refused, direct: true})
		})
	}
	switch {
	case len(b.items) == 0:
		s.metrics.answers(b.Answered)
		stored(outcome{})
	case s.toKafka(b):
		direct()
	default:
		s.spool.Append(spool.Entry{
			Uplink: id, Sequence: b.Sequence, Redelivered: b.Redelivered, Topic: b.topic, Records: b.Records,
			Parsed: b.items,
		}, func(err error) {
			switch {
			case err == nil:
				s.metrics.answers(b.Answered)
				stored(outcome{})
			case errors.Is(err, spool.ErrTooLarge):
				direct()
			default:
				done(outcome{err: status.Errorf(codes.Unavailable, "a batch could not be stored: %v", err)})
			}
		})
	}
}

// Deliver hands an entry of the spool to the sink; the spool calls it. done gets what Kafka never takes in any form;
// it is called as Sink.Produce says.
func (s *Server) Deliver(e *spool.Entry, done func([]spool.Undeliverable)) {
	parsed, ok := e.Parsed.([]produce.Item)
	if !ok {
		parsed = items(e.Records, e.Topic)
	}
	s.sink.Produce(produce.Batch{Items: parsed, Redelivered: e.Redelivered, Stored: true}, func(refused []produce.Refusal) {
		s.refused(parsed, refused)
		var undeliverable []spool.Undeliverable
		for _, r := range refused {
			if !r.DeadLettered {
				undeliverable = append(undeliverable, spool.Undeliverable{Index: r.Index, Reason: r.Reason})
			}
		}
		done(undeliverable)
	})
}

// refused counts and logs records that their topics will never take.
func (s *Server) refused(items []produce.Item, refused []produce.Refusal) {
	if len(refused) == 0 {
		return
	}
	s.metrics.refuse(items, refused)
	s.trouble.Warn("records refused by their topic", "records", len(refused), "first", refused[0].Reason,
		"dead_lettered", refused[0].DeadLettered)
	for _, r := range refused {
		if !r.DeadLettered { // this line may be all that is left of it
			s.log.Warn("a record is in no topic", "reason", r.Reason)
		}
	}
}
