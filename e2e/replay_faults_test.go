package e2e

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/marceloboeira/crowd/e2e/backend"
)

// TestReplaySurvivesTheBackend has the backend do what backends do. Nothing is lost, what concerns one record holds up no
// other, and all goes on by itself.
func TestReplaySurvivesTheBackend(t *testing.T) {
	t.Parallel()
	const (
		rate                  = 300
		concurrency           = 16
		poison, rejected      = 100, 101
		firstLie, betweenLies = 110, 7
		atMostInOutage        = 3 * concurrency // what is under way, what opens the breaker, and its probes
		patienceOfReplay      = 5 * time.Second // a timeout, max_delay, and some
	)
	r := newReplay(t)
	r.write(6*rate, 0)
	r.backend.Answer(backend.Slow(5 * time.Millisecond))
	r.backend.AnswerRecord(r.ids[poison], backend.Status(http.StatusInternalServerError))
	r.backend.AnswerRecord(r.ids[rejected], backend.Status(http.StatusBadRequest))
	lies := slices.Concat(slices.Collect(maps.Values(backend.Lies)), slices.Collect(maps.Values(backend.Halves)))
	for i, lie := range lies {
		r.backend.AnswerRecord(r.ids[firstLie+i*betweenLies], lie)
	}
	p := r.member("--rate", "300", "--concurrency", "16", "--timeout", "1s", "--max-attempts", "8", "--config", r.config(`
retry: {initial_backoff: 200ms, max_backoff: 1s}
circuit_breaker: {delay: 500ms, max_delay: 2s}
`))

	// While some records fail, as much is sent as may be.
	r.reached(2 * rate)
	for i := range lies {
		r.backend.AnswerRecord(r.ids[firstLie+i*betweenLies], nil)
	}
	r.flows(rate)
	if least, _ := backend.Window(r.backend.Requests(), time.Second); least < rate/2 { // a busy machine does not send all that it may
		t.Errorf("%d requests in a second while some records fail, want %d", least, rate)
	}
	var letters []*kgo.Record
	eventually(t, "the poison is among the dead letters", func() bool {
		var err error
		letters, err = r.kafka.ReadAll(t.Context(), replayLetters)
		return err == nil && len(letters) >= 2
	})
	for _, letter := range letters {
		want := map[string]string{"crowd-error-topic": replayTopic, "crowd-error-group": replayGroup}
		switch header(letter, "ce_id") {
		case r.ids[poison]:
			want["crowd-error-class"], want["crowd-error-status"], want["crowd-error-answer"], want["crowd-error-attempts"] = "retries_exhausted", "500", "backend says 500", "8"
		case r.ids[rejected]:
			want["crowd-error-class"], want["crowd-error-status"], want["crowd-error-answer"], want["crowd-error-attempts"] = "rejected", "400", "backend says 400", "1"
		default:
			t.Errorf("record %d is a dead letter: %v", r.numbers[header(letter, "ce_id")], letter.Headers)
		}
		for name, value := range want {
			if got := header(letter, name); got != value {
				t.Errorf("dead letter %s: %s is %q, want %q", header(letter, "ce_id"), name, got, value)
			}
		}
		if header(letter, "crowd-error-reason") == "" {
			t.Errorf("dead letter %s: no reason", header(letter, "ce_id"))
		}
	}

	// While all fail, hardly anything is sent.
	for _, outage := range []struct {
		name       string
		begin, end func()
		lasts      time.Duration
	}{
		{"429", func() { r.backend.Answer(backend.RetryAfter(http.StatusTooManyRequests, 2)) }, func() {}, lasting(30*time.Second, 4*time.Second)},
		{"503", func() { r.backend.Answer(backend.Status(http.StatusServiceUnavailable)) }, func() {}, lasting(30*time.Second, 4*time.Second)},
		{"down", r.backend.Down, r.backend.Up, lasting(time.Minute, 5*time.Second)},
		{"hangs", func() { r.backend.Answer(backend.Hang) }, func() {}, lasting(30*time.Second, 4*time.Second)},
		{"lies", func() { r.backend.Answer(backend.Lies["no status"]) }, func() {}, lasting(30*time.Second, 4*time.Second)},
	} {
		r.write(2*rate, 0)
		r.flows(rate) // what failed in the outage before is through
		before := len(r.backend.Requests())
		outage.begin()
		time.Sleep(outage.lasts) // an outage has a duration
		during := len(r.backend.Requests()) - before
		r.backend.Answer(backend.Slow(5 * time.Millisecond))
		outage.end()
		back := r.flows(50)
		t.Logf("%s for %v: %d requests, and 50 delivered %v after it", outage.name, outage.lasts, during, back.Round(time.Millisecond))
		if during > atMostInOutage {
			t.Errorf("%s: %d requests, want at most %d", outage.name, during, atMostInOutage)
		}
		if back > patienceOfReplay {
			t.Errorf("%s: %v until 50 were delivered", outage.name, back)
		}
	}
	r.reached(len(r.ids) - 2)
	r.committed()
	p.stop()

	// The dead letters go once more when the backend takes them, and only once.
	r.backend.AnswerRecord(r.ids[poison], nil)
	r.backend.AnswerRecord(r.ids[rejected], nil)
	requests := r.backend.Requests()
	r.inOrder(requests, r.ids[poison], r.ids[rejected])
	if repeats := backend.Repeats(requests); repeats > concurrency { // answers that were on their way when it went down
		t.Errorf("%d repeats", repeats)
	}
	for range 2 {
		r.run("--from-dead-letter", "--rate", "unlimited", "--target", r.backend.URL()).succeed()
	}
	r.reached(len(r.ids))
	if got := len(r.backend.Requests()) - len(requests); got != 2 {
		t.Errorf("%d requests for 2 dead letters", got)
	}
}

// TestReplaySurvivesKafka takes Kafka away: nothing is lost, and no more is repeated than a crash may.
func TestReplaySurvivesKafka(t *testing.T) {
	t.Parallel()
	const rate, concurrency = 200, 8
	r := newReplayOn(t, ownKafka(t, nil))
	r.write(rate, 0)
	p := r.member("--rate", "200", "--concurrency", "8")
	repeats := 0
	for _, outage := range []struct {
		name       string
		begin, end func()
		lasts      time.Duration
	}{
		{"killed", r.kafka.Kill, r.kafka.Restart, lasting(time.Minute, 8*time.Second)},
		{"frozen", r.kafka.Pause, r.kafka.Continue, lasting(time.Minute, 10*time.Second)},
	} {
		r.write(4*rate, 0)
		r.flows(rate)
		outage.begin()
		time.Sleep(outage.lasts)
		outage.end()
		back := r.flows(4 * concurrency) // more than can have been under way
		r.flows(rate)                    // and what may be repeated has been
		now := backend.Repeats(r.backend.Requests())
		t.Logf("%s for %v: %d repeats; it flows again %v after it", outage.name, outage.lasts, now-repeats, back.Round(time.Millisecond))
		if now-repeats > 2*concurrency {
			t.Errorf("%s: %d repeats, want at most %d", outage.name, now-repeats, 2*concurrency)
		}
		repeats = now
	}
	r.reached(len(r.ids))
	r.committed()
	p.stop()
	r.inOrder(r.backend.Requests())
}

// TestReplayHoldsLittle has records that are large, and many more of them than replay may hold while nothing can be sent.
func TestReplayHoldsLittle(t *testing.T) {
	t.Parallel()
	const records, size, buffer, others = 300, 900_000, 16 * mebibyte, 140 * mebibyte // what has been read, and the garbage of twice as much
	r := newReplay(t)
	body := make([]byte, size)
	r.body = func(int) []byte { return body }
	r.write(records, 0)
	r.backend.Answer(backend.Hang)
	p := r.member("--rate", "unlimited", "--concurrency", "16", "--timeout", "2s", "--config", r.config(`
max_buffer_bytes: 16MiB
circuit_breaker: {delay: 500ms, max_delay: 1s}
`))
	highest := 0
	for began := time.Now(); r.backend.Delivered() < records; time.Sleep(20 * time.Millisecond) {
		highest = max(highest, usage(t, p.cmd.Process.Pid).Resident)
		if time.Since(began) > 4*time.Second {
			r.backend.Answer(backend.Slow(5 * time.Millisecond))
		}
		if time.Since(began) > patience {
			t.Fatalf("%d of %d records have been delivered", r.backend.Delivered(), records)
		}
	}
	r.committed()
	p.stop()
	t.Logf("at most %d MiB resident", highest/mebibyte)
	if highest > buffer+others {
		t.Errorf("%d MiB resident, with a buffer of %d MiB", highest/mebibyte, buffer/mebibyte)
	}
}
