package plugin

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

const limitedRoutes = `{
  "uplink": {"cluster": "collectors", "streams": 1},
  "routes": [
    {"name": "limited", "match": {"path": "/limited"}, "topic": "leads", "max_body": "1KiB", "ack": "kafka",
     "rate_limit": {"max_tokens": 2, "fill_interval": "90s"}}
  ]
}`

const limitedBody = `{"error":"too many requests","reason":"rate_limited"}`

func TestRateLimit(t *testing.T) {
	play(t, limitedRoutes, func(t *testing.T, e *scene) {
		for range 2 {
			e.post("/limited", []byte("x"))
		}
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/limited"), false)
		if a := e.CallOnRequestBody(id, []byte("x"), false); a != stopAndDrop || e.GetSentLocalResponse(id) != nil {
			t.Error("answered before the request was whole: that costs the client its connection")
		}
		e.CallOnRequestBody(id, []byte("x"), true)
		answer := e.wantAnswer(id, 429, limitedBody)
		if seconds, err := strconv.Atoi(header(answer.Headers, "retry-after")); err != nil || seconds < 85 || seconds > 90 {
			t.Errorf("retry-after is %q, want about 90", header(answer.Headers, "retry-after"))
		}
		e.CompleteHttpContext(id)
		trailers := e.InitializeHttpContext()
		e.CallOnRequestHeaders(trailers, headers("POST", "/limited"), false)
		e.CallOnRequestTrailers(trailers, nil)
		e.wantAnswer(trailers, 429, limitedBody)
		e.wantAnswer(e.post("/limited"), 429, limitedBody)
		large := e.InitializeHttpContext()
		e.CallOnRequestHeaders(large, headers("POST", "/limited", "content-length", "1025"), false)
		e.wantAnswer(large, 413, `{"error":"body too large","max_body_bytes":1024}`)
		e.welcome()
		if limited, records := e.counter("rate_limited"), len(e.records()); limited != 3 || records != 2 {
			t.Errorf("%d limited, %d records, want 3 and 2", limited, records)
		}
	})
}

// TestTokensComeBack lets time pass.
func TestTokensComeBack(t *testing.T) {
	c := newCompiled(t, strings.Replace(limitedRoutes, `"kafka"`, `"memory"`, 1), properties)
	status := func() uint32 { return c.GetSentLocalResponse(c.post("/limited")).StatusCode }
	if got := []uint32{status(), status(), status()}; got[0] != 200 || got[1] != 200 || got[2] != 429 {
		t.Fatalf("answers %v, want 200, 200, 429", got)
	}
	c.ahead = 89*time.Second + 800*time.Millisecond
	id := c.post("/limited")
	if got := header(c.wantAnswer(id, 429, limitedBody).Headers, "retry-after"); got != "1" {
		t.Errorf("retry-after is %q shortly before the next token, want 1", got)
	}
	c.ahead = 90 * time.Second
	if got := []uint32{status(), status()}; got[0] != 200 || got[1] != 429 {
		t.Errorf("answers %v after an interval, want 200, 429", got)
	}
}

// TestARateLimitOutlivesTheConfiguration changes the configuration again and again: the bucket goes on as long as its route
// keeps name and limits.
func TestARateLimitOutlivesTheConfiguration(t *testing.T) {
	c := newCompiled(t, strings.Replace(limitedRoutes, `"kafka"`, `"memory"`, 1), map[string]string{"plugin_name": "crowd"})
	limitedBy := func(document string) string { return strings.Replace(document, `"kafka"`, `"memory"`, 1) }
	next := c.plugin
	for _, step := range []struct {
		what, configuration string
		free                int // requests that have a token
	}{
		{"at first", "", 2},
		{"another topic", limitedBy(strings.Replace(limitedRoutes, `"leads"`, `"others"`, 1)), 0},
		{"other limits", limitedBy(strings.Replace(limitedRoutes, `"max_tokens": 2`, `"max_tokens": 3`, 1)), 3},
		{"the same limits", limitedBy(strings.Replace(limitedRoutes, `"max_tokens": 2`, `"max_tokens":3`, 1)), 0},
		{"no such route", limitedBy(strings.Replace(limitedRoutes, `"name": "limited"`, `"name": "renamed"`, 1)), 2},
		{"the route again", limitedBy(limitedRoutes), 2},
		{"the route without a limit", `{"routes": [{"name": "limited", "match": {"path": "/limited"}, "topic": "leads"}]}`, 5},
		{"the limit again", limitedBy(limitedRoutes), 0},
	} {
		if old := next; step.configuration != "" {
			next += 1000
			c.configure(next, step.configuration)
			c.call(old, "proxy_on_done")
		}
		free := 0
		for range 5 {
			id := c.post("/limited")
			if c.GetSentLocalResponse(id).StatusCode == 200 {
				free++
			}
			c.CompleteHttpContext(id)
		}
		if free != step.free {
			t.Errorf("%s: %d requests had a token, want %d", step.what, free, step.free)
		}
	}
}

// TestBucketsGoWithTheirRoutes looks into the VM.
func TestBucketsGoWithTheirRoutes(t *testing.T) {
	e := newEmulated(t, limitedRoutes)
	vm := e.proxy.(native).vm
	e.post("/limited")
	if len(vm.buckets) != 1 {
		t.Fatalf("%d buckets, want 1", len(vm.buckets))
	}
	vm.keepBuckets("other", nil)
	if len(vm.buckets) != 1 {
		t.Fatal("the bucket went with another filter's configuration")
	}
	vm.keepBuckets(vm.plugins[0].name, nil)
	if len(vm.buckets) != 0 {
		t.Fatal("the bucket outlives its route")
	}
}

// TestASampleTakesItsShare sends many requests to a route that takes half of them.
func TestASampleTakesItsShare(t *testing.T) {
	play(t, `{"routes": [{"name": "half", "match": {"prefix": "/"}, "topic": "leads", "sample": "50%"}]}`, func(t *testing.T, e *scene) {
		const requests = 2000
		taken := 0
		for range requests {
			id := e.post("/leads")
			if e.GetSentLocalResponse(id) != nil {
				taken++
			}
			e.CompleteHttpContext(id)
		}
		if taken < requests*4/10 || taken > requests*6/10 { // nine standard deviations
			t.Errorf("%d of %d taken, want about half", taken, requests)
		}
	})
}

// TestAnswersCarryTheRecordsID looks at what an answer says where the document has %RECORD_ID%, at once and later in another
// context.
func TestAnswersCarryTheRecordsID(t *testing.T) {
	const route = `{"uplink": {"cluster": "collectors", "streams": 1}, "routes": [{"name": "leads", "match": {"path": "/leads"},
		"topic": "leads", "ack": "LEVEL", "answer": {"status": 201, "body": "{\"id\":\"%RECORD_ID%\"}", "headers": [
		{"name": "Location", "value": "/leads/%RECORD_ID%"}, {"name": "x-note", "value": "100%%"}]}}]}`
	for _, level := range []string{"memory", "disk", "kafka"} {
		t.Run(level, func(t *testing.T) {
			play(t, strings.Replace(route, "LEVEL", level, 1), func(t *testing.T, e *scene) {
				id := e.post("/leads", []byte("x"))
				e.welcome()
				if level != "memory" {
					e.post("/leads", []byte("other"))
					e.ack(1)
				}
				record := e.records()[0].ID.String()
				answer := e.wantAnswer(id, 201, `{"id":"`+record+`"}`)
				for name, want := range map[string]string{
					"location": "/leads/" + record, "x-note": "100%", RecordIDHeader: record, "content-type": "application/json;charset=UTF-8",
				} {
					if got := header(answer.Headers, name); got != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
			})
		})
	}
}
