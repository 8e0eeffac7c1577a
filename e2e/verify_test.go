package e2e

import (
	"bytes"
	"net/http"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

// outcome compares what clients saw with what stands in Kafka.
type outcome struct {
	answered   int // with 200
	missing    int // answered, not in Kafka
	stored     int // requests that are in Kafka
	repeats    int // records beyond the first of a request
	unmarked   int // repeats without crowd-redelivered
	unanswered int // in Kafka, though the client was not told 200
}

// allAnswered checks that every request of a load got its 200.
func allAnswered(t testing.TB, answers []answer) {
	t.Helper()
	bad := 0
	for id, a := range answers {
		if a.err != nil || a.status != http.StatusOK {
			if bad++; bad <= 10 {
				t.Errorf("request %d (kind %d): status %d, %v", id, id%kinds, a.status, a.err)
			}
		}
	}
	if bad > 0 {
		t.Fatalf("%d of %d requests were not answered 200", bad, len(answers))
	}
}

// verify reads the topic and checks every request of a load against it, one by one; none that was answered may be
// missing.
func verify(t testing.TB, broker *kafka.Broker, topic, path string, answers []answer, largest int) outcome {
	t.Helper()
	o := inspect(t, broker, topic, path, answers, largest)
	if o.missing > 0 {
		t.Errorf("%d requests were answered 200 and are not in Kafka", o.missing)
	}
	return o
}

// inspect does as verify, but lets requests be missing.
func inspect(t testing.TB, broker *kafka.Broker, topic, path string, answers []answer, largest int) outcome {
	t.Helper()
	records, err := broker.ReadAll(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	copies := make([][]*kgo.Record, len(answers))
	for _, r := range records {
		id, err := strconv.Atoi(header(r, idHeader))
		if err != nil || id < 0 || id >= len(answers) {
			t.Fatalf("record at offset %d has %s %q", r.Offset, idHeader, header(r, idHeader))
		}
		copies[id] = append(copies[id], r)
	}
	var o outcome
	for id, a := range answers {
		if a.status == http.StatusOK {
			o.answered++
			if len(copies[id]) == 0 {
				if o.missing++; o.missing <= 5 {
					t.Logf("request %d was answered 200 (%s) and is not in Kafka", id, a.ack)
				}
			}
		}
		if len(copies[id]) == 0 {
			continue
		}
		o.stored++
		if a.status != http.StatusOK {
			o.unanswered++
		}
		want := makeRequest(path, id, largest)
		marked := 0
		for _, r := range copies[id] {
			compare(t, &want, a, r)
			if header(r, "crowd-redelivered") == "true" {
				marked++
			}
		}
		o.repeats += len(copies[id]) - 1
		o.unmarked += max(0, len(copies[id])-1-marked)
	}
	t.Logf("%d requests: %+v", len(answers), o)
	return o
}

// compare checks one record against the request it was.
func compare(t testing.TB, want *request, a answer, r *kgo.Record) {
	t.Helper()
	if !bytes.Equal(r.Value, want.body) {
		t.Errorf("request %d: body in Kafka is %s, want %s", want.id, digest(r.Value), digest(want.body))
	}
	for name, value := range map[string]string{
		":method": http.MethodPost, ":scheme": "http", ":path": want.path, "content-type": "application/octet-stream",
		"ce_specversion": "1.0", "ce_id": a.recordID,
	} {
		if got := header(r, name); got != value && (name != "ce_id" || a.status == http.StatusOK) {
			t.Errorf("request %d: header %s is %q, want %q", want.id, name, got, value)
		}
	}
	if got := header(r, "crowd-mode") == "mirror"; got != (a.status == http.StatusCreated) { // which only the backend says
		t.Errorf("request %d, answered %d: marked as mirrored is %v", want.id, a.status, got)
	}
	if header(r, ":authority") == "" || header(r, "crowd-source") == "" || header(r, "ce_time") == "" {
		t.Errorf("request %d: authority, source or time is missing", want.id)
	}
	twice := ""
	for _, h := range r.Headers {
		if h.Key == "x-twice" {
			twice += string(h.Value) + ";"
		}
	}
	if twice != "one;two;" {
		t.Errorf("request %d: x-twice is %q, want both values in order", want.id, twice)
	}
	if got := header(r, "crowd-trailer-x-checksum"); want.trailers != nil && got != want.trailers.Get("x-checksum") {
		t.Errorf("request %d: trailer is %q, want %q", want.id, got, want.trailers.Get("x-checksum"))
	}
}

// header returns the first Kafka header of a name, "" where there is none.
func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
