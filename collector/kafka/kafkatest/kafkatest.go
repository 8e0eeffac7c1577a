// Package kafkatest is what tests with an embedded Kafka have in common.
package kafkatest

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Start starts an embedded cluster of one broker, unless the options say otherwise, that lives as long as the
// test.
func Start(t testing.TB, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// Read returns the records of a topic, partition by partition.
func Read(t testing.TB, cluster *kfake.Cluster, topic string) []*sarama.ConsumerMessage {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.MaxWaitTime = 20 * time.Millisecond
	client, err := sarama.NewClient(cluster.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := client.Partitions(topic)
	if err != nil {
		t.Fatal(err)
	}
	var all []*sarama.ConsumerMessage
	for _, p := range partitions {
		end, err := client.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			t.Fatal(err)
		}
		if end == 0 {
			continue
		}
		pc, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		for m := range pc.Messages() {
			all = append(all, m)
			if m.Offset == end-1 {
				break
			}
		}
		if err := pc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// NoGoroutinesLeft fails the test if, when everything else of it has been cleaned up, goroutines of sarama or
// crowd are there that are not now. Call it first.
func NoGoroutinesLeft(t testing.TB) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		var left []string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			left = nil
			for id, stack := range goroutines() {
				if _, old := before[id]; !old {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("goroutines left behind:\n%s", strings.Join(left, "\n\n"))
	})
}

// goroutines returns the stacks of sarama's and crowd's goroutines by "goroutine ID", less those of tests.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	found := map[string]string{}
	for i, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i > 0 && !strings.Contains(stack, "testing.") &&
			(strings.Contains(stack, "IBM/sarama.") || strings.Contains(stack, "crowd/collector")) {
			id, _, _ := strings.Cut(stack, " [")
			found[id] = stack
		}
	}
	return found
}
