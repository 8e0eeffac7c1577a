package tail

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
)

const patience = 30 * time.Second

// lines is a writer whose lines can be awaited.
type lines struct {
	mu      sync.Mutex
	partial string
	all     chan string
}

func newLines() *lines { return &lines{all: make(chan string, 1000)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial += string(p)
	for {
		line, rest, ok := strings.Cut(l.partial, "\n")
		if !ok {
			return len(p), nil
		}
		l.all <- line
		l.partial = rest
	}
}

func (l *lines) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l.all:
		return line
	case <-time.After(patience):
		t.Fatal("nothing is printed")
		return ""
	}
}

func producer(t *testing.T, cluster *kfake.Cluster) sarama.SyncProducer {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer(cluster.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func produce(t *testing.T, p sarama.SyncProducer, topic, value string) {
	t.Helper()
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}); err != nil {
		t.Fatal(err)
	}
}

func config(cluster *kfake.Cluster, out *lines, topics ...string) Config {
	return Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Topics: topics, Out: out}
}

func TestFromTheStartUpToACount(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(3, "leads"))
	p := producer(t, cluster)
	for range 10 {
		produce(t, p, "leads", "hello")
	}
	out := newLines()
	c := config(cluster, out, "leads")
	c.FromStart, c.Count, c.JSON = true, 7, true
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if len(out.all) != 7 {
		t.Fatalf("%d lines, want 7", len(out.all))
	}
	if line := out.next(t); !strings.Contains(line, `"value":"hello"`) {
		t.Errorf("line %s", line)
	}
}

func TestFromNowOnUntilTold(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	p := producer(t, cluster)
	produce(t, p, "leads", "before")
	ctx, cancel := context.WithCancel(t.Context())
	out := newLines()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, config(cluster, out, "leads")) }()
	var line string
	for line == "" { // until it has begun to read, what is produced is in the past
		produce(t, p, "leads", "after")
		select {
		case line = <-out.all:
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !strings.HasSuffix(line, "  5 B  after") {
		t.Errorf("first line %q", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAMissingTopicIsAnErrorThatHelpsAndMakesNoTopic(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.AllowAutoTopicCreation())
	err := Run(t.Context(), config(cluster, newLines(), "laeds"))
	if err == nil || !strings.Contains(err.Error(), `topic "laeds" does not exist`) || !strings.Contains(err.Error(), "create it") {
		t.Errorf("error %v", err)
	}
	if cluster.TopicInfo("laeds") != nil {
		t.Error("the topic was created")
	}
}

func TestWaitingForTopicsThatComeLater(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "tracking", Observe: true, Count: -1})
	ctx, cancel := context.WithCancel(t.Context())
	out := newLines()
	c := config(cluster, out, "tracking", "leads")
	c.Wait = true
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	if err := asked.Wait(ctx, 2); err != nil { // once to connect, once for the topic
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("tracking", 2, nil); err != nil {
		t.Fatal(err)
	}
	p := producer(t, cluster)
	produce(t, p, "tracking", "the first record of a new topic")
	if line := out.next(t); !strings.HasSuffix(line, "the first record of a new topic") {
		t.Errorf("line %q", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTopicsThatAreAddedAreReadFromTheirStart(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads", "orders"))
	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "tracking", Observe: true, Count: -1})
	p := producer(t, cluster)
	produce(t, p, "orders", "before")
	ctx, cancel := context.WithCancel(t.Context())
	out, more := newLines(), make(chan []string)
	c := config(cluster, out)
	c.Wait, c.More = true, more
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	more <- []string{"orders"}
	if line := out.next(t); !strings.HasSuffix(line, "before") {
		t.Errorf("line %q", line)
	}
	more <- []string{"orders", "tracking"}
	if err := asked.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("tracking", 2, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, p, "tracking", "the first record of a new topic")
	if line := out.next(t); !strings.HasSuffix(line, "the first record of a new topic") {
		t.Errorf("line %q", line)
	}
	produce(t, p, "orders", "once")
	if line := out.next(t); !strings.HasSuffix(line, "once") {
		t.Errorf("line %q", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(out.all) > 0 {
		t.Errorf("printed twice: %q", <-out.all)
	}
}

func TestKafkaThatCannotBeReached(t *testing.T) {
	cluster := kafkatest.Start(t)
	c := config(cluster, newLines(), "leads")
	cluster.Close()
	if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "cannot be reached; is it running") {
		t.Errorf("error %v", err)
	}
}

func TestAWriterThatFailsEndsIt(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	produce(t, producer(t, cluster), "leads", "x")
	c := config(cluster, nil, "leads")
	c.FromStart, c.Out = true, failing{}
	if err := Run(t.Context(), c); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}

var errFull = errors.New("no space left")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestValidateReturnsEverythingThatIsWrong(t *testing.T) {
	err := Config{Topics: []string{""}, Count: -1, Out: &bytes.Buffer{}}.Validate()
	for _, want := range []string{"no broker", "without a name", "a count of -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// A topic that has just been created may have no leaders yet, and then it is read all the same.
func TestWaitsForALeader(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition, Count: 2})
	produce(t, producer(t, cluster), "leads", "hello")
	out := newLines()
	c := config(cluster, out, "leads")
	c.Wait, c.FromStart, c.Count = true, true, 1
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := Run(ctx, c); err != nil {
		t.Fatal(err)
	}
	if fault.Hits() < 2 {
		t.Errorf("%d faults, want 2", fault.Hits())
	}
}

// That a topic's leader is not known for a moment does not make a new topic of it.
func TestNewRecordsOnlyAfterTrouble(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	p := producer(t, cluster)
	produce(t, p, "leads", "old")
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "leads", Err: kerr.LeaderNotAvailable, Count: 2})
	listed := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := newLines()
	c := config(cluster, out, "leads")
	c.Wait, c.Count, c.JSON = true, 1, true
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	if err := fault.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := listed.Wait(ctx, 1); err != nil { // where it begins to read is settled
		t.Fatal(err)
	}
	produce(t, p, "leads", "new")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if line := <-out.all; !strings.Contains(line, `"value":"new"`) {
		t.Errorf("printed %s, want the record that is new", line)
	}
}
