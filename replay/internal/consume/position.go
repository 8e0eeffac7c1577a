package consume

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"
)

// position is what is committed for a partition: an offset, -1 for none, and the metadata that came with it, which speaks
// of nothing else.
type position struct {
	offset   int64
	metadata string
}

// positions asks the coordinator what the group has committed.
func (c *Consumer) positions(places []place) (map[place]position, error) {
	partitions := map[string][]int32{}
	for _, p := range places {
		partitions[p.topic] = append(partitions[p.topic], p.partition)
	}
	var answer *sarama.OffsetFetchResponse
	err := c.atCoordinator(func(coordinator *sarama.Broker) (err error) {
		answer, err = coordinator.FetchOffset(sarama.NewOffsetFetchRequest(c.client.Config().Version, c.group, partitions))
		if err == nil && !errors.Is(answer.Err, sarama.ErrNoError) {
			err = answer.Err
		}
		return err
	})
	unknown := errors.Is(err, sarama.ErrGroupIDNotFound) // it has never committed
	if unknown {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the offsets of group %s: %w", c.group, err)
	}
	found := make(map[place]position, len(places))
	for _, p := range places {
		if unknown {
			found[p] = position{offset: -1}
			continue
		}
		block := answer.GetBlock(p.topic, p.partition)
		if block == nil {
			return nil, fmt.Errorf("asking for the offset of group %s in %s: %w", c.group, p, sarama.ErrIncompleteResponse)
		}
		if !errors.Is(block.Err, sarama.ErrNoError) {
			c.coordinatorFailed(block.Err)
			return nil, fmt.Errorf("asking for the offset of group %s in %s: %w", c.group, p, block.Err)
		}
		found[p] = position{block.Offset, block.Metadata}
	}
	return found, nil
}

// atCoordinator does something with the group's coordinator, which is looked for again the next time if it fails.
func (c *Consumer) atCoordinator(do func(*sarama.Broker) error) error {
	coordinator, err := c.client.Coordinator(c.group)
	if err != nil {
		return fmt.Errorf("looking for the coordinator: %w", err)
	}
	err = do(coordinator)
	if err != nil && !errors.As(err, new(sarama.KError)) {
		_ = coordinator.Close() // a connection that has failed is not used again
	}
	c.coordinatorFailed(err)
	return err
}

// coordinatorFailed looks for the coordinator again, if an error may mean that it is another one.
func (c *Consumer) coordinatorFailed(err error) {
	var fromKafka sarama.KError
	if err == nil || errors.As(err, &fromKafka) && fromKafka != sarama.ErrNotCoordinatorForConsumer &&
		fromKafka != sarama.ErrConsumerCoordinatorNotAvailable {
		return
	}
	_ = c.client.RefreshCoordinator(c.group) // what is wrong will show at the next attempt
}

// logRange returns the offsets of the first record that a partition has and of the next that it will have.
func (c *Consumer) logRange(p place) (oldest, newest int64, err error) {
	if oldest, err = c.client.GetOffset(p.topic, p.partition, sarama.OffsetOldest); err == nil {
		newest, err = c.client.GetOffset(p.topic, p.partition, sarama.OffsetNewest)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("asking for the offsets of %s: %w", p, err)
	}
	return oldest, newest, nil
}

// since returns where a partition begins that is not to be read from before the configured time.
func (c *Consumer) since(p place) (int64, error) {
	at, err := c.client.GetOffset(p.topic, p.partition, max(0, c.config.Since.UnixMilli())) // below are special
	if err == nil && at < 0 {                                                               // there is none since
		at, err = c.client.GetOffset(p.topic, p.partition, sarama.OffsetNewest)
	}
	if err != nil {
		return 0, fmt.Errorf("asking %s for the offset at %s: %w", p, c.config.Since, err)
	}
	return at, nil
}
