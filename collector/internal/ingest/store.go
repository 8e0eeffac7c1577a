package ingest

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/record"
)

// level returns what a batch is acknowledged with.
func (s *Server) level(b *batch) record.Level {
	if s.spool == nil || b.direct {
		return record.LevelKafka
	}
	return record.LevelDisk
}

// store has a new batch stored, and calls done with what became of it. Answers that it reports count when it is stored,
// together with its records: one that is not stored here comes again, here or elsewhere.
func (s *Server) store(id record.UplinkID, b *batch, done func(outcome)) {
	stored := func(refused []produce.Refusal) {
		s.metrics.answers(b.Answered)
		s.metrics.stored(b.items, refused)
		s.refused(b.items, refused)
		done(outcome{refused: refused})
	}
	switch {
	case len(b.items) == 0:
		stored(nil)
	case s.level(b) == record.LevelKafka:
		s.sink.Produce(b.items, b.Redelivered, stored)
	default:
		s.spool.Append(spool.Entry{
			Uplink: id, Sequence: b.Sequence, Redelivered: b.Redelivered, Topic: b.topic, Records: b.Records,
		}, func(err error) {
			if err != nil {
				done(outcome{err: status.Error(codes.Unavailable, fmt.Sprintf("the spool could not store a batch: %v", err))})
				return
			}
			stored(nil)
		})
	}
}

// Deliver hands an entry of the spool to the sink; the spool calls it. done gets what Kafka never takes in any form;
// it is called as Sink.Produce says.
func (s *Server) Deliver(e *spool.Entry, done func([]spool.Undeliverable)) {
	parsed := items(e.Records, e.Topic)
	s.sink.Produce(parsed, e.Redelivered, func(refused []produce.Refusal) {
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
}
