package produce

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

const deadLetters = "dead"

func startWithDeadLetters(t *testing.T, cluster *kfake.Cluster) *Producer {
	t.Helper()
	kafkatest.NoGoroutinesLeft(t)
	return start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, DeadLetterTopic: deadLetters})
}

// createTopic makes a topic that takes records of up to limit bytes.
func createTopic(t *testing.T, cluster *kfake.Cluster, topic, limit string) {
	t.Helper()
	if err := cluster.CreateTopic(topic, 1, map[string]string{"max.message.bytes": limit}); err != nil {
		t.Fatal(err)
	}
}

func headersOf(m *sarama.ConsumerMessage) []record.Header {
	var out []record.Header
	for _, h := range m.Headers {
		out = append(out, record.Header{Name: string(h.Key), Value: string(h.Value)})
	}
	return out
}

// withoutReason says what became of a record, leaving out the words.
func withoutReason(refused []Refusal) []Refusal {
	for i := range refused {
		refused[i].Reason = ""
	}
	return refused
}

func TestWhatIsTooLargeForItsTopicIsADeadLetter(t *testing.T) {
	cluster := kafkatest.Start(t)
	createTopic(t, cluster, "small", "100000")
	createTopic(t, cluster, deadLetters, "8000000")
	p := startWithDeadLetters(t, cluster)
	records := posts("small", 10)
	records[4].Body, records[4].Key = noise(200_000), []byte("key")
	records[7].Body = noise(2_000_000) // by solo in either topic
	refused := await(t, send(p, records...))
	dead := map[string]Refusal{} // by body
	for _, r := range refused {
		if !strings.Contains(r.Reason, "larger than topic small takes (") || strings.Contains(r.Reason, deadLetters) {
			t.Errorf("reason %q", r.Reason)
		}
		dead[string(records[r.Index].Body)] = r
	}
	letters := kafkatest.Read(t, cluster, deadLetters)
	if len(letters) != 2 {
		t.Errorf("%d dead letters, want 2", len(letters))
	}
	for _, m := range letters {
		refusal := dead[string(m.Value)]
		r := records[refusal.Index]
		// Marked: Kafka had them before it rejected them.
		want := append(r.KafkaHeaders(true), record.Header{Name: "crowd-error-topic", Value: "small"},
			record.Header{Name: "crowd-error-class", Value: "too_large"},
			record.Header{Name: "crowd-error-reason", Value: refusal.Reason})
		if diff := cmp.Diff(want, headersOf(m)); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
		if string(m.Key) != string(r.Key) || (m.Key == nil) != (r.Key == nil) {
			t.Errorf("key %q, want %q", m.Key, r.Key)
		}
		if !m.Timestamp.Equal(received.Truncate(time.Millisecond)) {
			t.Errorf("timestamp %v, want %v", m.Timestamp, received)
		}
	}
	if diff := cmp.Diff([]Refusal{
		{Index: 4, Class: ClassTooLarge, DeadLettered: true}, {Index: 7, Class: ClassTooLarge, DeadLettered: true},
	}, withoutReason(refused)); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	if n := len(kafkatest.Read(t, cluster, "small")); n != 8 {
		t.Errorf("%d records in their topic, want 8", n)
	}
}

func TestDeadLettersWaitForTheirTopicAndHoldUpNoOther(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	createTopic(t, cluster, "small", "2000")
	asked := cluster.Fault(kfake.Fault{ // what a cluster without the topic answers anyway
		Keys: []kmsg.Key{kmsg.Metadata}, Topic: deadLetters, Err: kerr.UnknownTopicOrPartition, Count: -1,
	})
	p := startWithDeadLetters(t, cluster)
	records := make([]record.Record, 3*bulkUnderWay) // more than sarama has room for
	for i := range records {
		records[i] = post("no topic", []byte("x"))
	}
	records[0] = post("small", noise(4000))
	waiting := send(p, records...)
	awaitHits(t, asked, 2)
	for range 20 {
		awaitStored(t, send(p, posts("leads", 100)...))
		awaitStored(t, send(p, posts("small", 10)...))
	}
	notDone(t, waiting)

	asked.Remove()
	createTopic(t, cluster, deadLetters, "1000000")
	for i, r := range await(t, waiting) {
		if r.Index != i || !r.DeadLettered {
			t.Fatalf("refusal %d: %+v", i, r)
		}
	}
	if n := len(kafkatest.Read(t, cluster, deadLetters)); n != len(records) {
		t.Errorf("%d dead letters, want %d", n, len(records))
	}
}

// errorLog passes errors on, as text.
func errorLog(to chan<- string) *slog.Logger {
	return slog.New(slog.NewTextHandler(lines(to), &slog.HandlerOptions{Level: slog.LevelError}))
}

type lines chan<- string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func TestAMissingDeadLetterTopicIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		options []kfake.Opt
		logged  bool
	}{
		"missing":            {nil, true},
		"there":              {[]kfake.Opt{kfake.SeedTopics(1, deadLetters)}, false},
		"created on request": {[]kfake.Opt{kfake.AllowAutoTopicCreation()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			kafkatest.NoGoroutinesLeft(t)
			cluster := kafkatest.Start(t, c.options...)
			logged := make(chan string, 10)
			config := Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, DeadLetterTopic: deadLetters}
			p, err := New(config, errorLog(logged), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			if c.logged {
				select {
				case line := <-logged:
					for _, want := range []string{"topic=" + deadLetters, "will wait until it is", "--dead-letter-topic off"} {
						if !strings.Contains(line, want) {
							t.Errorf("logged %s, want %s", line, want)
						}
					}
				case <-time.After(patience):
					t.Error("nothing is logged")
				}
			} else {
				<-p.Connected()
				awaitStored(t, send(p, post(deadLetters, []byte("x")))) // so that it is there
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
			if len(logged) > 0 {
				t.Errorf("logged %s", <-logged)
			}
		})
	}
}

func TestDeadLettersSurviveAFailingTopic(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, deadLetters))
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.TopicAuthorizationFailed, Count: -1,
	})
	p := startWithDeadLetters(t, cluster)
	waiting := send(p, post("no topic", []byte("x")))
	awaitHits(t, fault, 3)
	notDone(t, waiting)
	fault.Remove()
	if refused := await(t, waiting); len(refused) != 1 || !refused[0].DeadLettered {
		t.Errorf("outcome %+v", refused)
	}
}

func TestWhatTheDeadLetterTopicNeverTakesIsRefusedForGood(t *testing.T) {
	cluster := kafkatest.Start(t)
	createTopic(t, cluster, "small", "1000")
	createTopic(t, cluster, deadLetters, "5000")
	p := startWithDeadLetters(t, cluster)
	records := []record.Record{post("small", noise(10_000)), post("small", noise(2500)), post("no topic", noise(10_000))}
	refused := await(t, send(p, records...))
	want := map[int]string{0: "larger than topic small takes (", 2: `"no topic" is not a name`}
	for _, r := range refused {
		first, second, both := strings.Cut(r.Reason, "; and the dead-letter topic does not take it either: ")
		if both == r.DeadLettered || both &&
			!(strings.Contains(first, want[r.Index]) && strings.Contains(second, "larger than topic dead takes (")) {
			t.Errorf("reason %q", r.Reason)
		}
	}
	if diff := cmp.Diff([]Refusal{
		{Index: 0, Class: ClassTooLarge}, {Index: 1, Class: ClassTooLarge, DeadLettered: true}, {Index: 2, Class: ClassTopic},
	}, withoutReason(refused)); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}

func TestTopicsThatCannotExistMakeDeadLetters(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, deadLetters, "internal"))
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "forbidden", Err: kerr.InvalidTopicException, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "internal", Err: kerr.InvalidTopicException, Count: -1})
	p := startWithDeadLetters(t, cluster)
	names := []string{"", "a b", "forbidden", "internal"}
	var records []record.Record
	for _, topic := range names {
		records = append(records, post(topic, []byte("to "+topic)))
	}
	for _, r := range await(t, send(p, records...)) {
		if r.Class != ClassTopic || !r.DeadLettered {
			t.Errorf("%+v", r)
		}
	}
	letters := kafkatest.Read(t, cluster, deadLetters)
	if diff := cmp.Diff(bodiesOf(records), bodies(letters)); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	for _, m := range letters {
		h := headersOf(m)
		if got := h[len(h)-3]; "to "+got.Value != string(m.Value) {
			t.Errorf("%s came with %s: %q", m.Value, got.Name, got.Value)
		}
	}
}

func TestARecordMeantForTheDeadLetterTopicGoesThereOnce(t *testing.T) {
	cluster := kafkatest.Start(t)
	createTopic(t, cluster, deadLetters, "5000")
	p := startWithDeadLetters(t, cluster)
	if refused := await(t, send(p, post(deadLetters, []byte("fits")))); len(refused) > 0 {
		t.Errorf("%+v", refused)
	}
	refused := await(t, send(p, post(deadLetters, noise(10_000))))
	if len(refused) == 1 && strings.Contains(refused[0].Reason, "either") {
		t.Errorf("reason %q", refused[0].Reason)
	}
	if diff := cmp.Diff([]Refusal{{Index: 0, Class: ClassTooLarge}}, withoutReason(refused)); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	letters := kafkatest.Read(t, cluster, deadLetters)
	r := post(deadLetters, nil)
	if len(letters) != 1 || len(letters[0].Headers) != len(r.KafkaHeaders(false)) {
		t.Errorf("in the topic: %+v, want one record as in any topic", letters)
	}
}

func TestMalformed(t *testing.T) {
	items := func() []Item {
		return []Item{
			{Index: 0, Record: post("leads", []byte("good"))},
			{Index: 3, Record: record.Record{Body: []byte("raw")}, Malformed: "id of 3 bytes"},
			{Index: 5, Record: record.Record{Topic: deadLetters, Body: []byte("raw")}, Malformed: "id of 3 bytes"},
		}
	}
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads", deadLetters))
	for _, dead := range []string{deadLetters, ""} {
		p := start(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, DeadLetterTopic: dead})
		outcome := make(chan []Refusal, 1)
		p.Produce(Batch{Items: items(), Redelivered: true}, func(refused []Refusal) { outcome <- refused })
		there := dead != ""
		if diff := cmp.Diff([]Refusal{
			{Index: 3, Class: ClassMalformed, Reason: "record 3 of its batch: id of 3 bytes", DeadLettered: there},
			{Index: 5, Class: ClassMalformed, Reason: "record 5 of its batch: id of 3 bytes", DeadLettered: there},
		}, await(t, outcome)); diff != "" {
			t.Errorf("dead-letter topic %q: outcome (-want +got):\n%s", dead, diff)
		}
	}
	letters := kafkatest.Read(t, cluster, deadLetters)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want 2", len(letters))
	}
	if diff := cmp.Diff([]record.Header{
		{Name: "crowd-redelivered", Value: "true"}, {Name: "crowd-error-topic", Value: ""},
		{Name: "crowd-error-class", Value: "malformed"},
		{Name: "crowd-error-reason", Value: "record 3 of its batch: id of 3 bytes"},
	}, headersOf(letters[0])); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if m := letters[0]; string(m.Value) != "raw" || m.Key != nil || time.Since(m.Timestamp) > time.Hour {
		t.Errorf("dead letter %+v", m)
	}
}

func TestCloseWaitsForDeadLetters(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, deadLetters))
	createTopic(t, cluster, "small", "1000")
	p, err := New(Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, DeadLetterTopic: deadLetters},
		slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	outcome := send(p, post("small", noise(2_000_000)), post("small", noise(5000))) // bulk, solo, bulk and solo again
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case refused := <-outcome:
		if len(refused) != 2 || refused[0].DeadLettered || !refused[1].DeadLettered {
			t.Errorf("outcome %+v", refused)
		}
	default:
		t.Error("closed before the batch was done")
	}
}

func TestFatesAreCounted(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads", deadLetters))
	p := startWithDeadLetters(t, cluster)
	durable := post("leads", []byte("x"))
	durable.Ack = record.LevelKafka
	items := []Item{
		{Index: 0, Record: post("leads", []byte("x"))}, {Index: 1, Record: durable}, {Index: 2, Record: durable},
		{Index: 3, Record: post("no topic", []byte("x"))}, {Index: 4, Malformed: "empty"},
		{Index: 5, Record: post("no topic", noise(2_000_000))}, // refused for good, which its caller counts
	}
	outcome := make(chan []Refusal, 1)
	p.Produce(Batch{Items: items}, func(refused []Refusal) { outcome <- refused })
	await(t, outcome)
	for name, c := range map[string]struct {
		counter prometheus.Counter
		want    float64
	}{
		"memory":    {p.fates.inTopic.WithLabelValues("leads", "memory"), 1},
		"kafka":     {p.fates.inTopic.WithLabelValues("leads", "kafka"), 2},
		"topic":     {p.fates.inDeadLetters.WithLabelValues("leads", ClassTopic), 1},
		"malformed": {p.fates.inDeadLetters.WithLabelValues(label.Unknown, ClassMalformed), 1},
	} {
		if got := testutil.ToFloat64(c.counter); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if n := testutil.CollectAndCount(p.fates.inTopic) + testutil.CollectAndCount(p.fates.inDeadLetters); n != 4 {
		t.Errorf("%d series, want 4", n)
	}
}

func TestTheDeadLetterTopicIsValidated(t *testing.T) {
	for topic, valid := range map[string]bool{"": true, "crowd-dead-letters": true, "a b": false, "..": false} {
		c := Config{Kafka: kafka.Config{Brokers: []string{"kafka:9092"}}, DeadLetterTopic: topic}
		if err := c.Validate(); (err == nil) != valid {
			t.Errorf("%q: %v", topic, err)
		}
		if p, err := New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
			if !valid {
				t.Errorf("%q makes a producer", topic)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
