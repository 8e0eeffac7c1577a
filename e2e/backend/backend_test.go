package backend_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/e2e/backend"
)

// send returns the status of an answer that came whole, otherwise 0.
func send(t *testing.T, b *backend.Backend, id string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("idempotency-key", id)
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode == http.StatusSwitchingProtocols {
		return 0
	}
	return response.StatusCode
}

func TestAnswers(t *testing.T) {
	b := backend.Start(t)
	want := func(what string, status int) {
		t.Helper()
		if got := send(t, b, what); got != status {
			t.Errorf("%s: %d, want %d", what, got, status)
		}
	}
	want("first", 200)
	b.Down()
	want("down", 0)
	b.Up()
	want("up", 200)
	b.AnswerRecord("poison", backend.Status(500))
	want("poison", 500)
	want("other", 200)
	b.AnswerRecord("poison", nil)
	want("poison", 200)
	for what, answer := range backend.Lies {
		b.Answer(answer)
		want(what, 0)
	}
	b.Answer(backend.Hang)
	want("hang", 0)
	for what, answer := range backend.Halves {
		b.Answer(answer)
		if what == "longer" {
			want(what, 200)
			continue
		}
		want(what, 0) // this client wants all of it
	}
	b.Answer(backend.RetryAfter(429, 7))
	want("too many", 429)
	b.Answer(backend.Slow(10 * time.Millisecond))
	want("slow", 200)
	want("slow", 200)

	all := 5 + len(backend.Halves)
	<-b.Reached(all)
	<-b.Reached(4)
	if got := b.Delivered(); got != all {
		t.Errorf("%d delivered, want first, up, other, poison, slow, and the halves", got)
	}
	select {
	case <-b.Reached(all + 1):
		t.Error("one more is delivered")
	default:
	}
	if got := backend.Repeats(b.Requests()); got != 1 {
		t.Errorf("%d repeats, want the second of slow", got)
	}
}

func TestVerify(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	requests := []backend.Request{
		{ID: "a", Began: at(0), Ended: at(10), Status: 500, Told: true},
		{ID: "a", Began: at(10), Ended: at(30), Status: 200, Told: true},
		{ID: "b", Began: at(20), Ended: at(30), Status: 200},
		{ID: "c", Began: at(25)},
		{ID: "b", Began: at(30), Ended: at(40), Status: 200, Told: true},
		{ID: "b", Began: at(60), Ended: at(70), Status: 200, Told: true},
	}
	type result struct{ concurrency, least, most, repeats int }
	got := result{concurrency: backend.Concurrency(requests), repeats: backend.Repeats(requests)}
	got.least, got.most = backend.Window(requests, 20*time.Millisecond)
	want := result{concurrency: 3, least: 1, most: 3, repeats: 1}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
