package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
)

// spooling is a configuration with a small spool in dir.
func spooling(dir string, brokers ...string) Config {
	return Config{Kafka: kafka.Config{Brokers: brokers}, Spool: dir, SpoolMaxBytes: leastSpool, SpoolMinFree: 1}
}

// asking is a lead of a route that asks for a level.
func asking(level collectpb.Level, body string) *collectpb.Record {
	r := lead("leads", []byte(body))
	r.Ack = level
	return r
}

// stuck has Kafka take nothing for a topic until the fault is removed.
func stuck(cluster *kfake.Cluster) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "leads", Err: kerr.NotEnoughReplicas, Count: -1,
	})
}

// bodies returns the values in the topic leads, sorted; those that may be repeats with a mark.
func bodies(t *testing.T, cluster *kfake.Cluster) (got []string) {
	t.Helper()
	for _, m := range kafkatest.Read(t, cluster, "leads") {
		body := string(m.Value)
		if slices.ContainsFunc(m.Headers, func(h *sarama.RecordHeader) bool {
			return string(h.Key) == "crowd-redelivered" && string(h.Value) == "true"
		}) {
			body += " again"
		}
		got = append(got, body)
	}
	slices.Sort(got)
	return got
}

func expectBodies(t *testing.T, cluster *kfake.Cluster, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, bodies(t, cluster)); diff != "" {
		t.Errorf("in kafka (-want +got):\n%s", diff)
	}
}

// metric waits until the collector's metrics have a line.
func (r *running) metric(t *testing.T, line string) {
	t.Helper()
	for start := time.Now(); ; {
		_, metrics := r.get(t, "/metrics")
		if strings.Contains(metrics, line+"\n") {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("/metrics lacks %s:\n%s", line, metrics)
		}
	}
}

func expectAck(t *testing.T, s grpc.BidiStreamingClient[collectpb.UplinkMessage, collectpb.CollectorMessage],
	sequence uint64, level collectpb.Level) {
	t.Helper()
	if a := receiveAck(t, s); a.GetSequence() != sequence || a.GetLevel() != level || len(a.GetRefused()) != 0 {
		t.Fatalf("ack %v, want one of batch %d with %v", a, sequence, level)
	}
}

func TestWhatIsOnDiskNeedsNoKafka(t *testing.T) {
	address := withoutKafka(t)
	r := run(t, spooling(t.TempDir(), address))
	s := r.connect(t)
	if code, body := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
	send(t, s, batchOf(1, asking(collectpb.Level_LEVEL_KAFKA, "direct")))
	send(t, s, batchOf(2, asking(collectpb.Level_LEVEL_MEMORY, "one"), asking(collectpb.Level_LEVEL_DISK, "two")))
	expectAck(t, s, 2, collectpb.Level_LEVEL_DISK)
	for _, line := range []string{
		`crowd_stored_total{level="memory",route="leads"} 1`, `crowd_stored_total{level="disk",route="leads"} 1`,
		`crowd_spool_entries 1`,
	} {
		r.metric(t, line)
	}

	var port int
	if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	cluster := kafkatest.Start(t, kfake.Ports(port), kfake.SeedTopics(1, "leads"))
	expectAck(t, s, 1, collectpb.Level_LEVEL_KAFKA)
	r.metric(t, "crowd_spool_entries 0")
	for _, level := range []string{"memory", "disk", "kafka"} {
		r.metric(t, fmt.Sprintf(`crowd_delivered_total{level=%q,route="leads"} 1`, level))
	}
	expectBodies(t, cluster, "direct", "one", "two")
}

// slow is a disk that gives nothing away until it is told to go on.
type slow struct {
	vfs.FS
	goOn chan struct{}
}

func (s slow) List(dir string) ([]string, error) {
	<-s.goOn
	return s.FS.List(dir)
}

func TestAliveWhileTheSpoolIsRead(t *testing.T) {
	files := slow{vfs.NewMem(), make(chan struct{})}
	r := runOn(t, spooling("spool", withoutKafka(t)), files)
	if code, _ := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if code, body := r.get(t, "/readyz"); code != http.StatusServiceUnavailable || body != "the spool is being read" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	close(files.goOn)
	r.connect(t) // waits for the window
	if code, body := r.get(t, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
}

func TestARestartDeliversWhatIsLeft(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := stuck(cluster)
	c := spooling(t.TempDir(), cluster.ListenAddrs()...)
	c.DrainTimeout = 100 * time.Millisecond
	first := run(t, c)
	s := first.connect(t)
	for sequence := range uint64(3) {
		send(t, s, batchOf(sequence+1, asking(collectpb.Level_LEVEL_DISK, fmt.Sprint("body ", sequence+1))))
		expectAck(t, s, sequence+1, collectpb.Level_LEVEL_DISK)
	}
	first.stop(t)
	if !first.Left() {
		t.Error("says that nothing is left")
	}

	c.DrainTimeout = patience
	second := run(t, c)
	s = second.connect(t)
	send(t, s, batchOf(2, asking(collectpb.Level_LEVEL_DISK, "body 2"))) // its ack was lost, say
	expectAck(t, s, 2, collectpb.Level_LEVEL_DISK)
	second.metric(t, "crowd_batches_deduplicated_total 1")
	fault.Remove()
	second.stop(t) // delivers it
	if second.Left() {
		t.Error("says that something is left")
	}
	expectBodies(t, cluster, "body 1 again", "body 2 again", "body 3 again")
}

func TestNothingIsLostOrRepeatedWhenCollectorsRestartInTurn(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(4, "leads"))
	dir := t.TempDir()
	var want []string
	var sequence uint64
	for range 3 {
		r := run(t, spooling(dir, cluster.ListenAddrs()...))
		s := r.connect(t)
		levels := []collectpb.Level{collectpb.Level_LEVEL_DISK, collectpb.Level_LEVEL_KAFKA}
		unacknowledged := map[uint64]bool{}
		for range 50 {
			sequence++
			body := fmt.Sprintf("body %03d", sequence)
			want = append(want, body)
			unacknowledged[sequence] = true
			send(t, s, batchOf(sequence, asking(levels[sequence%2], body)))
			if sequence%50 == 25 {
				r.cancel() // what comes now was under way
			}
		}
		for {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			delete(unacknowledged, m.GetAck().GetSequence())
		}
		if len(unacknowledged) > 0 {
			t.Errorf("the stream ended without acknowledging %v", unacknowledged)
		}
		r.stop(t)
		if r.Left() {
			t.Error("something is left in the spool")
		}
	}
	expectBodies(t, cluster, want...)
}

func TestARunEndsWhenTheSpoolFails(t *testing.T) {
	cluster := kafkatest.Start(t, kfake.SeedTopics(1, "leads"))
	fault := stuck(cluster)
	files := vfs.NewCrashableMem()
	var broken atomic.Bool
	failing := errorfs.Wrap(files, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
			return errors.New("the disk is on fire")
		}
		return nil
	}))
	r := runOn(t, spooling("spool", cluster.ListenAddrs()...), failing)
	s := r.connect(t)
	send(t, s, batchOf(1, asking(collectpb.Level_LEVEL_DISK, "one")))
	expectAck(t, s, 1, collectpb.Level_LEVEL_DISK)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := fault.Wait(ctx, 1); err != nil { // it is on its way to Kafka
		t.Fatal(err)
	}
	broken.Store(true)
	send(t, s, batchOf(2, asking(collectpb.Level_LEVEL_DISK, "two")))
	for {
		m, err := s.Recv()
		if err != nil {
			break
		}
		if m.GetAck() != nil {
			t.Errorf("ack %v", m)
		}
	}
	fault.Remove()
	select {
	case err := <-r.ended:
		r.ended = nil
		if err == nil || !strings.Contains(err.Error(), "the disk is on fire") ||
			!strings.Contains(err.Error(), "at the next start") {
			t.Errorf("the collector ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the collector does not end")
	}
	expectBodies(t, cluster, "one") // which it had in memory
	if !r.Left() {
		t.Error("says that nothing is left")
	}

	again := runOn(t, spooling("spool", cluster.ListenAddrs()...), files.CrashClone(vfs.CrashCloneCfg{}))
	s = again.connect(t)
	send(t, s, batchOf(2, asking(collectpb.Level_LEVEL_DISK, "two")))
	expectAck(t, s, 2, collectpb.Level_LEVEL_DISK)
	again.stop(t)
	got := bodies(t, cluster)
	for _, want := range []string{"one", "one again", "two"} { // at least once
		if !slices.Contains(got, want) && !slices.Contains(got, want+" again") {
			t.Errorf("kafka lacks %q: %q", want, got)
		}
	}
}

func TestASpoolThatIsInUse(t *testing.T) {
	c := spooling(t.TempDir(), "127.0.0.1:1")
	first := run(t, c)
	first.connect(t) // its spool is open
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	second, err := New(c, first.log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	err = second.Run(t.Context())
	for _, want := range []string{c.Spool, "pass another directory with --spool", "--spool off"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the second one ends with %v, want %s", err, want)
		}
	}
}
