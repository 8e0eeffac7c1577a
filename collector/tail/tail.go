// Package tail reads topics and prints their records, as `crowd tail` and `crowd dev` do.
package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/errgroup"

	"github.com/marceloboeira/crowd/collector/kafka"
)

// poll is how often Kafka is asked for a topic that does not exist yet.
const poll = 500 * time.Millisecond

// Config configures Run.
type Config struct {
	// Kafka is the cluster to read from.
	Kafka kafka.Config
	// Topics to read; at least one, unless there is More.
	Topics []string
	// More brings topics to read from then on, until it is closed; those that are read already are passed over. They
	// are read from their start, whatever FromStart says: records may have come before the word of their topic did.
	More <-chan []string
	// FromStart reads what is there already, too; default: what comes from now on.
	FromStart bool
	// Wait waits for topics (and for Kafka) that are not there yet, and reads those from their start. Default: a
	// missing topic is an error, one of More too.
	Wait bool
	// Count ends Run after so many records; default 0: never.
	Count int
	// JSON prints for programs; default: for people.
	JSON bool
	// Out is where records are printed.
	Out io.Writer
}

// Validate returns everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate()}
	if len(c.Topics) == 0 && c.More == nil {
		errs = append(errs, errors.New("tail: no topic given"))
	}
	if slices.Contains(c.Topics, "") {
		errs = append(errs, errors.New("tail: a topic without a name"))
	}
	if c.Count < 0 {
		errs = append(errs, fmt.Errorf("tail: a count of %d", c.Count))
	}
	return errors.Join(errs...)
}

// Run prints records until ctx is done or Count is reached, and then returns nil. Partitions that are added to a
// topic meanwhile are not read.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	config, err := c.Kafka.Sarama()
	if err != nil {
		return err
	}
	config.Metadata.AllowAutoTopicCreation = false // looking at a topic must not make it
	config.Consumer.Return.Errors = true
	if c.Wait {
		config.Metadata.Retry.Max = 0 // waiting is done here
	}
	t := &tailer{config: c, sarama: config, printer: NewPrinter(c.Out, c.JSON)}
	if err := t.run(ctx); ctx.Err() == nil && !errors.Is(err, errCount) {
		return err
	}
	return nil
}

// errCount ends a tailer that has printed what it should.
var errCount = errors.New("count reached")

type tailer struct {
	config   Config
	sarama   *sarama.Config
	printer  *Printer
	client   sarama.Client
	consumer sarama.Consumer
}

// run returns when ctx is done or something fails.
func (t *tailer) run(ctx context.Context) error {
	if err := t.connect(ctx); err != nil {
		return err
	}
	defer func() { _ = t.client.Close() }()
	messages := make(chan *sarama.ConsumerMessage)
	group, ctx := errgroup.WithContext(ctx)
	offset := sarama.OffsetNewest
	if t.config.FromStart {
		offset = sarama.OffsetOldest
	}
	followed := map[string]bool{}
	follow := func(topics []string, offset int64) {
		for _, topic := range topics {
			if !followed[topic] {
				followed[topic] = true
				group.Go(func() error { return t.follow(ctx, topic, offset, messages) })
			}
		}
	}
	follow(t.config.Topics, offset)
	group.Go(func() error {
		for {
			select {
			case topics, ok := <-t.config.More:
				if !ok {
					return nil
				}
				follow(topics, sarama.OffsetOldest)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	group.Go(func() error { return t.print(ctx, messages) })
	return group.Wait()
}

// connect connects to Kafka.
func (t *tailer) connect(ctx context.Context) error {
	for {
		client, err := t.tryConnect()
		if err == nil {
			t.client = client
			t.consumer, err = sarama.NewConsumerFromClient(client)
			return err
		}
		if !t.config.Wait {
			return fmt.Errorf("kafka at %s cannot be reached; is it running, and is the address right? %w",
				strings.Join(t.config.Kafka.Brokers, ","), err)
		}
		if err := sleep(ctx); err != nil {
			return err
		}
	}
}

func (t *tailer) tryConnect() (sarama.Client, error) {
	client, err := sarama.NewClient(t.config.Kafka.Brokers, t.sarama)
	if err != nil {
		return nil, err
	}
	// A client connects when it is first asked for something.
	if err := client.RefreshMetadata(t.config.Topics...); err != nil && !errors.As(err, new(sarama.KError)) {
		_ = client.Close()
		return nil, err
	}
	return client, nil
}

// follow reads one topic from offset on into out until ctx is done.
func (t *tailer) follow(ctx context.Context, topic string, offset int64, out chan<- *sarama.ConsumerMessage) error {
	partitions, err := t.client.Partitions(topic)
	for ; err != nil; partitions, err = t.client.Partitions(topic) {
		if !t.config.Wait {
			return t.explain(topic, err)
		}
		if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			offset = sarama.OffsetOldest // the topic is new, and so is all that is in it
		}
		if err := sleep(ctx); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, partition := range partitions {
		group.Go(func() error { return t.read(ctx, topic, partition, offset, out) })
	}
	return group.Wait()
}

// read reads one partition into out until ctx is done. Errors that sarama rides out are not worth a word.
func (t *tailer) read(ctx context.Context, topic string, partition int32, offset int64,
	out chan<- *sarama.ConsumerMessage) error {
	pc, err := t.consumer.ConsumePartition(topic, partition, offset)
	for ; err != nil && t.config.Wait; pc, err = t.consumer.ConsumePartition(topic, partition, offset) {
		if err := sleep(ctx); err != nil { // a topic that has just been created may have no leaders yet
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("reading %s/%d: %w", topic, partition, err)
	}
	defer func() { _ = pc.Close() }()
	messages, errs := pc.Messages(), pc.Errors()
	var last error
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return fmt.Errorf("reading %s/%d: kafka ended it: %w", topic, partition, last)
			}
			select {
			case out <- m:
			case <-ctx.Done():
				return ctx.Err()
			}
		case e, ok := <-errs:
			if ok {
				last = e.Err
			} else {
				errs = nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// explain says what to do about a topic that cannot be read.
func (t *tailer) explain(topic string, err error) error {
	where := strings.Join(t.config.Kafka.Brokers, ",")
	switch {
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return fmt.Errorf("topic %q does not exist in the kafka at %s: check its name, send a first record to a route "+
			"that has it, or create it: %w", topic, where, err)
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
		return fmt.Errorf("topic %q in the kafka at %s: this user may not read it: %w", topic, where, err)
	}
	return fmt.Errorf("topic %q in the kafka at %s: %w", topic, where, err)
}

func (t *tailer) print(ctx context.Context, in <-chan *sarama.ConsumerMessage) error {
	for printed := 0; t.config.Count == 0 || printed < t.config.Count; printed++ {
		select {
		case m := <-in:
			if err := t.printer.Print(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errCount
}

func sleep(ctx context.Context) error {
	select {
	case <-time.After(poll):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
