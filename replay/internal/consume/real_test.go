package consume

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// realKafka is a real broker, for what the embedded one may do differently.
type realKafka struct{ *kafka.Broker }

func (r realKafka) ListenAddrs() []string { return []string{r.Addr()} }

func startReal(t *testing.T) realKafka {
	t.Helper()
	cluster := realKafka{kafka.Start(t, kafka.Config{Properties: map[string]string{
		"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000", "auto.create.topics.enable": "false"}})}
	admin, err := sarama.NewClusterAdminFromClient(kafkaClient(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateTopic("leads", &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	cluster.CreateTopic("dead", map[string]string{"max.message.bytes": "5000"})
	return cluster
}

// Members come, go and are stopped in the middle of things, the broker restarts, and letters are too large: each message is
// delivered once, in the order of its key.
func TestRealKafka(t *testing.T) {
	cluster := startReal(t)
	fill(t, cluster, 0, 400, 4)
	large := request(noise(6000), "large")
	send(t, cluster, message(large, 0))
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	b := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
		switch body := string(a.Record.Body); {
		case body == string(large.Body):
			return flow.Outcome{Verdict: flow.Rejected, Status: 400, Reason: "the target said 400"}
		case body == "77":
			begun <- struct{}{}
			select {
			case <-hold:
			case <-ctx.Done():
				return flow.Outcome{Verdict: flow.Canceled}
			}
		}
		return delivered()
	})
	c := config(cluster)
	c.DrainTimeout = 500 * time.Millisecond
	one := run(t, c, b)
	<-begun
	b.await(t, 400-33) // 77, and those of its key behind it
	eventually(t, "the letter is there", func() bool { return len(read(t, cluster, "dead")) == 1 })
	one.end() // while one is under way
	at := committed(t, cluster, "g", "leads", 4)
	if at[1].offset != 19 || at[1].metadata == "" {
		t.Errorf("committed %+v, want 19 with metadata", at[1])
	}
	if l := lettersIn(t, cluster)[0]; l.failure.StoredAt != "leads/0/100" || l.body != "" {
		t.Errorf("the letter of what is too large: %+v", l)
	}
	close(hold)
	two, three := run(t, c, b), run(t, c, b)
	b.await(t, 400)
	eventually(t, "both have partitions", func() bool {
		return two.consumer.Progress().Partitions == 2 && three.consumer.Progress().Partitions == 2
	})
	fill(t, cluster, 400, 200, 4)
	b.await(t, 600)
	cluster.Stop()
	cluster.Restart()
	fill(t, cluster, 600, 200, 4)
	b.await(t, 800)
	two.end()
	eventually(t, "the other has all partitions", func() bool { return three.consumer.Progress().Partitions == 4 })
	three.end()
	b.checkOrder(t)
	if n := b.repeats(); n > 0 {
		t.Errorf("%d repeats", n)
	}
	at = committed(t, cluster, "g", "leads", 4)
	if want := []position{{201, ""}, {200, ""}, {200, ""}, {200, ""}}; !slices.Equal(at, want) {
		t.Errorf("committed %v, want %v", at, want)
	}
	// A run with an end, of a group that has never been.
	c.Group, c.Until = "other", time.Now()
	again := newBackend(nil)
	if err := run(t, c, again).wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := len(again.delivered()); got != 801 {
		t.Errorf("%d sent, want 801", got)
	}
	var shown []string
	c.Group = "g"
	p := connect(t, c, b)
	defer func() { _ = p.consumer.Close() }()
	if err := p.consumer.Peek(t.Context(), func(m *flow.Message) error {
		shown = append(shown, fmt.Sprint(m.Partition, " ", m.Offset))
		return nil
	}); err != nil || len(shown) > 0 {
		t.Errorf("Peek: %v, shown %q", err, shown)
	}
}
