package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Produce writes records, in their order for each partition, which their keys say as for the Java client.
func (b *Broker) Produce(ctx context.Context, records ...*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client, err := b.client(ctx, kgo.AllowAutoTopicCreation(), kgo.MaxBufferedRecords(len(records)),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.UnknownTopicRetries(-1)) // a topic that is being created is asked for again and again
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("writing %d records: %w", len(records), cause(ctx, err))
	}
	return nil
}

// Lag returns how many of a topic's records a group has not committed, and how many members the group has.
func (b *Broker) Lag(ctx context.Context, group, topic string) (lag int64, members int, err error) {
	client, err := b.client(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, _, err := ends(ctx, client, topic)
	if err != nil {
		return 0, 0, err
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the offsets of %s: %w", group, cause(ctx, err))
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, _ := committed.Lookup(end.Topic, end.Partition) // 0 where nothing is committed
		lag += end.Offset - max(at.At, 0)
	})
	groups, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return 0, 0, fmt.Errorf("asking about %s: %w", group, cause(ctx, err))
	}
	return lag, len(groups[group].Members), nil
}
