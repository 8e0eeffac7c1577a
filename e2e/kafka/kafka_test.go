package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

// TestBroker does to one broker, in turn, what end-to-end tests do to theirs.
func TestBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b := kafka.Start(t, kafka.Config{Properties: map[string]string{"message.max.bytes": "3000000"}})

	want := produce(t, b, "a", 100)
	maps.Copy(want, produce(t, b, "b", 7))

	// Each step leaves the records as they are.
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"read back", func(*testing.T) {}},
		{"stop and restart", func(*testing.T) { b.Stop(); b.Restart() }},
		{"kill and restart", func(*testing.T) { b.Kill(); b.Restart() }},
		{"pause and continue", func(t *testing.T) {
			b.Pause()
			defer b.Continue()
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if records, err := b.ReadAll(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a paused broker answered: %d records, error %v", len(records), err)
			}
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.do(t)
			if diff := cmp.Diff(want, readAll(ctx, t, b, "a", "b")); diff != "" {
				t.Errorf("records (-produced +read):\n%s", diff)
			}
		})
	}

	t.Run("properties", func(t *testing.T) {
		p := producer(t, b)
		for _, c := range []struct {
			bytes int
			want  error
		}{{2_900_000, nil}, {3_100_000, sarama.ErrMessageSizeTooLarge}} {
			_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "large", Value: sarama.ByteEncoder(make([]byte, c.bytes))})
			if !errors.Is(err, c.want) {
				t.Errorf("producing %d bytes: %v; want %v", c.bytes, err, c.want)
			}
		}
	})

	t.Run("records wait for more", func(t *testing.T) {
		n := 0
		for r, err := range b.Records(ctx, "b") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 7 {
				produce(t, b, "b", 1)
			}
			if n == 8 {
				if got, want := string(r.Value), "b 0"; got != want {
					t.Errorf("last record %q; want %q", got, want)
				}
				break
			}
		}
	})

	t.Run("count", func(t *testing.T) {
		if n, err := b.Count(ctx, "a"); n != 100 || err != nil {
			t.Errorf("%d records, error %v; want 100", n, err)
		}
	})

	t.Run("delete a topic", func(t *testing.T) {
		produce(t, b, "c", 1)
		b.DeleteTopic("c")
		_, err := b.Count(ctx, "c")
		for err == nil { // the controller knows it before the broker
			_, err = b.Count(ctx, "c")
		}
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("error %v; want %v", err, kerr.UnknownTopicOrPartition)
		}
	})

	t.Run("unknown topic", func(t *testing.T) {
		if _, err := b.ReadAll(ctx, "nobody-wrote-here"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("error %v; want %v", err, kerr.UnknownTopicOrPartition)
		}
	})
}

// produce writes n records, keyed over all partitions, and returns what ReadAll should find of them.
func produce(t *testing.T, b *kafka.Broker, topic string, n int) map[string]string {
	t.Helper()
	p := producer(t, b)
	written := map[string]string{}
	for i := range n {
		key, value := fmt.Sprintf("%s/%d", topic, i), fmt.Sprintf("%s %d", topic, i)
		m := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(value)}
		if _, _, err := p.SendMessage(m); err != nil {
			t.Fatalf("producing to %s: %v", topic, err)
		}
		written[key] = value
	}
	return written
}

func readAll(ctx context.Context, t *testing.T, b *kafka.Broker, topics ...string) map[string]string {
	t.Helper()
	records, err := b.ReadAll(ctx, topics...)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]string{}
	for _, r := range records {
		key := string(r.Key)
		if _, twice := read[key]; twice {
			t.Errorf("record %s is there twice", key)
		}
		read[key] = string(r.Value)
	}
	return read
}

// producer is set up as the collector's is: idempotent, acknowledged by all in-sync replicas.
func producer(t *testing.T, b *kafka.Broker) sarama.SyncProducer {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Net.MaxOpenRequests = 1
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.MaxMessageBytes = 4_000_000 // the broker is to judge
	c.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer([]string{b.Addr()}, c)
	if err != nil {
		t.Fatalf("connecting a producer: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing the producer: %v", err)
		}
	})
	return p
}
