package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/marceloboeira/crowd/e2e/backend"
	"github.com/marceloboeira/crowd/e2e/kafka"
)

var goreplay = flag.String("goreplay", "", "a goreplay whose Kafka client speaks with Kafka 4, to compare replay with")

// A run of BenchmarkReplay delivers these; the first of them do not count.
const (
	costWarmUp  = 5_000
	costRecords = 30_000
)

// BenchmarkReplay has a backend that answers at once, and says how many requests a second it gets and what each costs replay,
// Kafka and the backend: what has no CPU left bounds the others.
func BenchmarkReplay(b *testing.B) {
	for _, concurrency := range []int{16, 64, 256} {
		b.Run(fmt.Sprint("concurrency=", concurrency), func(b *testing.B) {
			for b.Loop() {
				r := newReplayOn(b, kafka.Start(b, kafka.Config{}))
				r.write(costWarmUp+costRecords, 0)
				p := r.member("--rate", "unlimited", "--concurrency", strconv.Itoa(concurrency))
				r.measure(b, p)
				r.committed()
				p.stop()
				if repeats := backend.Repeats(r.backend.Requests()); repeats > 0 {
					b.Errorf("%d repeats", repeats)
				}
			}
		})
	}
	if *goreplay == "" {
		return
	}
	b.Run("goreplay", func(b *testing.B) {
		for b.Loop() {
			r := newReplayOn(b, kafka.Start(b, kafka.Config{}))
			r.writeForGoreplay(1) // the topic must exist
			p := start(b, exec.Command(*goreplay, "--input-kafka-host", r.kafka.Addr(), "--input-kafka-topic", replayTopic, "--output-http", r.backend.URL()))
			for r.backend.Delivered() == 0 { // it reads what is written after it has begun
				r.writeForGoreplay(1)
				time.Sleep(100 * time.Millisecond)
			}
			r.writeForGoreplay(costWarmUp + costRecords)
			r.measure(b, p)
		}
	})
}

// measure waits until all is delivered, and reports what was used for it.
func (r *replay) measure(b *testing.B, p *process) {
	b.Helper()
	r.reached(costWarmUp)
	processes := map[string]int{"replay": p.cmd.Process.Pid, "kafka": r.kafka.PID(), "backend": os.Getpid()}
	began, before := time.Now(), map[string]time.Duration{}
	for name, pid := range processes {
		before[name] = usage(b, pid).CPU
	}
	r.reached(costWarmUp + costRecords)
	took := time.Since(began)
	b.ReportMetric(costRecords/took.Seconds(), "requests/s")
	for name, pid := range processes {
		used := usage(b, pid).CPU - before[name]
		b.ReportMetric(float64(used.Microseconds())/costRecords, "µs/"+name)
		b.Logf("%s: %.2f of a core", name, used.Seconds()/took.Seconds())
	}
	b.Logf("%d under way at most", backend.Concurrency(r.backend.Requests()))
}

// writeForGoreplay writes records as goreplay's own output does.
func (r *replay) writeForGoreplay(n int) {
	r.t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		id, body := fmt.Sprintf("%024x", len(r.ids)), replayBody(len(r.ids))
		r.ids = append(r.ids, id)
		records[i] = &kgo.Record{Topic: replayTopic, Value: fmt.Appendf(nil,
			"1 %s %d 0\n%s /orders HTTP/1.1\r\nhost: api.example\r\ncontent-type: application/json\r\nidempotency-key: %s\r\ncontent-length: %d\r\n\r\n%s",
			id, time.Now().UnixNano(), http.MethodPost, id, len(body), body)}
	}
	if err := r.kafka.Produce(r.t.Context(), records...); err != nil {
		r.t.Fatal(err)
	}
}
