package record

import (
	"testing"
	"time"
)

func TestKafkaRoundTrip(t *testing.T) {
	r := Record{
		Received: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC),
		Route:    "leads", Topic: "leads", Key: []byte("k"),
		Method: "POST", Scheme: "https", Authority: "shop.example", Path: "/leads?a=b", Source: "10.0.0.1:5",
		Headers:  []Header{{"content-type", "text/plain"}, {"x-twice", "1"}, {"x-twice", "2"}, {"x-empty", ""}},
		Trailers: []Header{{"checksum", "abc"}},
		Body:     []byte("a\x00b"),
	}
	r.ID = NewID(r.Received)
	for i := range 4 {
		redelivered := i%2 == 1
		r.Mirrored = i/2 == 1
		got, mark := FromKafka(r.Topic, r.Key, r.Body, r.Received.Truncate(time.Millisecond), r.KafkaHeaders(redelivered))
		if mark != redelivered {
			t.Errorf("redelivered = %v, want %v", mark, redelivered)
		}
		equal(t, "from Kafka", got, r)
	}
}

func TestKafkaHeadersCannotBeForged(t *testing.T) {
	r := Record{
		ID: NewID(time.Now()), Route: "leads",
		Headers: []Header{{"ce_id", "forged"}, {"crowd-redelivered", "true"}, {"crowd-route", "x"}, {"x-own", "kept"}},
	}
	count := map[string]int{}
	for _, h := range r.KafkaHeaders(false) {
		count[h.Name]++
		if h.Value == "forged" || h.Name == "crowd-redelivered" {
			t.Errorf("the client's %s: %s was copied", h.Name, h.Value)
		}
	}
	for _, name := range []string{"ce_id", "ce_source", "ce_type", "ce_specversion", "ce_time", "crowd-route", "x-own"} {
		if count[name] != 1 {
			t.Errorf("%d headers %s, want 1", count[name], name)
		}
	}
}

func TestFromKafkaOfAnotherProducer(t *testing.T) {
	at := time.UnixMilli(5)
	r, redelivered := FromKafka("t", nil, []byte("v"), at, []Header{{"ce_id", "not ours"}, {"ce_time", "?"}, {"a", "b"}})
	if redelivered {
		t.Error("marked as redelivered")
	}
	equal(t, "record", r, Record{Topic: "t", Received: at, Body: []byte("v"), Headers: []Header{{"a", "b"}}})
}

func TestFailureHeaders(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	own := []Header{{":method", "POST"}, {"crowd-route", "leads"}, {"x-own", ""}}
	for name, f := range map[string]Failure{
		"answered": {Topic: "leads", Class: "rejected", Reason: "the target said 409", Group: "g", Attempts: 1, Status: 409,
			Answer: []byte("no\xff"), Time: at},
		"without an answer": {Topic: "leads", Class: "retries_exhausted", Reason: "connection refused", Group: "g", Attempts: 20, Time: at},
		"never sent":        {Topic: "leads", Class: "expired", Group: "g", Time: at},
		"stored elsewhere":  {Topic: "leads", Class: "rejected", Group: "g", Time: at, StoredAt: "leads/3/17"},
	} {
		got, others := FailureFromKafka(append(own[:len(own):len(own)], FailureHeaders(f)...))
		equal(t, name, got, f)
		equal(t, name+": the others", others, own)
	}
	got, others := FailureFromKafka(append(ErrorHeaders("leads", "too_large", "larger than the topic takes"), own...))
	equal(t, "a collector's", got, Failure{Topic: "leads", Class: "too_large", Reason: "larger than the topic takes"})
	equal(t, "a collector's: the others", others, own)
}

func TestFailureFromKafkaOfAnotherProducer(t *testing.T) {
	got, others := FailureFromKafka([]Header{{"crowd-error-status", "-1"}, {"crowd-error-attempts", "99999999999999999999"},
		{"crowd-error-time", "?"}, {"crowd-error-new", "x"}, {"crowd-error", "kept"}})
	equal(t, "failure", got, Failure{})
	equal(t, "the others", others, []Header{{"crowd-error", "kept"}})
}
