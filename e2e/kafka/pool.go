package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// MessageLimit is how many bytes a batch of records may have, compressed, on a borrowed broker.
const MessageLimit = 8 << 20

// cleanTimeout is for deleting what a test has left behind.
const cleanTimeout = 10 * time.Second

// pool has the brokers that were borrowed and came back.
var pool struct {
	sync.Mutex
	idle []*Broker
}

// Borrow returns a broker that has nothing on it and that nobody else has. It runs on when the test ends, for the next one that
// borrows: that saves a start, and Java's first, slow seconds. ClosePool ends it.
//
// A test that changes the broker's settings, or wants other ones, must Start its own. One that fails, or that does not leave the
// broker running, or leaves members in a group, is the last to have it.
func Borrow(t Test) *Broker {
	t.Helper()
	b := idle()
	if b == nil {
		dir, err := os.MkdirTemp("", "crowd-kafka-")
		if err != nil {
			t.Fatalf("kafka: making a directory: %v", err)
		}
		b = launch(t, dir, Config{Brief: true, Properties: map[string]string{
			"log.segment.delete.delay.ms": "1000",
			"message.max.bytes":           strconv.Itoa(MessageLimit),
		}})
	}
	lent := *b
	lent.t = t
	t.Cleanup(lent.giveBack)
	return &lent
}

// idle takes a broker out of the pool; nil if there is none.
func idle() *Broker {
	pool.Lock()
	defer pool.Unlock()
	last := len(pool.idle) - 1
	if last < 0 {
		return nil
	}
	b := pool.idle[last]
	pool.idle = pool.idle[:last]
	return b
}

// giveBack puts the broker into the pool if it is as good as new.
func (b *Broker) giveBack() {
	b.t.Helper()
	if b.t.Failed() {
		b.t.Logf("kafka: configuration, data and log are kept in %s", b.dir)
		b.end()
		return
	}
	if err := b.clean(); err != nil {
		b.t.Logf("kafka: nobody else gets this broker: %v", err)
		if err := b.discard(); err != nil {
			b.t.Errorf("kafka: %v", err)
		}
		return
	}
	pool.Lock()
	defer pool.Unlock()
	pool.idle = append(pool.idle, b)
}

// clean deletes all groups and topics.
func (b *Broker) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout) // the test's own has ended
	defer cancel()
	client, err := b.client(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)

	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("asking for the groups: %w", cause(ctx, err))
	}
	deleted, err := admin.DeleteGroups(ctx, groups.Groups()...)
	if err := errors.Join(err, deleted.Error()); err != nil {
		return fmt.Errorf("deleting the groups: %w", cause(ctx, err))
	}
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("asking for the topics: %w", cause(ctx, err))
	}
	gone, err := admin.DeleteTopics(ctx, topics.Names()...)
	if err := errors.Join(err, gone.Error()); err != nil {
		return fmt.Errorf("deleting the topics: %w", cause(ctx, err))
	}
	// The controller has deleted them. Until the broker knows, it would still take records for one of the same name.
	for {
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			return fmt.Errorf("waiting until the topics are deleted: %w", cause(ctx, err))
		}
		if len(topics) == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // nothing announces it
	}
}

// discard ends the broker and removes what it has on disk.
func (b *Broker) discard() error {
	b.end()
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("removing the broker's directory: %w", err)
	}
	return nil
}

// ClosePool ends the brokers of the pool; it must be called when all tests of the process have ended.
func ClosePool() error {
	pool.Lock()
	defer pool.Unlock()
	var errs []error
	for _, b := range pool.idle {
		errs = append(errs, b.discard())
	}
	pool.idle = nil
	return errors.Join(errs...)
}
