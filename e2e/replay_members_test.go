package e2e

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/backend"
)

// TestReplayMembers has members come, go and be killed under load, while in every partition a key is stuck behind which others
// go on.
func TestReplayMembers(t *testing.T) {
	t.Parallel()
	const (
		rate        = 400
		concurrency = 8
		stuck       = 20 // keys: some in each partition
	)
	records := 4_000
	if *long {
		records = 24_000
	}
	r := newReplayOn(t, ownKafka(t, map[string]string{"num.partitions": "8"}))
	r.write(records, 0)
	r.backend.Answer(backend.Slow(10 * time.Millisecond))
	for _, id := range r.ids[:stuck] {
		r.backend.AnswerRecord(id, backend.Status(http.StatusServiceUnavailable))
	}
	flags := []string{"--rate", "400", "--concurrency", "8", "--max-attempts", "1000", "--config", r.config(`
retry: {initial_backoff: 500ms, max_backoff: 2s}
circuit_breaker: {delay: 500ms, max_delay: 2s}
`)}
	repeats := 0
	wantRepeats := func(event string, atMost int) {
		t.Helper()
		now := backend.Repeats(r.backend.Requests())
		t.Logf("%s: %d repeats", event, now-repeats)
		if now-repeats > atMost {
			t.Errorf("%s: %d repeats, want at most %d", event, now-repeats, atMost)
		}
		repeats = now
	}

	// There is always something to send, however long it takes members to join.
	more := func() {
		const n = 8 * replayKeys // as many of each key
		r.write(n, 0)
		records += n
	}
	flows := func() {
		t.Helper()
		more()
		r.flows(rate)
	}
	first := r.member(flags...)
	flows()
	second := r.member(flags...)
	flows()
	wantRepeats("a second member joins", 0)
	third := r.member(flags...)
	flows()
	wantRepeats("a third member joins", 0)
	third.stop()
	flows()
	wantRepeats("it leaves", 0)
	if *long {
		second.signal(syscall.SIGSTOP)
		time.Sleep(15 * time.Second) // the group takes it for dead after 10
		second.signal(syscall.SIGCONT)
		flows()
		wantRepeats("one is frozen, and goes on", 2*concurrency)
	}
	more()
	second.kill()
	r.reached(records - records*stuck/replayKeys) // all that is not stuck
	wantRepeats("one is killed", 2*concurrency)
	for _, id := range r.ids[:stuck] {
		r.backend.AnswerRecord(id, nil)
	}
	r.reached(records)
	r.committed()
	first.stop()
	wantRepeats("nothing is stuck any more", 0)

	requests := r.backend.Requests()
	r.inOrder(requests)
	_, most := backend.Window(requests, 10*time.Second)
	t.Logf("%d requests in 10 s at most, %.2f times the limit", most, float64(most)/(10*rate))
	if most > 10*rate*102/100 {
		t.Errorf("%d requests in 10 s, want %d a second at most", most, rate)
	}
	if highest := backend.Concurrency(requests); highest > 3*concurrency {
		t.Errorf("%d requests under way at once, want %d of each of 3 members at most", highest, concurrency)
	}
}
