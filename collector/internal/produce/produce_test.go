package produce

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func start(t testing.TB, c Config) *Producer {
	t.Helper()
	p, err := New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func startWith(t testing.TB, cluster *kfake.Cluster) *Producer {
	t.Helper()
	return start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}})
}

// send produces a batch that is not stored yet and returns where its outcome arrives.
func send(p *Producer, records ...record.Record) <-chan []Refusal {
	return sendAs(p, false, records...)
}

func sendAs(p *Producer, stored bool, records ...record.Record) <-chan []Refusal {
	outcome := make(chan []Refusal, 2)
	items := make([]Item, len(records))
	for i := range records {
		items[i] = Item{Index: i, Record: records[i]}
	}
	p.Produce(Batch{Items: items, Stored: stored}, func(refused []Refusal) { outcome <- refused })
	return outcome
}

func await(t testing.TB, outcome <-chan []Refusal) []Refusal {
	t.Helper()
	select {
	case refused := <-outcome:
		return refused
	case <-time.After(patience):
		t.Fatal("the batch is not done")
		return nil
	}
}

func awaitStored(t testing.TB, outcome <-chan []Refusal) {
	t.Helper()
	if refused := await(t, outcome); len(refused) > 0 {
		t.Fatalf("refused: %+v", refused)
	}
}

func notDone(t testing.TB, outcome <-chan []Refusal) {
	t.Helper()
	select {
	case refused := <-outcome:
		t.Fatalf("the batch is done, refused %v", refused)
	default:
	}
}

// awaitHits waits until so many requests were faulted.
func awaitHits(t testing.TB, f *kfake.FaultHandle, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Wait(ctx, n); err != nil {
		t.Fatal(err)
	}
}

var received = time.Date(2026, 11, 23, 10, 11, 12, 131415926, time.UTC)

func post(topic string, body []byte) record.Record {
	return record.Record{
		ID: record.NewID(received), Received: received, Route: "leads", Ack: record.LevelMemory, Topic: topic,
		Method: "POST", Scheme: "https", Authority: "shop.example", Path: "/leads?x=1", Source: "192.0.2.1:999",
		Headers: []record.Header{{Name: "content-type", Value: "application/json"}, {Name: "x-empty"}},
		Body:    body,
	}
}

func posts(topic string, n int) []record.Record {
	out := make([]record.Record, n)
	for i := range out {
		out[i] = post(topic, fmt.Appendf(nil, "%s %d", topic, i))
	}
	return out
}

// noise is incompressible: brokers measure what is compressed.
func noise(n int) []byte {
	out := make([]byte, n)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(out)
	return out
}

func bodies(messages []*sarama.ConsumerMessage) []string {
	out := make([]string, len(messages))
	for i, m := range messages {
		out[i] = string(m.Value)
	}
	slices.Sort(out)
	return out
}

func bodiesOf(records []record.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r.Body)
	}
	slices.Sort(out)
	return out
}

func sameBodies(t *testing.T, cluster *kfake.Cluster, topic string, want []record.Record) {
	t.Helper()
	if diff := cmp.Diff(bodiesOf(want), bodies(kafkatest.Read(t, cluster, topic))); diff != "" {
		t.Errorf("topic %s (-want +got):\n%s", topic, diff)
	}
}

func TestARecordStandsInKafkaAsDescribed(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(3, "leads"))
	for _, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		p := start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Compression: compression})
		body := bytes.Repeat([]byte("\x00binary\xff "+compression), 100)
		null, empty, keyed := post("leads", body), post("leads", nil), post("leads", []byte("{}"))
		empty.Key, keyed.Key = []byte{}, []byte("lead-4711")
		records := []record.Record{null, empty, keyed}
		awaitStored(t, send(p, records...))
		for _, m := range kafkatest.Read(t, cluster, "leads") {
			i := slices.IndexFunc(records, func(r record.Record) bool {
				return slices.ContainsFunc(m.Headers, func(h *sarama.RecordHeader) bool {
					return string(h.Key) == "ce_id" && string(h.Value) == r.ID.String()
				})
			})
			if i < 0 {
				continue // of the round before
			}
			var got []record.Header
			for _, h := range m.Headers {
				got = append(got, record.Header{Name: string(h.Key), Value: string(h.Value)})
			}
			if diff := cmp.Diff(records[i].KafkaHeaders(false), got); diff != "" {
				t.Errorf("%s: headers (-want +got):\n%s", compression, diff)
			}
			if !bytes.Equal(m.Value, records[i].Body) || m.Value == nil {
				t.Errorf("%s: value %q, want %q", compression, m.Value, records[i].Body)
			}
			if string(m.Key) != string(records[i].Key) || (m.Key == nil) != (records[i].Key == nil) {
				t.Errorf("%s: key %#v, want %#v", compression, m.Key, records[i].Key)
			}
			if m.Key != nil && m.Partition != partitionOf(m.Key, 3) {
				t.Errorf("%s: key %q in partition %d", compression, m.Key, m.Partition)
			}
			if want := received.Truncate(time.Millisecond); !m.Timestamp.Equal(want) {
				t.Errorf("%s: timestamp %v, want %v", compression, m.Timestamp, want)
			}
			records = slices.Delete(records, i, i+1)
		}
		if len(records) > 0 {
			t.Errorf("%s: not in kafka: %v", compression, records)
		}
	}
}

func TestDoneOnlyAfterKafka(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicas, Count: -1,
	})
	p := startWith(t, cluster)
	records := posts("leads", 100)
	outcome := send(p, records...)
	awaitHits(t, fault, 3)
	notDone(t, outcome)
	fault.Remove()
	awaitStored(t, outcome)
	sameBodies(t, cluster, "leads", records)
}

// Records that are stored go in as few requests as the linger allows. What is not stored is there sooner, and what is enough for
// a request.
func TestLinger(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	var requests atomic.Int64
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	p := startWith(t, cluster)
	awaitStored(t, send(p, posts("leads", 1)...)) // connected

	requests.Store(0)
	began := time.Now()
	for range 200 {
		sendAs(p, true, posts("leads", 1)...)
		time.Sleep(200 * time.Microsecond)
	}
	awaitStored(t, sendAs(p, true, posts("leads", 1)...))
	if most := int64(time.Since(began)/bulkLinger) + 1; requests.Load() > most {
		t.Errorf("%d requests in %v, want %d at most", requests.Load(), time.Since(began), most)
	}

	full := post("leads", make([]byte, bulkFlush/4)) // compresses well: that is not what is timed
	for name, produce := range map[string]func() <-chan []Refusal{
		"what is not stored": func() <-chan []Refusal { return send(p, posts("leads", 1)...) },
		"what is enough":     func() <-chan []Refusal { return sendAs(p, true, full, full, full, full) },
	} {
		fastest := time.Hour
		for range 50 {
			began := time.Now()
			awaitStored(t, produce())
			fastest = min(fastest, time.Since(began))
		}
		if t.Logf("%s takes %v", name, fastest); fastest >= bulkLinger {
			t.Errorf("%s takes %v", name, fastest)
		}
	}
}

func TestAnEmptyBatchIsDoneAtOnce(t *testing.T) {
	p := startWith(t, kafkatest.Start(t))
	awaitStored(t, send(p))
}

func TestTooLargeIsRefusedByNameAndHoldsNothingUp(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t)
	for topic, limit := range map[string]string{"small": "100000", "large": "8000000"} {
		if err := cluster.CreateTopic(topic, 1, map[string]string{"max.message.bytes": limit}); err != nil {
			t.Fatal(err)
		}
	}
	p := startWith(t, cluster)
	records := posts("small", 10)
	records[4].Body = noise(200_000)   // too large for the topic
	records[7].Body = noise(2_000_000) // and for a Kafka batch of many
	refused := await(t, send(p, records...))
	if len(refused) != 2 || refused[0].Index != 4 || refused[1].Index != 7 {
		t.Fatalf("refused %+v, want indices 4 and 7", refused)
	}
	for i, size := range []string{"2004", "20004"} { // and some bytes that are headers'
		r := records[refused[i].Index]
		want := fmt.Sprintf("record %s of route \"leads\": larger than topic small takes (%s", r.ID, size)
		if !strings.HasPrefix(refused[i].Reason, want) || refused[i].Class != ClassTooLarge {
			t.Errorf("refusal %+v, want %q", refused[i], want)
		}
	}
	sameBodies(t, cluster, "small", slices.Concat(records[:4], records[5:7], records[8:]))

	large := posts("large", 3)
	large[1].Body = noise(5 << 20)
	awaitStored(t, send(p, large...))
	sameBodies(t, cluster, "large", large)
}

func TestLongerThanTheProducerTakesIsRefused(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	p := startWith(t, cluster)
	records := posts("leads", 2)
	records[0].Body = make([]byte, soloBytes)
	refused := await(t, send(p, records...))
	if len(refused) != 1 || refused[0].Index != 0 || refused[0].Class != ClassTooLarge {
		t.Fatalf("refused %+v, want index 0", refused)
	}
}

func TestAKafkaBatchThatIsTooLargeIsTriedRecordByRecord(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t)
	if err := cluster.CreateTopic("small", 1, map[string]string{"max.message.bytes": "5000"}); err != nil {
		t.Fatal(err)
	}
	p := startWith(t, cluster)
	records := posts("small", 50)
	for i := range records {
		records[i].Body = noise(3000)
	}
	awaitStored(t, send(p, records...))
	sameBodies(t, cluster, "small", records)
}

func TestOneRejectedRecordDoesNotTakeItsKafkaBatchWithIt(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	poison := []byte("poison")
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.InvalidRecord, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, topic := range r.(*kmsg.ProduceRequest).Topics {
				for _, partition := range topic.Partitions {
					if bytes.Contains(partition.Records, poison) {
						return true
					}
				}
			}
			return false
		},
	})
	p := start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Compression: "none"})
	records := posts("leads", 20)
	records[11].Body = poison
	refused := await(t, send(p, records...))
	if len(refused) != 1 || refused[0].Index != 11 || refused[0].Class != ClassRejected {
		t.Fatalf("refused %+v, want index 11", refused)
	}
	sameBodies(t, cluster, "leads", slices.Delete(records, 11, 12))
}

func TestATimestampThatKafkaDoesNotTakeLosesNoRecord(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	old := received.Add(-time.Hour)
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.InvalidTimestamp, Count: -1,
		When: func(r kmsg.Request) bool {
			var batch kmsg.RecordBatch
			if err := batch.ReadFrom(r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records); err != nil {
				t.Error(err)
			}
			return batch.FirstTimestamp == old.UnixMilli()
		},
	})
	p := startWith(t, cluster)
	before := time.Now().Truncate(time.Millisecond)
	records := posts("leads", 20)
	records[0].Received = old                       // first, so that the batch begins with it
	records[9].Received = before.Add(2 * time.Hour) // further ahead than brokers take
	awaitStored(t, send(p, records...))
	sameBodies(t, cluster, "leads", records)
	for _, m := range kafkatest.Read(t, cluster, "leads") {
		switch string(m.Value) {
		case "leads 0", "leads 9":
			if m.Timestamp.Before(before) || m.Timestamp.After(time.Now()) {
				t.Errorf("%s: timestamp %v, want that of storing", m.Value, m.Timestamp)
			}
		default:
			if !m.Timestamp.Equal(received.Truncate(time.Millisecond)) {
				t.Errorf("%s: timestamp %v, though there was nothing wrong with its own", m.Value, m.Timestamp)
			}
		}
	}

	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.InvalidTimestamp, Count: -1})
	refused := await(t, send(p, posts("leads", 2)...)) // the collector's own clock is wrong, too
	if len(refused) != 2 || refused[0].Class != ClassRejected {
		t.Errorf("refused %+v, want both", refused)
	}
}

func TestTopicsThatCannotExistAreRefused(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads", "internal"))
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "forbidden", Err: kerr.InvalidTopicException, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "internal", Err: kerr.InvalidTopicException, Count: -1})
	p := startWith(t, cluster)
	var records []record.Record
	names := []string{"", ".", "..", "a b", "é", "x/y", strings.Repeat("x", 250), "leads", "forbidden", "internal"}
	for _, topic := range names {
		records = append(records, post(topic, []byte(topic)))
	}
	var got []string
	for _, r := range await(t, send(p, records...)) {
		if r.Class != ClassTopic {
			t.Errorf("%+v", r)
		}
		got = append(got, names[r.Index])
	}
	if diff := cmp.Diff(slices.DeleteFunc(names, func(s string) bool { return s == "leads" }), got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestATopicThatCannotBeWrittenDoesNotHoldUpOthers(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.NumBrokers(2), kfake.SeedTopics(4, "leads", "stuck", "forbidden"))
	produceFault := func(topic string, err *kerr.Error) *kfake.FaultHandle {
		return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: err, Count: -1})
	}
	stuckFault := produceFault("stuck", kerr.NotEnoughReplicas)
	forbiddenFault := produceFault("forbidden", kerr.TopicAuthorizationFailed)
	p := startWith(t, cluster)

	const many = 3 * bulkUnderWay // more than sarama has room for
	failing := map[string][]record.Record{}
	outcomes := map[string]<-chan []Refusal{}
	for _, topic := range []string{"missing", "stuck", "forbidden"} {
		failing[topic] = posts(topic, many)
		outcomes[topic] = send(p, failing[topic]...)
	}
	awaitHits(t, stuckFault, 1)
	awaitHits(t, forbiddenFault, 1)

	began := time.Now()
	var leads []record.Record
	for i := range 50 {
		r := posts("leads", 100)
		for j := range r {
			r[j].Body = fmt.Appendf(nil, "leads %d %d", i, j)
		}
		leads = append(leads, r...)
		awaitStored(t, send(p, r...))
	}
	t.Logf("50 batches one after the other took %v", time.Since(began))
	sameBodies(t, cluster, "leads", leads)
	for _, outcome := range outcomes {
		notDone(t, outcome)
	}

	stuckFault.Remove()
	forbiddenFault.Remove()
	if err := cluster.CreateTopic("missing", 4, nil); err != nil {
		t.Fatal(err)
	}
	for topic, outcome := range outcomes {
		awaitStored(t, outcome)
		sameBodies(t, cluster, topic, failing[topic])
	}
}

func TestKafkaDownThenUp(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	first, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "leads"))
	if err != nil {
		t.Fatal(err)
	}
	address := first.ListenAddrs()[0]
	restart := func() *kfake.Cluster {
		return kafkatest.Start(t, kfake.SeedTopics(2, "leads"), kfake.Ports(portOf(t, address)))
	}
	p := start(t, Config{Kafka: kafka.Config{Brokers: []string{address}}})
	awaitStored(t, send(p, posts("leads", 100)...))

	first.Close()
	records := posts("leads", 1000)
	outcome := send(p, records...)
	notDone(t, outcome)
	second := restart()
	awaitStored(t, outcome)
	sameBodies(t, second, "leads", records)
}

func TestNothingIsLostBeforeKafkaIsUp(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	probe, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	address := probe.ListenAddrs()[0]
	probe.Close()
	p := start(t, Config{Kafka: kafka.Config{Brokers: []string{address}}})
	records := posts("leads", 10)
	outcome := send(p, records...)
	select {
	case <-p.Connected():
		t.Fatal("connected to a port that nobody listens on")
	default:
	}
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"), kfake.Ports(portOf(t, address)))
	<-p.Connected()
	awaitStored(t, outcome)
	sameBodies(t, cluster, "leads", records)
}

func TestNoProducerIDIsNotAConnection(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.ClusterAuthorizationFailed, Count: -1,
	})
	p := startWith(t, cluster)
	awaitHits(t, fault, 2)
	select {
	case <-p.Connected():
		t.Fatal("connected without a producer id")
	default:
	}
	fault.Remove()
	<-p.Connected()
	awaitStored(t, send(p, posts("leads", 1)...))
}

func TestCloseFinishesWhatItHas(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(3, "leads"))
	p, err := New(Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	records := posts("leads", 10_000)
	outcome := send(p, records...)
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitStored(t, outcome)
	sameBodies(t, cluster, "leads", records)
}

func TestCloseGivesUpWithoutCallingWhatWasNotStoredDone(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicas, Count: -1,
	})
	p, err := New(Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	outcome := send(p, posts("leads", 100)...)
	awaitHits(t, fault, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx); err == nil {
		t.Error("Close is content with records left")
	}
	notDone(t, outcome)
}

// sarama sends a batch again by itself and does not say so. What Kafka then rejects, it may have stored the first time.
func TestWhatWasRejectedInALaterAttemptIsMarked(t *testing.T) {
	for _, rejection := range []*kerr.Error{kerr.MessageTooLarge, kerr.InvalidTimestamp, kerr.InvalidRecord} {
		t.Run(rejection.Message, func(t *testing.T) {
			kafkatest.NoGoroutinesLeft(t)
			cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
			cluster.Fault(
				kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicasAfterAppend},
				kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: rejection})
			p := startWith(t, cluster)
			records := posts("leads", 1)
			awaitStored(t, send(p, records...))
			stored := kafkatest.Read(t, cluster, "leads")
			if len(stored) != 2 || marked(stored[0]) || !marked(stored[1]) {
				t.Errorf("stored %d times, want twice and the second marked", len(stored))
			}
		})
	}
}

func marked(m *sarama.ConsumerMessage) bool {
	return slices.ContainsFunc(m.Headers, func(h *sarama.RecordHeader) bool {
		return string(h.Key) == "crowd-redelivered"
	})
}

func TestCloseDoesNotWaitForAKafkaThatNeverAnswered(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	p, err := New(Config{Kafka: kafka.Config{Brokers: []string{silent.Addr().String()}}},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	connection, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // far less than dialing may take
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
}

// Whatever Kafka answers, every record ends up there, and one that is there twice is marked.
func TestEveryRecordSurvivesFaults(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.NumBrokers(3), kfake.SeedTopics(6, "leads"))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	errs := []*kerr.Error{
		kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas, kerr.NotLeaderForPartition,
		kerr.KafkaStorageError, kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.UnknownServerError,
		kerr.UnknownTopicOrPartition,
	}
	p := startWith(t, cluster)
	var all []record.Record
	var outcomes []<-chan []Refusal
	for i := range 30 {
		r := posts("leads", 100)
		for j := range r {
			r[j].Body = fmt.Appendf(nil, "%d %d", i, j)
		}
		if i%3 == 0 {
			cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Partitions: []int32{random.Int32N(6)},
				Err: errs[random.IntN(len(errs))], Count: 1 + random.IntN(4),
			})
		}
		if i%10 == 5 {
			cluster.ShufflePartitionLeaders()
		}
		all = append(all, r...)
		outcomes = append(outcomes, sendAs(p, random.IntN(2) == 0, r...))
	}
	refused := map[string]bool{}
	for i, outcome := range outcomes {
		for _, r := range await(t, outcome) {
			if r.Class != ClassTooLarge { // faulted twice in a row: refused as if it really were
				t.Fatalf("refused: %+v", r)
			}
			refused[string(all[100*i+r.Index].Body)] = true
		}
	}
	copies := map[string]int{}
	unmarked := map[string]int{}
	for _, m := range kafkatest.Read(t, cluster, "leads") {
		copies[string(m.Value)]++
		if !marked(m) {
			unmarked[string(m.Value)]++
		}
	}
	duplicates := 0
	for _, r := range all {
		body := string(r.Body)
		switch n := copies[body]; {
		case n == 0 && !refused[body]:
			t.Errorf("%s is lost", body)
		case n > 1:
			duplicates++
			if unmarked[body] > 1 {
				t.Errorf("%s is there %d times, %d of them unmarked", body, n, unmarked[body])
			}
		}
	}
	t.Logf("%d records, %d refused, %d more than once", len(all), len(refused), duplicates)
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(address[strings.LastIndex(address, ":")+1:], "%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// TestCloseWithoutTimeHasNothingToSay closes what has nothing under way, when what came before has taken all the time.
func TestCloseWithoutTimeHasNothingToSay(t *testing.T) {
	cluster := kafkatest.Start(t)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		p, err := New(Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		<-p.Connected()
		if err := p.Close(over); err != nil {
			t.Fatal(err)
		}
	}
}
