package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

const (
	mebibyte    = 1 << 20
	largestBody = 5 * mebibyte
)

const absorbRoutes = `
defaults: {max_body: 12MiB}
routes:
  - {name: leads, match: {path: /leads, methods: [POST]}, topic: leads}
  - {name: large, match: {path: /orders/large}, topic: orders, answer: {status: 202}}
  - {name: orders, match: {prefix: /orders/}, topic: orders, max_body: 1KiB, key: "%REQ(x-customer)%",
     answer: {status: 202, body: "taken", content_type: text/plain}}
`

// TestEveryAnswerIsInKafka sends 20,000 requests of all kinds over HTTP/1.1 and HTTP/2, kills the collector in the
// middle and starts it again, and looks for every request in Kafka, one by one.
func TestEveryAnswerIsInKafka(t *testing.T) {
	t.Parallel()
	const requests, connections = 20_000, 32
	s := newStack(t, absorbRoutes, 1)

	began := time.Now()
	answers := loadWhile(t, s.gateway, "/leads", requests, connections, largestBody, requests*2/5, func() {
		s.collectors[0].kill()
		s.collectors[0].start()
	})
	t.Logf("%d requests in %v", requests, time.Since(began).Round(time.Millisecond))
	allAnswered(t, answers)
	s.drained(requests)

	o := verify(t, s.kafka, "leads", "/leads", answers, largestBody)
	if o.unmarked > 0 {
		t.Errorf("%d repeats are not marked as redelivered", o.unmarked)
	}
	if s.stat("crowd.streams_lost") == 0 {
		t.Error("no stream broke: the collector was not killed in the middle")
	}
	if o.repeats > 0 && s.stat("crowd.batches_resent") == 0 {
		t.Error("repeats without a batch sent again")
	}
}

// TestNothingIsRepeatedWhenACollectorDrains restarts the collector in an orderly way, under load: it acknowledges
// what it has before it ends, so no batch is sent again.
func TestNothingIsRepeatedWhenACollectorDrains(t *testing.T) {
	t.Parallel()
	const requests = 6_000
	s := newStack(t, absorbRoutes, 1)
	answers := loadWhile(t, s.gateway, "/leads", requests, 8, largestBody, requests/2, func() {
		s.collectors[0].stop()
		s.collectors[0].start()
	})
	allAnswered(t, answers)
	s.drained(requests)
	if o := verify(t, s.kafka, "leads", "/leads", answers, largestBody); o.repeats != 0 {
		t.Errorf("%d repeats", o.repeats)
	}
}

// TestTooLargeForKafka sends a record over the broker's limit, which its dead-letter topic does not take either: it is
// named, counted and set aside, and what comes with and after it arrives.
func TestTooLargeForKafka(t *testing.T) {
	t.Parallel()
	const others = 500
	s := newStack(t, absorbRoutes, 1)
	huge := makeRequest("/orders/large", 997, kafka.MessageLimit+mebibyte) // random: the limit is on what is compressed
	a := huge.send(t.Context(), newClient(false), s.gateway)
	if a.err != nil || a.status != http.StatusAccepted {
		t.Fatalf("%+v", a)
	}
	answers := sendLoad(t, s.gateway, "/leads", others, 8, largestBody, func(int) {})
	allAnswered(t, answers)
	s.drained(others + 1)
	verify(t, s.kafka, "leads", "/leads", answers, largestBody)

	s.collectors[0].waitFor(a.recordID + `.*too large`)
	l := s.ledger()
	l.observe()
	for metric, want := range map[string]float64{
		"crowd_refused_total": 1, "crowd_spool_set_aside_records": 1, "crowd_delivered_total": others, "crowd_stored_total": others + 1,
	} {
		if got := l.total(metric); got != want {
			t.Errorf("%s is %v, want %v", metric, got, want)
		}
	}
	s.collectors[0].stop()
	dump := crowd(t, "spool", "dump", "--set-aside", s.collectors[0].spool)
	dump.waitFor(a.recordID)
	if code := dump.exit(); code != 0 {
		t.Errorf("crowd spool dump ends with %d", code)
	}
}

// TestDeadLetters sends records that are too large for their topic alone: they are in the dead-letter topic, and a client
// that waits for Kafka is told.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := newStack(t, `routes:
  - {name: told, match: {path: /told}, topic: small, ack: kafka}
  - {name: untold, match: {path: /untold}, topic: small, ack: disk}
`, 1)
	s.kafka.CreateTopic("small", map[string]string{"max.message.bytes": "1000"})
	want := map[string]bool{}
	for path, status := range map[string]int{"/told": http.StatusRequestEntityTooLarge, "/untold": http.StatusOK} {
		r := makeRequest(path, 997, 100_000)
		a := r.send(t.Context(), newClient(false), s.gateway)
		if a.err != nil || a.status != status || a.recordID == "" {
			t.Errorf("%s: %+v, want %d", path, a, status)
		}
		want[a.recordID] = true
	}
	s.settled()
	letters, err := s.kafka.ReadAll(t.Context(), "crowd-dead-letters")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range letters {
		if !want[header(r, "ce_id")] || header(r, "crowd-error-topic") != "small" || header(r, "crowd-error-class") != "too_large" ||
			header(r, "crowd-error-reason") == "" || len(r.Value) != 100_000 {
			t.Errorf("a dead letter of %d bytes with %v", len(r.Value), r.Headers)
		}
		delete(want, header(r, "ce_id"))
	}
	if len(want) > 0 || len(letters) != 2 {
		t.Errorf("%d dead letters, without %v", len(letters), want)
	}
}

// TestTheClientLeavesInTheMiddle sends half a body and goes: no record, and nothing stays in memory.
func TestTheClientLeavesInTheMiddle(t *testing.T) {
	t.Parallel()
	s := newStack(t, absorbRoutes, 1)
	for i := range 50 {
		connection, err := net.Dial("tcp", strings.TrimPrefix(s.gateway, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(connection, "POST /leads?left=%d HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n%s", i,
			strings.Repeat("x", 50_000))
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.Close()
	}
	s.eventually("all 50 requests are abandoned", func() bool { return s.stat("crowd.abandoned") == 50 })
	s.drained(0)
	answers := sendLoad(t, s.gateway, "/leads", 100, 2, largestBody, func(int) {})
	allAnswered(t, answers)
	s.drained(100)
	verify(t, s.kafka, "leads", "/leads", answers, largestBody) // fails for a record without a request's id
}

// TestTheClientDoesNotWaitForItsAnswer sends whole requests and goes: they are recorded like others.
func TestTheClientDoesNotWaitForItsAnswer(t *testing.T) {
	t.Parallel()
	const requests = 200
	s := newStack(t, absorbRoutes, 1)
	for i := range requests {
		connection, err := net.Dial("tcp", strings.TrimPrefix(s.gateway, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(connection, "POST /orders/%d HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhasty", i)
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.Close()
	}
	s.drained(requests)
	records, err := s.kafka.ReadAll(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, r := range records {
		paths[header(r, ":path")] = true
	}
	if len(records) != requests || len(paths) != requests {
		t.Errorf("%d records of %d requests, want %d", len(records), len(paths), requests)
	}
}

// TestVeryManyClientsAreAnsweredAtOnce has a frozen collector keep as many clients waiting as would make Envoy's stack too deep,
// were they all answered in one callback: the VM would end with all that it holds.
func TestVeryManyClientsAreAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	const clients, clientsOfOne = 2_000, 100 // and one HTTP/2 connection
	s := newStack(t, `routes:
  - {name: leads, match: {path: /leads}, topic: leads, ack: disk, ack_timeout: 50s}
`, 1)
	allAnswered(t, sendLoad(t, s.gateway, "/leads", 1, 1, 1000, func(int) {})) // so that there is a stream
	s.drained(1)
	s.collectors[0].freeze()
	answers := make([]answer, clients)
	var all sync.WaitGroup
	for first := 0; first < clients; first += clientsOfOne {
		client := newClient(true)
		defer client.CloseIdleConnections()
		for i := first; i < first+clientsOfOne; i++ {
			all.Go(func() {
				r := request{id: i, kind: kindEmpty, path: "/leads"} // small, so that very many make one batch
				answers[i] = r.send(t.Context(), client, s.gateway)
			})
		}
	}
	s.eventually("all clients wait", func() bool { return s.stat("crowd.waiting_requests") == clients })
	s.collectors[0].thaw()
	all.Wait()
	allAnswered(t, answers)
	s.drained(1 + clients)
}

// TestOtherRequestsAndAnswers checks what is not absorbed, what is too large, a route's own answer and key, and every kind of
// route.
func TestOtherRequestsAndAnswers(t *testing.T) {
	t.Parallel()
	s := newStack(t, absorbRoutes+`
  - {name: template, match: {path_template: "/shops/{shop}/orders"}, topic: kinds, answer: {status: 201}}
  - {name: regex, match: {safe_regex: "/r[0-9]+"}, topic: kinds, answer: {status: 201}}
  - {name: root, match: {path: /, methods: [PUT]}, topic: kinds, answer: {status: 201}}
  - {name: mirror, match: {prefix: /mirrored/}, topic: copies, mode: mirror}
`, 1)
	do := func(method, path, body string) (int, string, http.Header) {
		q, err := http.NewRequestWithContext(t.Context(), method, s.gateway+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("x-customer", "acme")
		q.Header.Set("authorization", "Bearer secret")
		response, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text), response.Header
	}
	if status, text, _ := do(http.MethodGet, "/leads", ""); status != http.StatusOK || text != "backend: GET /leads " {
		t.Errorf("GET /leads: %d %q, want the backend's answer", status, text)
	}
	big := strings.Repeat("b", 3*mebibyte)
	if status, text, _ := do(http.MethodPost, "/other?a=b", big); status != http.StatusOK || text != "backend: POST /other?a=b "+big {
		t.Errorf("POST /other: %d, %d bytes, want the backend's answer with the body", status, len(text))
	}
	if status, text, _ := do(http.MethodPut, "/orders/1", strings.Repeat("o", 1025)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d %q", status, text)
	}
	status, text, headers := do(http.MethodPut, "/orders/1", "order")
	if status != http.StatusAccepted || text != "taken" || headers.Get("content-type") != "text/plain" {
		t.Errorf("order: %d %q %v", status, text, headers)
	}
	taken := []string{"/shops/7/orders", "/shops/a%2Fb/orders?x=/y", "/r12", "/r1?", "/other/../r12", "/", "/?x"}
	for _, path := range taken {
		if status, text, _ := do(http.MethodPut, path, "b"); status != http.StatusCreated {
			t.Errorf("%s: %d %q, want it to be absorbed", path, status, text)
		}
	}
	for _, path := range []string{"/shops/7", "/shops/7/orders/8", "/rx", "/r", "/R1", "//", "/x?/r1", "/leads/7", "/mirrored", "/mirrored/7"} {
		if status, text, _ := do(http.MethodPut, path, "b"); status != http.StatusOK || text != "backend: PUT "+path+" b" {
			t.Errorf("%s: %d %q, want the backend's answer", path, status, text)
		}
	}
	answered := len(taken) + 1
	s.eventually("all answered requests are stored, and the copy", func() bool {
		return s.stat("crowd.answered") == answered && s.stat("crowd.mirrored") == 1 && s.stat("crowd.records_stored") == answered+1
	})
	s.settled()
	for topic, want := range map[string]int{"kinds": len(taken), "copies": 1} {
		if records, err := s.kafka.ReadAll(t.Context(), topic); err != nil || len(records) != want {
			t.Errorf("%s: %d records, %v; want %d", topic, len(records), err, want)
		}
	}
	records, err := s.kafka.ReadAll(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || string(records[0].Key) != "acme" || string(records[0].Value) != "order" ||
		header(records[0], ":method") != http.MethodPut || header(records[0], "ce_id") != headers.Get("crowd-record-id") {
		t.Fatalf("orders hold %+v", records)
	}
	if got := header(records[0], "authorization"); got != "" {
		t.Errorf("the client's credentials are in Kafka: %q", got)
	}
}
