package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/backend"
)

// TestReplayLimitsChange changes rate and concurrency in the file of a running replay.
func TestReplayLimitsChange(t *testing.T) {
	t.Parallel()
	r := newReplay(t)
	r.write(3_000, 0)
	r.backend.Answer(backend.Slow(50 * time.Millisecond))
	config := r.config("{rate: 100, concurrency: 20}")
	p := r.member("--config", config)
	// pace lets what was before end, and checks how fast it is now and how many are under way.
	pace := func(rate float64, concurrency int) {
		t.Helper()
		r.flows(int(rate) / 2)
		before := len(r.backend.Requests())
		r.flows(int(1.5 * rate))
		requests := r.backend.Requests()[before:]
		got := float64(len(requests)-1) / requests[len(requests)-1].Began.Sub(requests[0].Began).Seconds()
		highest := backend.Concurrency(requests)
		t.Logf("%.1f requests a second, %d under way", got, highest)
		if got > 1.1*rate || got < 0.7*rate || highest > concurrency { // what a busy machine does not send in time is not made up for
			t.Errorf("%.1f requests a second with %d under way, want %v with %d at most", got, highest, rate, concurrency)
		}
	}
	change := func(limits, says string) {
		t.Helper()
		replaceFile(t, config, limits)
		p.waitFor(says)
	}
	pace(100, 20)
	change("{rate: 200, concurrency: 20}", `limits changed.* rate=200 concurrency=20`)
	pace(200, 20)
	change("{rate: fast, concurrency: 20}", `configuration not taken.*fast`)
	pace(200, 20)
	change("{rate: 200, concurrency: 4}", `limits changed.* rate=200 concurrency=4`)
	pace(80, 4) // of which each takes 50 ms
	change("{rate: 50, concurrency: 20}", `limits changed.* rate=50 concurrency=20`)
	pace(50, 20)
	p.stop()
	if repeats := backend.Repeats(r.backend.Requests()); repeats > 0 {
		t.Errorf("%d repeats", repeats)
	}
	if strings.Contains(p.out.String(), "next start") {
		t.Error("it says that what has not changed is taken with the next start")
	}
}

// TestReplayBounds sends a part of what there is, and ends.
func TestReplayBounds(t *testing.T) {
	t.Parallel()
	const records, from, to = 1_000, 250, 750
	r := newReplay(t)
	began := time.Now()
	r.write(records, 2*time.Hour)
	at := func(n int) string { // a time between record n-1 and record n
		return began.Add(-2*time.Hour + 2*time.Hour*time.Duration(2*n-1)/(2*records)).Format(time.RFC3339)
	}
	bounds := []string{"--rate", "unlimited", "--target", r.backend.URL(), "--since", at(from), "--until", at(to)}

	dry := r.run(append(bounds, "--dry-run")...)
	dry.succeed()
	dry.waitFor(`/orders\?n=` + strconv.Itoa(from) + `\b`)
	eventually(t, "nothing is committed, and nobody in the group", func() bool { // an offset is known once Kafka has the topic for them
		lag, members, err := r.kafka.Lag(t.Context(), replayGroup, replayTopic)
		return err == nil && lag == records && members == 0
	})
	if got := len(r.backend.Requests()); got > 0 {
		t.Errorf("a dry run: %d requests", got)
	}

	sent := func(flags ...string) (numbers []int) {
		t.Helper()
		before := len(r.backend.Requests())
		r.run(append(bounds, flags...)...).succeed()
		for _, q := range r.backend.Requests()[before:] {
			numbers = append(numbers, r.numbers[q.ID])
		}
		return numbers
	}
	numbers := sent("--group", "filtered", "--filter", "key="+replayKey(7))
	if len(numbers) != (to-from)/replayKeys {
		t.Errorf("a filter: %d requests, want %d", len(numbers), (to-from)/replayKeys)
	}
	for _, n := range numbers {
		if n%replayKeys != 7 || n < from || n >= to {
			t.Errorf("a filter: record %d was sent", n)
		}
	}
	numbers = sent()
	if len(numbers) != to-from {
		t.Errorf("%d requests, want %d", len(numbers), to-from)
	}
	for _, n := range numbers {
		if n < from || n >= to {
			t.Errorf("record %d was sent", n)
		}
	}
	if numbers := sent(); len(numbers) > 0 {
		t.Errorf("another run: %d requests", len(numbers))
	}
}

// TestReplayCircle is the whole of crowd: an API that stands 50 requests a second, behind an Envoy, and a burst of many more.
func TestReplayCircle(t *testing.T) {
	t.Parallel()
	const rate, connections, largest = 50, 16, 10_000
	burst := 600
	if *long {
		burst = 5_000
	}
	s := newStack(t, `routes: [{name: orders, match: {path: /orders, methods: [POST]}, topic: orders, key: "%REQ(`+idHeader+`)%"}]`, 1)
	api := backend.Start(t)
	s.backend = api
	api.Answer(func(w http.ResponseWriter, q *http.Request) {
		id, err := strconv.Atoi(q.Header.Get(idHeader))
		want := makeRequest("/api/orders", id, largest)
		body, readErr := io.ReadAll(q.Body)
		if err != nil || readErr != nil || q.RequestURI != want.path || !bytes.Equal(body, want.body) || len(q.Header["X-Twice"]) != 2 {
			t.Errorf("request %d: %s %s with %s and %v", id, q.Method, q.URL, digest(body), q.Header)
		}
		backend.Slow(20*time.Millisecond)(w, q)
	})

	began := time.Now()
	answers := sendLoad(t, s.gateway, "/orders", burst, connections, largest, func(int) {})
	t.Logf("%d requests answered in %v, p99 %v", burst, time.Since(began).Round(time.Millisecond), percentile(answers, 0.99))
	allAnswered(t, answers)
	s.allStored(burst)

	// The gateway is also the way to the API: below /api no route takes the request again.
	p := crowd(t, "replay", "--kafka", s.kafka.Addr(), "--group", replayGroup, "--topic", "orders", "--target", s.gateway+"/api", "--rate", "50/s",
		"--concurrency", "4", "--admin", "127.0.0.1:0")
	r := &replay{t: t, kafka: s.kafka, backend: api}
	r.reached(burst)
	r.committed()
	p.stop()
	requests := api.Requests()
	r.at(requests, rate, 10*time.Second)
	if highest := backend.Concurrency(requests); highest > 4 || len(requests) != burst {
		t.Errorf("%d requests, %d at once, want %d, 4 at most", len(requests), highest, burst)
	}
	delivered := map[string]bool{}
	for _, q := range requests {
		delivered[q.ID] = true
	}
	for id, a := range answers {
		if !delivered[a.recordID] {
			t.Errorf("request %d was answered (%s) and not delivered", id, a.recordID)
		}
	}
}

// TestReplayAdapts has a backend that can do far less than the limits allow, and shows it by 429 or by answers that take long.
func TestReplayAdapts(t *testing.T) {
	t.Parallel()
	if !*long {
		t.Skip("what it takes to adapt is not short: make replay")
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		stands float64 // requests a second
	}{
		{"429", backend.Limited(150), 150},
		{"latency", backend.Queued(20*time.Millisecond, 4), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReplay(t)
			r.write(8_000, 0)
			r.backend.Answer(c.answer)
			r.member("--adaptive", "--rate", "1000", "--concurrency", "64", "--timeout", "5s")
			r.flows(int(3 * c.stands)) // while it finds out
			before, began := len(r.backend.Requests()), time.Now()
			r.flows(int(5 * c.stands))
			got := 5 * c.stands / time.Since(began).Seconds()
			requests := r.backend.Requests()[before:]
			refused := 0
			for _, q := range requests {
				if q.Status == http.StatusTooManyRequests {
					refused++
				}
			}
			highest := backend.Concurrency(requests)
			t.Logf("%.0f requests a second of %v, %d of %d refused, %d under way", got, c.stands, refused, len(requests), highest)
			if got < c.stands/2 || refused > len(requests)/5 || highest > 48 {
				t.Errorf("want more than half of what it stands, few refused, and fewer under way than may be")
			}
		})
	}
}
