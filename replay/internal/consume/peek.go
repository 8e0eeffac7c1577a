package consume

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

// Peek reads what Run would, without joining the group or committing, to the end that the topics have at the call, and
// calls show for each message that is wanted, until that fails. Partitions come one after another. Trouble with Kafka is
// logged and waited out; ctx's end is an error.
func (c *Consumer) Peek(ctx context.Context, show func(*flow.Message) error) error {
	var ends map[place]int64
	var committed map[place]position
	var places []place
	err := c.trouble.insist(ctx, "finding out what there is", func() (err error) {
		if places, err = c.places(); err == nil {
			if ends, err = c.findEnds(); err == nil {
				committed, err = c.positions(places)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(c.client)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer func() { _ = consumer.Close() }()
	for _, p := range places {
		if end, ok := ends[p]; ok {
			if err := c.peek(ctx, consumer, p, committed[p], end, show); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Consumer) peek(ctx context.Context, consumer sarama.Consumer, p place, committed position, end int64,
	show func(*flow.Message) error) error {
	var from sarama.PartitionConsumer
	var start int64
	err := c.trouble.insist(ctx, "reading "+p.String(), func() error {
		oldest, newest, err := c.logRange(p)
		if err != nil {
			return err
		}
		start = max(oldest, committed.offset)
		if committed.offset > newest {
			start, committed = oldest, position{offset: -1}
		}
		if !c.config.Since.IsZero() {
			since, err := c.since(p)
			if err != nil {
				return err
			}
			start = max(start, since)
		}
		from, err = consumer.ConsumePartition(p.topic, p.partition, start)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	if committed.offset < 0 {
		committed = position{offset: start}
	}
	done, err := offsets.New(committed.offset, committed.metadata)
	if err != nil {
		c.trouble.warn("what was committed with an offset cannot be read", err, "partition", p)
	}
	looks := time.NewTicker(idleLooks)
	defer looks.Stop()
	for next := start; next < end; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-from.Errors():
			if err != nil {
				c.trouble.warn("trouble with kafka", err)
			}
		case <-looks.C:
			nothing, err := c.nothingIn(p, next, end)
			if err != nil {
				c.trouble.warn("looking for the end of "+p.String()+": it is tried again", err)
			} else if nothing {
				return nil
			}
		case m, ok := <-from.Messages():
			if !ok {
				return fmt.Errorf("reading %s: kafka has deleted records from offset %d on: start again", p, next)
			}
			if m.Offset >= end {
				return nil
			}
			next = m.Offset + 1
			if !done.Read(m.Offset) {
				continue
			}
			if message, fate := c.message(m); fate == wanted {
				if err := show(message); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
