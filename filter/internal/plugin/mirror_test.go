package plugin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
)

const mirrorRoutes = `{
  "uplink": {"cluster": "collectors", "streams": 1, "max_buffer_bytes": "3MiB"},
  "routes": [
    {"name": "leads", "match": {"path": "/leads"}, "topic": "leads", "mode": "mirror", "key": "%REQ(x-tenant)%", "max_body": "1KiB"},
    {"name": "large", "match": {"path": "/large"}, "topic": "large", "mode": "mirror", "max_body": "2MiB"},
    {"name": "limited", "match": {"path": "/limited"}, "topic": "leads", "mode": "mirror",
     "rate_limit": {"max_tokens": 2, "fill_interval": "1h"}}
  ]
}`

// mirror sends a request of the given chunks, all of which must go on as they are, and returns its context.
func (e *scene) mirror(path string, chunks ...[]byte) uint32 {
	e.Helper()
	id := e.InitializeHttpContext()
	if a := e.CallOnRequestHeaders(id, headers("POST", path), len(chunks) == 0); a != types.ActionContinue {
		e.Errorf("headers: %v", a)
	}
	for i, c := range chunks {
		e.mirrorChunk(id, c, i == len(chunks)-1)
	}
	return id
}

func (e *scene) mirrorChunk(id uint32, chunk []byte, end bool) {
	e.Helper()
	if a := e.CallOnRequestBody(id, chunk, end); a != types.ActionContinue {
		e.Errorf("body: %v", a)
	}
	if got := e.GetCurrentRequestBody(id); !bytes.Equal(got, chunk) {
		e.Errorf("a chunk of %d bytes has become %d bytes", len(chunk), len(got))
	}
	if r := e.GetSentLocalResponse(id); r != nil {
		e.Errorf("answered %d", r.StatusCode)
	}
}

// skipped returns how many mirrored requests have no record, by the reason.
func (e *scene) skipped() string {
	e.Helper()
	var all []string
	for _, reason := range skipReasons() {
		if n := e.counter("mirror_skipped." + reason); n > 0 {
			all = append(all, fmt.Sprint(reason, " ", n))
		}
	}
	return strings.Join(all, ", ")
}

func TestAMirroredRequestPassesAndIsRecorded(t *testing.T) {
	play(t, mirrorRoutes, func(t *testing.T, e *scene) {
		id := e.InitializeHttpContext()
		if a := e.CallOnRequestHeaders(id, headers("POST", "/leads?a=b", "x-tenant", "acme", "cookie", "secret"), false); a != types.ActionContinue {
			t.Errorf("headers: %v", a)
		}
		e.mirrorChunk(id, []byte("one\x00"), false)
		e.mirrorChunk(id, []byte("two"), false)
		if e.opened > 0 {
			t.Error("recorded before the whole of it had passed")
		}
		if a := e.CallOnRequestTrailers(id, [][2]string{{"checksum", "x"}, {"authorization", "secret"}}); a != types.ActionContinue {
			t.Errorf("trailers: %v", a)
		}
		if r := e.GetSentLocalResponse(id); r != nil {
			t.Errorf("answered %d", r.StatusCode)
		}
		e.welcome()
		all := e.records()
		if len(all) != 1 {
			t.Fatalf("%d records, want 1", len(all))
		}
		r := all[0]
		want := fmt.Sprint("leads leads acme POST https shop.example /leads?a=b 10.1.2.3:4444 memory true ",
			[]record.Header{{Name: "x-tenant", Value: "acme"}}, []record.Header{{Name: "checksum", Value: "x"}}, "one\x00two")
		if is := fmt.Sprint(r.Route, " ", r.Topic, " ", string(r.Key), " ", r.Method, " ", r.Scheme, " ", r.Authority, " ",
			r.Path, " ", r.Source, " ", r.Ack, " ", r.Mirrored, " ", r.Headers, r.Trailers, string(r.Body)); is != want {
			t.Errorf("record is\n%s, want\n%s", is, want)
		}
		if ledger := e.sent[len(e.sent)-1].Batch.Answered; len(ledger) != 1 || ledger[0] != (record.Answered{Route: "leads", Level: record.LevelMemory, Answers: 1}) {
			t.Errorf("the ledger has %+v, want one answer at level memory", ledger)
		}
		e.CompleteHttpContext(id)
		e.ack(1)
		if mirrored, answered, stored, held := e.counter("mirrored"), e.counter("answered"), e.counter("records_stored"),
			e.gauge("held_bytes"); mirrored != 1 || answered != 0 || stored != 1 || held != 0 || e.skipped() != "" {
			t.Errorf("%d mirrored, %d answered, %d stored, %d bytes held, skipped %q, want 1, 0, 1, 0, none", mirrored, answered, stored,
				held, e.skipped())
		}
	})
}

func TestAMirroredRequestWithoutABody(t *testing.T) {
	play(t, mirrorRoutes, func(t *testing.T, e *scene) {
		e.CompleteHttpContext(e.mirror("/leads"))
		e.welcome()
		if all := e.records(); len(all) != 1 || len(all[0].Body) != 0 {
			t.Errorf("sent %+v, want one record without a body", all)
		}
	})
}

func TestMirroredRequestsWithoutARecord(t *testing.T) {
	for name, c := range map[string]struct {
		send func(e *scene)
		want string
	}{
		"declared too large": {func(e *scene) {
			id := e.InitializeHttpContext()
			e.CallOnRequestHeaders(id, headers("POST", "/leads", "content-length", "1025"), false)
			e.mirrorChunk(id, make([]byte, 1025), true)
			e.CompleteHttpContext(id)
		}, "too_large 1"},
		"too large": {func(e *scene) {
			e.CompleteHttpContext(e.mirror("/leads", make([]byte, 1024), make([]byte, 1), make([]byte, 1)))
		}, "too_large 1"},
		"no room at first": {func(e *scene) {
			held := e.InitializeHttpContext()
			e.CallOnRequestHeaders(held, headers("POST", "/large"), false)
			e.mirrorChunk(held, make([]byte, 2<<20), false)
			e.CompleteHttpContext(e.mirror("/large", make([]byte, 1<<19), make([]byte, 1<<19), make([]byte, 1<<19)))
			e.CompleteHttpContext(held)
		}, "incomplete 1, buffer_full 1"},
		"no room at last": {func(e *scene) {
			e.CompleteHttpContext(e.mirror("/large", make([]byte, 1<<20)))
			e.welcome() // with a window of 1 MiB
			e.CompleteHttpContext(e.mirror("/leads", make([]byte, 1000)))
		}, "window_closed 1"},
		"over the limit": {func(e *scene) {
			for range 5 {
				e.CompleteHttpContext(e.mirror("/limited", []byte("x"), []byte("y")))
			}
		}, "rate_limited 3"},
		"answered, or its client gone, in the middle": {func(e *scene) {
			e.CompleteHttpContext(e.mirror("/leads", []byte("x"), nil))
			id := e.InitializeHttpContext()
			e.CallOnRequestHeaders(id, headers("POST", "/leads"), false)
			e.mirrorChunk(id, []byte("x"), false)
			e.CompleteHttpContext(id)
		}, "incomplete 1"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, mirrorRoutes, func(t *testing.T, e *scene) {
				c.send(e)
				if got := e.skipped(); got != c.want {
					t.Errorf("skipped %q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestAMirroredRequestThatCannotBeRead has each host call fail that the copy needs.
func TestAMirroredRequestThatCannotBeRead(t *testing.T) {
	c := newCompiled(t, mirrorRoutes, properties)
	c.failing = "proxy_get_buffer_bytes"
	id := c.mirror("/leads", []byte("x"), []byte("y"))
	c.CompleteHttpContext(id)
	c.failing = ""
	id = c.InitializeHttpContext()
	c.CallOnRequestHeaders(id, headers("POST", "/leads"), false)
	c.failing = "proxy_get_header_map_pairs"
	if a := c.CallOnRequestTrailers(id, [][2]string{{"a", "b"}}); a != types.ActionContinue {
		t.Errorf("trailers: %v", a)
	}
	c.CompleteHttpContext(id)
	if got := c.skipped(); got != "unreadable 2" || c.gauge("held_bytes") != 0 || c.opened > 0 {
		t.Errorf("skipped %q, %d bytes held, %d streams opened", got, c.gauge("held_bytes"), c.opened)
	}
}

// TestMirroredRequestsPassWithoutCollectors lets no collector be there for longer than unreachable_timeout.
func TestMirroredRequestsPassWithoutCollectors(t *testing.T) {
	c := newCompiled(t, mirrorRoutes, properties)
	c.CompleteHttpContext(c.mirror("/leads", []byte("x")))
	for c.ahead < 31*time.Second {
		c.closeStream(c.opened)
		c.ahead += 500 * time.Millisecond
		c.Tick()
	}
	c.CompleteHttpContext(c.mirror("/leads", []byte("y")))
	if got := c.skipped(); got != "unreachable 1" || c.counter("mirrored") != 1 {
		t.Errorf("%d mirrored, skipped %q", c.counter("mirrored"), got)
	}
}

// TestHostCallsPerMirroredRequest guards what a mirrored request costs, one that shares its iteration with no other.
func TestHostCallsPerMirroredRequest(t *testing.T) {
	c := newCompiled(t, mirrorRoutes, properties)
	c.CompleteHttpContext(c.mirror("/leads", []byte("x")))
	c.welcome()
	c.ack(1)
	clear(c.calls)
	c.CompleteHttpContext(c.mirror("/leads", make([]byte, 512)))
	want := map[string]int{
		"proxy_get_header_map_pairs": 1, "proxy_get_property": 1, "proxy_get_buffer_bytes": 1, "proxy_grpc_send": 1,
		"proxy_set_effective_context": 2, "clock_time_get": 1,
		"proxy_enqueue_shared_queue": 1, "proxy_dequeue_shared_queue": 1,
	}
	if fmt.Sprint(c.calls) != fmt.Sprint(want) {
		t.Errorf("a mirrored request makes the host calls %v, want %v", c.calls, want)
	}
}
