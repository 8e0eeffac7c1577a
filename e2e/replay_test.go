package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/e2e/backend"
	"github.com/marceloboeira/crowd/e2e/kafka"
)

const (
	replayGroup   = "e2e"
	replayTopic   = "orders"
	replayLetters = "crowd-replay-dead-letters"
	replayKeys    = 100 // which take turns
)

// replay is Kafka with records in it, and the API that they are for.
type replay struct {
	t       testing.TB
	kafka   *kafka.Broker
	backend *backend.Backend
	body    func(number int) []byte
	ids     []string       // the records', in the order in which they were written
	numbers map[string]int // where each is in ids
}

// newReplay has a Kafka that may be borrowed, whose topics have four partitions.
func newReplay(t testing.TB) *replay {
	t.Helper()
	return newReplayOn(t, kafka.Borrow(t))
}

func newReplayOn(t testing.TB, broker *kafka.Broker) *replay {
	t.Helper()
	return &replay{t: t, kafka: broker, backend: backend.Start(t), body: replayBody, numbers: map[string]int{}}
}

// write writes so many records as a collector does, which were received in the last so much time.
func (r *replay) write(n int, in time.Duration) {
	r.t.Helper()
	began := time.Now().Add(-in)
	records := make([]*kgo.Record, n)
	for i := range records {
		number := len(r.ids)
		received := began.Add(in * time.Duration(i) / time.Duration(n))
		one := record.Record{
			ID: record.NewID(received), Received: received, Route: "orders", Topic: replayTopic, Key: []byte(replayKey(number)),
			Method: http.MethodPost, Scheme: "http", Authority: "api.example", Path: fmt.Sprint("/orders?n=", number), Source: "192.0.2.1:4711",
			Headers: []record.Header{{Name: "content-type", Value: "application/json"}, {Name: backend.KeyHeader, Value: replayKey(number)}},
			Body:    r.body(number),
		}
		records[i] = &kgo.Record{Topic: one.Topic, Key: one.Key, Value: one.Body, Timestamp: one.Received}
		for _, h := range one.KafkaHeaders(false) {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
		}
		id := one.ID.String()
		r.ids, r.numbers[id] = append(r.ids, id), number
	}
	if err := r.kafka.Produce(r.t.Context(), records...); err != nil {
		r.t.Fatal(err)
	}
}

func replayKey(number int) string { return fmt.Sprint("key-", number%replayKeys) }

func replayBody(number int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, number, strings.Repeat("x", number%500))
}

// member starts a member of the group, and waits until it has joined it.
func (r *replay) member(flags ...string) *process {
	r.t.Helper()
	p := r.run(append(flags, "--target", r.backend.URL())...)
	p.waitFor(`msg="replay ready".* admin=(\S+)`)
	return p
}

// run starts crowd replay.
func (r *replay) run(flags ...string) *process {
	r.t.Helper()
	return crowd(r.t, append([]string{
		"replay", "--kafka", r.kafka.Addr(), "--group", replayGroup, "--topic", replayTopic, "--admin", "127.0.0.1:0",
	}, flags...)...)
}

// config writes a configuration file and returns its path.
func (r *replay) config(text string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "replay.yaml")
	replaceFile(r.t, path, text)
	return path
}

// reached waits until so many records have been delivered.
func (r *replay) reached(n int) {
	r.t.Helper()
	late := time.NewTimer(2 * patience)
	defer late.Stop()
	for before := -1; ; { // patience is for standing still
		select {
		case <-r.backend.Reached(n):
			return
		case <-late.C:
		}
		now := r.backend.Delivered()
		if now == before {
			r.t.Fatalf("%d of %d records have been delivered, and no more for %v", now, n, patience)
		}
		before = now
		late.Reset(patience)
	}
}

// flows waits until so many more records have been delivered, and returns how long that took.
func (r *replay) flows(n int) time.Duration {
	r.t.Helper()
	began := time.Now()
	r.reached(r.backend.Delivered() + n)
	return time.Since(began)
}

// committed waits until the group has committed all there is.
func (r *replay) committed() {
	r.t.Helper()
	eventually(r.t, "everything is committed", func() bool {
		lag, _, err := r.kafka.Lag(r.t.Context(), replayGroup, replayTopic)
		return err == nil && lag == 0
	})
}

// inOrder checks that each record was sent only when the one of its key before it had been delivered, or was given up.
func (r *replay) inOrder(requests []backend.Request, givenUp ...string) {
	r.t.Helper()
	done := map[string]time.Time{}
	for _, id := range givenUp {
		done[id] = time.Time{}
	}
	for _, q := range requests {
		if _, is := done[q.ID]; q.Delivered() && !is {
			done[q.ID] = q.Ended
		}
	}
	wrong := 0
	for _, q := range requests {
		n, known := r.numbers[q.ID]
		if !known || q.Key != replayKey(n) {
			r.t.Fatalf("a request of record %q with key %q, which nobody wrote", q.ID, q.Key)
		}
		if n < replayKeys {
			continue
		}
		if before, is := done[r.ids[n-replayKeys]]; !is || before.After(q.Began) {
			if wrong++; wrong <= 3 {
				r.t.Errorf("record %d was sent at %v, the one before it of its key was done at %v", n, q.Began, before)
			}
		}
	}
	if wrong > 0 {
		r.t.Errorf("%d requests were sent out of order", wrong)
	}
}

// at checks that requests come at a rate, within two per cent over any so much time. What a busy machine does not send in time
// is not made up for: only in a long test, which runs alone, is there never less.
func (r *replay) at(requests []backend.Request, rate int, over time.Duration) {
	r.t.Helper()
	least, most := backend.Window(requests, over)
	want := float64(rate) * over.Seconds()
	r.t.Logf("%d to %d requests in any %v, %.2f to %.2f times the limit", least, most, over, float64(least)/want, float64(most)/want)
	enough := 0.7
	if *long {
		enough = 0.98
	}
	if float64(least) < want*enough || float64(most) > want*1.02 {
		r.t.Errorf("%d to %d requests in %v, want %d a second", least, most, over, rate)
	}
}

// faithful answers requests that are what was absorbed.
func (r *replay) faithful(w http.ResponseWriter, q *http.Request) {
	n, err := strconv.Atoi(q.URL.Query().Get("n"))
	body, readErr := io.ReadAll(q.Body)
	if err != nil || readErr != nil || q.Method != http.MethodPost || q.URL.Path != "/orders" || string(body) != string(replayBody(n)) ||
		q.Header.Get("idempotency-key") != r.ids[n] || q.Header.Get("content-type") != "application/json" || q.Host != "api.example" {
		r.t.Errorf("%s %s of %s with %q and %v", q.Method, q.URL, q.Host, body, q.Header)
	}
	backend.OK(w, q)
}

// TestReplayDeliversEverything sends many records, each once, in order, and as fast as it may.
func TestReplayDeliversEverything(t *testing.T) {
	n, rate, concurrency := 10_000, 700, 8
	if *long {
		n, rate, concurrency = 100_000, 2_000, 16
	} else {
		t.Parallel()
	}
	r := newReplay(t)
	r.backend.Answer(r.faithful)
	r.write(n, 0)
	p := r.member("--rate", strconv.Itoa(rate), "--concurrency", strconv.Itoa(concurrency))
	r.reached(n)
	r.committed()
	p.stop()

	requests := r.backend.Requests()
	if len(requests) != n {
		t.Errorf("%d requests for %d records", len(requests), n)
	}
	r.inOrder(requests)
	r.at(requests, rate, 10*time.Second)
	highest := backend.Concurrency(requests)
	if highest > concurrency {
		t.Errorf("%d requests under way at once, want %d at most", highest, concurrency)
	}
	t.Logf("%d records in %v, %d under way at most", n, requests[n-1].Ended.Sub(requests[0].Began).Round(time.Millisecond), highest)
}
