package kafka

import (
	"context"
	"fmt"
	"iter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Records yields every record of the topics, from the oldest on, and waits for more: until the caller has enough
// or ctx ends, which yields ctx's error. Order holds within a partition. The topics must exist.
//
// It may be called from any goroutine.
func (b *Broker) Records(ctx context.Context, topics ...string) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		client, err := b.client(ctx,
			kgo.ConsumeTopics(topics...),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		)
		if err != nil {
			yield(nil, err)
			return
		}
		defer client.Close()
		for {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				yield(nil, fmt.Errorf("reading %v: %w", topics, cause(ctx, err)))
				return
			}
			for r := range fetches.RecordsAll() {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// ReadAll returns what the topics hold at the time of the call, in the order of Records. A topic that does not
// exist is an error. It relies on nothing having been deleted from the topics, and may be called from any
// goroutine.
func (b *Broker) ReadAll(ctx context.Context, topics ...string) ([]*kgo.Record, error) {
	client, err := b.client(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ends, missing, err := ends(ctx, client, topics...)
	if err != nil {
		return nil, err
	}
	if missing == 0 {
		return nil, nil
	}
	records := make([]*kgo.Record, 0, missing)
	for r, err := range b.Records(ctx, topics...) {
		if err != nil {
			return records, err
		}
		if end, _ := ends.Lookup(r.Topic, r.Partition); r.Offset >= end.Offset {
			continue // written after the call
		}
		if records = append(records, r); int64(len(records)) == missing {
			break
		}
	}
	return records, nil
}

// Count returns how many records a topic has got, deleted ones included. It may be called from any goroutine.
func (b *Broker) Count(ctx context.Context, topic string) (int64, error) {
	client, err := b.client(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	_, count, err := ends(ctx, client, topic)
	return count, err
}

// ends returns where the topics' partitions end, and the sum.
func ends(ctx context.Context, client *kgo.Client, topics ...string) (kadm.ListedOffsets, int64, error) {
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("asking for the ends of %v: %w", topics, cause(ctx, err))
	}
	sum := int64(0)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return ends, sum, nil
}

// client returns a client whose life ends with ctx. A request's own context would not do: it does not interrupt
// a connection being made, which a paused broker delays by kgo's ten seconds.
func (b *Broker) client(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(opts, kgo.WithContext(ctx), kgo.SeedBrokers(b.addr))...)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", b.addr, err)
	}
	return client, nil
}

// cause is ctx's error if it has one: a client that ended with its context says only that it is closed.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
