package consume

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// patience is for what takes milliseconds unless the machine is busy.
const patience = 30 * time.Second

// brokers are a Kafka, embedded or real.
type brokers interface{ ListenAddrs() []string }

// start starts a Kafka with topic leads, of so many partitions, and the dead-letter topic, of one.
func start(t testing.TB, partitions int32, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	return kafkatest.Start(t, append([]kfake.Opt{kfake.SeedTopics(partitions, "leads"), kfake.SeedTopics(1, "dead"), kfake.GroupMinSessionTimeout(time.Second)}, options...)...)
}

// backend is where messages are sent to: it remembers them, and answers as send says, or delivers all.
type backend struct {
	send func(context.Context, flow.Attempt) flow.Outcome

	mu    sync.Mutex
	seen  []string         // bodies, in the order in which they were delivered
	times map[string]int   // how often each was
	busy  map[string]bool  // places and keys of which something is under way
	mixed []string         // those of which two were at once
	moved chan struct{}    // closed when seen grows
	last  map[string]int64 // by place and key: the highest offset delivered
	back  []string         // what was delivered for the first time after what is behind it
}

func newBackend(send func(context.Context, flow.Attempt) flow.Outcome) *backend {
	return &backend{send: send, times: map[string]int{}, busy: map[string]bool{}, moved: make(chan struct{}), last: map[string]int64{}}
}

func delivered() flow.Outcome { return flow.Outcome{Verdict: flow.Delivered, Status: 200} }

func (b *backend) attempt(ctx context.Context, a flow.Attempt) flow.Outcome {
	order := fmt.Sprintf("%s/%d %s", a.Topic, a.Partition, a.Record.Key)
	b.mu.Lock()
	if b.busy[order] {
		b.mixed = append(b.mixed, order)
	}
	b.busy[order] = true
	b.mu.Unlock()
	outcome := delivered()
	if b.send != nil {
		outcome = b.send(ctx, a)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy[order] = false
	if outcome.Verdict == flow.Delivered {
		body := string(a.Record.Body)
		if last, ok := b.last[order]; ok && a.Offset < last && b.times[body] == 0 {
			b.back = append(b.back, fmt.Sprintf("%s at %d after %d", order, a.Offset, last))
		}
		b.last[order] = max(b.last[order], a.Offset)
		b.seen = append(b.seen, body)
		b.times[body]++
		close(b.moved)
		b.moved = make(chan struct{})
	}
	return outcome
}

// await waits until so many different messages have been delivered.
func (b *backend) await(t testing.TB, n int) {
	t.Helper()
	timeout := time.After(patience)
	for {
		b.mu.Lock()
		got, moved := len(b.times), b.moved
		b.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-moved:
		case <-timeout:
			t.Fatalf("%d messages delivered, want %d", got, n)
		}
	}
}

func (b *backend) repeats() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen) - len(b.times)
}

func (b *backend) delivered() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.seen))
}

// checkOrder fails the test if two of one key were under way at once, or in the wrong order.
func (b *backend) checkOrder(t testing.TB) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mixed) > 0 || len(b.back) > 0 {
		t.Errorf("order by key broken: at once %q, out of order %q", b.mixed, b.back)
	}
}

// process is a replay under test.
type process struct {
	t        testing.TB
	consumer *Consumer
	engine   *flow.Engine
	log      *logBuffer
	stop     context.CancelFunc
	ended    chan error
}

const concurrency = 10

// config is what tests begin with.
func config(cluster brokers) Config {
	return Config{
		Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Group: "g", Topics: []string{"leads"}, DeadLetterTopic: "dead",
		RequestTimeout: 2 * time.Second, DrainTimeout: 5 * time.Second,
	}
}

// connect returns a process that does not run yet.
func connect(t testing.TB, c Config, b *backend) *process {
	t.Helper()
	p := &process{t: t, log: &logBuffer{also: t.Output()}, ended: make(chan error, 1)}
	t.Cleanup(p.log.end)
	c.Log = slogTo(p.log)
	var err error
	if p.consumer, err = New(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	group := &p.consumer.settings.membership.Consumer.Group
	group.Heartbeat.Interval, group.Session.Timeout = 50*time.Millisecond, 6*time.Second
	p.consumer.settings.membership.Consumer.MaxWaitTime = 50 * time.Millisecond
	p.engine = flow.New(flow.Options{
		Send: b.attempt, Bury: p.consumer.Bury, Attempted: func(flow.Attempt, flow.Outcome) {}, Buried: func(*flow.Message, flow.Letter) {},
		Order: flow.ByKey, MaxAttempts: 1000, InitialBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		Failures: 1000, Of: 1000, Delay: time.Second, MaxDelay: time.Second, MaxBufferBytes: 16 << 20, Log: c.Log,
	}, flow.Limits{Rate: math.Inf(1), Concurrency: concurrency, KeyRate: math.Inf(1)})
	return p
}

// run starts a process, which ends with the test if not before.
func run(t testing.TB, c Config, b *backend) *process {
	t.Helper()
	p := connect(t, c, b)
	p.run()
	return p
}

func (p *process) run() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	engineCtx, stopEngine := context.WithCancel(context.Background())
	engineEnded := make(chan struct{})
	go func() {
		defer close(engineEnded)
		p.engine.Run(engineCtx)
	}()
	go func() {
		err := p.consumer.Run(ctx, p.engine)
		stopEngine()
		<-engineEnded
		_ = p.consumer.Close()
		p.ended <- err
	}()
	p.t.Cleanup(func() {
		stop()
		select {
		case err := <-p.ended:
			if err != nil {
				p.t.Logf("Run: %v", err)
			}
		case <-time.After(patience):
			p.t.Error("a process does not end")
		}
	})
}

// wait waits for the end of a process and returns what Run did.
func (p *process) wait() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(patience):
		p.t.Fatal("a process does not end")
		return nil
	}
}

// end ends a process.
func (p *process) end() {
	p.t.Helper()
	p.stop()
	if err := p.wait(); err != nil {
		p.t.Errorf("Run: %v", err)
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// logBuffer is a log that is looked into.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	also io.Writer // nil: nothing
}

// end ends writing to the test's output: sarama may be left in the background when a process has ended.
func (l *logBuffer) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.also = nil
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.also != nil {
		_, _ = l.also.Write(p)
	}
	return l.text.Write(p)
}

func (l *logBuffer) has(text string) bool { return l.count(text) > 0 }

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// kafkaClient returns a client for what tests do beside.
func kafkaClient(t testing.TB, cluster brokers) sarama.Client {
	t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = true, sarama.WaitForAll, 1 // each message is there once
	c.Metadata.AllowAutoTopicCreation = false
	client, err := sarama.NewClient(cluster.ListenAddrs(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// request is a record of a request with a body and a key.
func request(body, key string) record.Record {
	at := time.Now()
	return record.Record{
		ID: record.NewID(at), Received: at, Route: "leads", Topic: "leads", Key: []byte(key),
		Method: "POST", Scheme: "https", Authority: "shop.example", Path: "/leads", Body: []byte(body),
	}
}

// message is how a record stands in a partition.
func message(r record.Record, partition int32, more ...record.Header) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: r.Topic, Partition: partition, Timestamp: r.Received, Key: sarama.ByteEncoder(r.Key),
		Value: sarama.ByteEncoder(r.Body)}
	for _, h := range append(r.KafkaHeaders(false), more...) {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: []byte(h.Value)})
	}
	return m
}

func send(t testing.TB, cluster brokers, messages ...*sarama.ProducerMessage) {
	t.Helper()
	producer, err := sarama.NewSyncProducerFromClient(kafkaClient(t, cluster))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = producer.Close() }()
	if err := producer.SendMessages(messages); err != nil {
		t.Fatal(err)
	}
}

// fill writes requests 0 to n-1, with keys k0 to k9, evenly into the partitions of leads.
func fill(t testing.TB, cluster brokers, from, n int, partitions int32) {
	t.Helper()
	var all []*sarama.ProducerMessage
	for i := range n {
		all = append(all, message(request(fmt.Sprint(from+i), fmt.Sprintf("k%d", i%10)), int32(i)%partitions))
	}
	send(t, cluster, all...)
}

// committed returns what a group has committed for partitions of a topic.
func committed(t testing.TB, cluster brokers, group, topic string, partitions int32) []position {
	t.Helper()
	c := &Consumer{group: group, client: kafkaClient(t, cluster)}
	var places []place
	for p := range partitions {
		places = append(places, place{topic, p})
	}
	found, err := c.positions(places)
	if err != nil {
		t.Fatal(err)
	}
	var positions []position
	for _, p := range places {
		positions = append(positions, found[p])
	}
	return positions
}

func slogTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// read returns the records of a topic's only partition.
func read(t testing.TB, cluster brokers, topic string) []*sarama.ConsumerMessage {
	t.Helper()
	client := kafkaClient(t, cluster)
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	end, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
	if err != nil {
		t.Fatal(err)
	}
	from, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	var all []*sarama.ConsumerMessage
	for int64(len(all)) < end {
		select {
		case m := <-from.Messages():
			all = append(all, m)
		case <-time.After(patience):
			t.Fatalf("%d records of %s, want %d", len(all), topic, end)
		}
	}
	return all
}
