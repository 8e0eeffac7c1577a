package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
)

const patience = 30 * time.Second

// running is a collector that runs until stop is called, or the test ends.
type running struct {
	*Collector
	cancel context.CancelFunc
	ended  chan error
}

// run runs a collector without a spool, unless told otherwise.
func run(t testing.TB, c Config) *running {
	t.Helper()
	kafkatest.NoGoroutinesLeft(t)
	return runOn(t, c, nil)
}

// runOn runs a collector whose spool is on a file system. When a spool fails, some of its goroutines never end.
func runOn(t testing.TB, c Config, files vfs.FS) *running {
	t.Helper()
	c.Listen, c.Admin, c.Name = "127.0.0.1:0", "127.0.0.1:0", "collector-0"
	if c.Spool == "" {
		c.Spool = NoSpool
	}
	collector, err := New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	collector.files = files
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{collector, cancel, make(chan error, 1)}
	go func() { r.ended <- collector.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if r.ended != nil {
			r.stop(t)
		}
	})
	return r
}

func (r *running) stop(t testing.TB) {
	t.Helper()
	if err := r.end(t); err != nil {
		t.Errorf("the collector ended with %v", err)
	}
}

func (r *running) end(t testing.TB) error {
	t.Helper()
	r.cancel()
	defer func() { r.ended = nil }()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the collector does not end")
		return nil
	}
}

func (r *running) get(t testing.TB, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + r.AdminAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

// connect opens an uplink's stream with the generated code, once the collector is ready.
func (r *running) connect(t testing.TB) grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage] {
	t.Helper()
	if r.config.Spool == NoSpool {
		select {
		case <-r.Connected():
		case <-time.After(patience):
			t.Fatal("the collector does not reach Kafka")
		}
	}
	conn, err := grpc.NewClient(r.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	stream, err := collectpb.NewCollectorClient(conn).Collect(ctx, raw())
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, &collectpb.UplinkMessage{Message: &collectpb.UplinkMessage_Hello{
		Hello: &collectpb.Hello{Uplink: make([]byte, 16), NodeId: "edge-1"},
	}})
	m := receive(t, stream)
	if m.GetWelcome().GetCollector() != "collector-0" || m.GetWelcome().GetWindowBytes() == 0 {
		t.Fatalf("got %v, want a welcome", m)
	}
	return stream
}

func send(t testing.TB, s grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage], m *collectpb.UplinkMessage) {
	t.Helper()
	if err := s.Send(m); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, s grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage]) *collectpb.CollectorMessage {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func receiveAck(t testing.TB, s grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage]) *collectpb.Ack {
	t.Helper()
	for {
		if a := receive(t, s).GetAck(); a != nil {
			return a
		}
	}
}

func batchOf(sequence uint64, records ...*collectpb.Record) *collectpb.UplinkMessage {
	return &collectpb.UplinkMessage{Message: &collectpb.UplinkMessage_Batch{Batch: &collectpb.Batch{
		Sequence: sequence, Records: records,
		Answered: []*collectpb.Answered{{Route: "leads", Level: collectpb.Level_LEVEL_MEMORY, Answers: 1}},
	}}}
}

func lead(topic string, body []byte) *collectpb.Record {
	return &collectpb.Record{
		Id: make([]byte, 16), ReceivedUnixNanos: time.Now().UnixNano(), Route: "leads", Topic: topic,
		Ack: collectpb.Level_LEVEL_MEMORY, Method: []byte("POST"), Scheme: []byte("https"),
		Authority: []byte("shop.example"), Path: []byte("/leads"), Source: "192.0.2.1:1",
		Headers: []*collectpb.Header{{Name: []byte("content-type"), Value: []byte("application/json")}}, Body: body,
	}
}

func TestFromAnUplinkIntoKafka(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(2, "leads"))
	if err := cluster.CreateTopic("small", 1, map[string]string{"max.message.bytes": "1000"}); err != nil {
		t.Fatal(err)
	}
	r := run(t, Config{
		Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Compression: "none", DeadLetterTopic: NoDeadLetterTopic,
	})
	s := r.connect(t)
	if code, body := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
	send(t, s, batchOf(1, lead("leads", []byte("one")), lead("leads", []byte("two\x00"))))
	if a := receiveAck(t, s); a.GetSequence() != 1 || a.GetLevel() != collectpb.Level_LEVEL_KAFKA || len(a.GetRefused()) != 0 {
		t.Errorf("ack %v", a)
	}
	send(t, s, batchOf(2, lead("small", []byte("three")), lead("small", make([]byte, 5000))))
	a := receiveAck(t, s)
	if a.GetSequence() != 2 || a.GetLevel() != collectpb.Level_LEVEL_KAFKA || len(a.GetRefused()) != 1 ||
		a.GetRefused()[0].GetIndex() != 1 ||
		!strings.Contains(a.GetRefused()[0].GetReason(), "larger than topic small takes (54") {
		t.Errorf("ack %v", a)
	}
	var got []string
	for _, m := range kafkatest.Read(t, cluster, "leads") {
		got = append(got, string(m.Value))
		if !slices.ContainsFunc(m.Headers, func(h *sarama.RecordHeader) bool {
			return string(h.Key) == ":path" && string(h.Value) == "/leads"
		}) {
			t.Errorf("headers of %q: %v", m.Value, m.Headers)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"one", "two\x00"}, got); diff != "" {
		t.Errorf("in kafka (-want +got):\n%s", diff)
	}
	_, metrics := r.get(t, "/metrics")
	for _, want := range []string{
		`crowd_answered_total{level="memory",route="leads"} 2`,
		`crowd_stored_total{level="memory",route="leads"} 3`,
		`crowd_delivered_total{level="memory",route="leads"} 3`,
		`crowd_refused_total{reason="too_large",route="leads"} 1`,
		`crowd_batches_total{redelivered="false"} 2`,
		`crowd_batches_deduplicated_total 0`,
		`crowd_batch_bytes_count 2`,
		`crowd_batch_records_sum 4`,
		`crowd_closed_topics{share_of="memory"} 0`,
		`crowd_inflight_bytes 0`,
		`crowd_streams 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestWhatItsTopicNeverTakesIsADeadLetter(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, DefaultDeadLetterTopic))
	if err := cluster.CreateTopic("small", 1, map[string]string{"max.message.bytes": "1000"}); err != nil {
		t.Fatal(err)
	}
	r := run(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, Compression: "none"})
	s := r.connect(t)
	send(t, s, batchOf(1, lead("small", []byte("one")), lead("small", make([]byte, 5000))))
	if a := receiveAck(t, s); len(a.GetRefused()) != 1 || a.GetRefused()[0].GetIndex() != 1 || !a.GetRefused()[0].GetDeadLettered() {
		t.Errorf("ack %v", a)
	}
	if n := len(kafkatest.Read(t, cluster, DefaultDeadLetterTopic)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	_, metrics := r.get(t, "/metrics")
	for _, want := range []string{
		`crowd_delivered_total{level="memory",route="leads"} 1`,
		`crowd_dead_letters_total{reason="too_large",route="leads"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(metrics, "crowd_refused_total{") {
		t.Error("/metrics counts a dead letter as refused")
	}
}

// withoutKafka returns an address where a Kafka has just been and may be again.
func withoutKafka(t *testing.T) string {
	t.Helper()
	probe, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	return probe.ListenAddrs()[0]
}

func TestReadyOnceKafkaWasReached(t *testing.T) {
	address := withoutKafka(t)
	r := run(t, Config{Kafka: kafka.Config{Brokers: []string{address}}})
	if code, body := r.get(t, "/readyz"); code != http.StatusServiceUnavailable || body != "kafka has not been reached yet" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	var port int
	if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	kafkatest.Start(t, kfake.Ports(port), kfake.SeedTopics(1, "leads"))
	s := r.connect(t) // waits for the window
	if code, body := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
	send(t, s, batchOf(1, lead("leads", nil)))
	receiveAck(t, s)
}

func TestEndingStoresAndAcknowledgesWhatWasReceived(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicas, Count: -1,
	})
	r := run(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}})
	s := r.connect(t)
	send(t, s, batchOf(1, lead("leads", []byte("one"))))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := fault.Wait(ctx, 1); err != nil {
		t.Fatal(err)
	}
	r.cancel()
	for receive(t, s).GetDraining() == nil {
	}
	if code, body := r.get(t, "/readyz"); code != http.StatusServiceUnavailable || body != "draining" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	fault.Remove()
	if a := receiveAck(t, s); a.GetSequence() != 1 || len(a.GetRefused()) != 0 {
		t.Errorf("ack %v", a)
	}
	for {
		if _, err := s.Recv(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream ends with %v", err)
			}
			break
		}
	}
	r.stop(t)
}

func TestEndingGivesUpWithoutAcknowledging(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicas, Count: -1})
	r := run(t, Config{Kafka: kafka.Config{Brokers: cluster.ListenAddrs()}, DrainTimeout: 100 * time.Millisecond})
	s := r.connect(t)
	send(t, s, batchOf(1, lead("leads", []byte("one"))))
	// Until the batch has arrived there is nothing to give up.
	for _, metrics := r.get(t, "/metrics"); !strings.Contains(metrics, "crowd_batch_bytes_count 1"); {
		_, metrics = r.get(t, "/metrics")
	}
	if err := r.end(t); err == nil || !strings.Contains(err.Error(), "bytes were not acknowledged") {
		t.Errorf("the collector ends with %v", err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			break
		}
		if m.GetAck() != nil {
			t.Errorf("got %v for what is not in kafka", m)
		}
	}
}

// lastWords keeps the attributes of a collector's last log record.
type lastWords struct {
	slog.Handler
	to chan<- []string
}

func (l lastWords) Enabled(context.Context, slog.Level) bool { return true }
func (l lastWords) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l lastWords) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "collector ended" {
		attributes := []string{}
		r.Attrs(func(a slog.Attr) bool {
			attributes = append(attributes, a.String())
			return true
		})
		l.to <- attributes
	}
	return nil
}

func TestTheLastWordIsNoErrorWhereThereIsNone(t *testing.T) {
	said := make(chan []string, 1)
	c := Config{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}}, Spool: NoSpool}
	collector, err := New(c, slog.New(lastWords{slog.DiscardHandler, said}), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := collector.Run(ctx); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{}, <-said); diff != "" {
		t.Errorf("says more than that it ended (-want +got):\n%s", diff)
	}
}

func TestNewReportsAPortInUse(t *testing.T) {
	c := Config{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}}, Spool: NoSpool}
	first, err := New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := first.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, taken := range []Config{
		{Listen: first.Addr().String(), Admin: c.Admin, Kafka: c.Kafka},
		{Listen: c.Listen, Admin: first.AdminAddr().String(), Kafka: c.Kafka},
	} {
		if _, err := New(taken, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil {
			t.Error("the same port twice")
		}
	}
}

func TestValidateReturnsEverythingThatIsWrong(t *testing.T) {
	err := Config{
		Listen: "nowhere", Admin: "9002", Kafka: kafka.Config{Brokers: []string{"kafka"}}, Compression: "rar",
		MaxBufferBytes: 1, DrainTimeout: -1, DeadLetterTopic: "a b", SpoolMaxBytes: 1, SpoolMinFree: -1,
	}.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, want := range []string{`listen: "nowhere"`, `admin: "9002"`, `broker "kafka"`, `compression: "rar"`,
		"max buffer: 1 bytes", "spool: 1 bytes", "spool: -1 bytes", "drain timeout", `dead-letter topic: "a b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	if err := (Config{Kafka: kafka.Config{Brokers: []string{"kafka:9092"}}}).Validate(); err != nil {
		t.Errorf("the least configuration: %v", err)
	}
}
