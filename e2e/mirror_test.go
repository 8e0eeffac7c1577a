package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

const mirrorDocument = `{
	"uplink": {"unreachable_timeout": "1s"},
	"defaults": {"mode": "mirror"},
	"routes": [
		{"name": "copied", "match": {"path": "/copied"}, "topic": "copied", "max_body": "1MiB"},
		{"name": "later", "match": {"path": "/later"}, "topic": "later"}
	]}`

// mirrored is a backend that compares requests of a load with what was sent.
type mirrored struct {
	t       *testing.T
	largest int
	mu      sync.Mutex
	seen    map[string]int // requests by path
}

// ServeHTTP answers 201, which nobody but the backend does.
func (m *mirrored) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has left
	}
	id, err := strconv.Atoi(r.Header.Get(idHeader))
	if err != nil {
		m.t.Errorf("the backend gets %s %s with %s %q", r.Method, r.URL, idHeader, r.Header.Get(idHeader))
		return
	}
	want := makeRequest(r.URL.Path, id, m.largest)
	if r.Method != http.MethodPost || r.URL.String() != want.path || !bytes.Equal(body, want.body) ||
		!slices.Equal(r.Header["X-Twice"], []string{"one", "two"}) {
		m.t.Errorf("request %d: the backend gets %s %s %v, %s, want %s", id, r.Method, r.URL, r.Header, digest(body), digest(want.body))
	}
	m.mu.Lock()
	m.seen[r.URL.Path]++
	m.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

// wantPassed checks that the backend has answered every request, and got each of them once.
func (m *mirrored) wantPassed(path string, answers []answer) {
	m.t.Helper()
	for id, a := range answers {
		if a.err != nil || a.status != http.StatusCreated || a.recordID != "" {
			m.t.Fatalf("request %d: %+v, want the backend's answer", id, a)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[path] != len(answers) {
		m.t.Errorf("%s: the backend got %d requests, want %d", path, m.seen[path], len(answers))
	}
}

// TestMirroredRequests sends every kind of request past the filter: the backend gets and answers them as if it were not
// there, and Kafka has a copy of each.
func TestMirroredRequests(t *testing.T) {
	t.Parallel()
	const requests, largest = 1_500, 300_000
	for name, filter := range map[string]func(t *testing.T, bootstrap []byte) []byte{
		"alone":                                 func(_ *testing.T, bootstrap []byte) []byte { return bootstrap },
		"before a filter that gathers the body": withBuffer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFilterStack(t)
			backend := &mirrored{t: t, largest: largest, seen: map[string]int{}}
			s.backend = backend
			s.kafka = kafka.Borrow(t)
			s.collectors[0].start()
			s.start(filter(t, withStaticFilter(t, s.bootstrap("127.0.0.1:1"), mirrorDocument)))

			answers := sendLoad(t, s.gateway, "/copied", requests, 8, largest, func(int) {})
			backend.wantPassed("/copied", answers)
			s.allMirrored(requests)
			if o := inspect(t, s.kafka, "copied", "/copied", answers, largest); o.stored != requests || o.repeats > 0 {
				t.Errorf("%+v, want a record for each of %d requests", o, requests)
			}
		})
	}
}

// TestMirroredRequestsNeedNoCollector has all collectors dead for longer than unreachable_timeout, and clients leave in the
// middle.
func TestMirroredRequestsNeedNoCollector(t *testing.T) {
	t.Parallel()
	s := newFilterStack(t)
	backend := &mirrored{t: t, largest: 1_000, seen: map[string]int{}}
	s.backend = backend
	s.kafka = kafka.Borrow(t)
	s.collectors[0].start()
	s.start(withStaticFilter(t, s.bootstrap("127.0.0.1:1"), mirrorDocument))
	s.collectors[0].kill()
	tr := startTraffic(t, s.base, "/later", 4, 5*time.Millisecond, 1_000)
	s.eventually("there are no more copies", func() bool { return s.stat("crowd.mirror_skipped.unreachable") > 100 })

	const left = 10
	for range left {
		connection, err := net.Dial("tcp", strings.TrimPrefix(s.gateway, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(connection, "POST /copied HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n%s", strings.Repeat("x", 50_000))
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.Close()
	}
	s.eventually("those who left have no record", func() bool { return s.stat("crowd.mirror_skipped.incomplete") == left })

	s.collectors[0].start()
	before := s.stat("crowd.mirrored")
	s.eventually("there are copies again", func() bool { return s.stat("crowd.mirrored") > before })
	answers := tr.end()
	backend.wantPassed("/later", answers)
	s.eventually("every request is counted", func() bool {
		return s.stat("crowd.mirrored")+s.stat("crowd.mirror_skipped.unreachable") == len(answers)
	})
	copied := s.stat("crowd.mirrored")
	s.allMirrored(copied)
	if o := inspect(t, s.kafka, "later", "/later", answers, 1_000); o.stored != copied {
		t.Errorf("%+v, want %d records", o, copied)
	}
}

// allMirrored waits until so many copies have been taken, and all of them are in Kafka.
func (s *stack) allMirrored(copies int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%d copies are stored", copies), func() bool {
		return s.stat("crowd.mirrored") == copies && s.stat("crowd.records_stored") == copies && s.stat("crowd.held_bytes") == 0
	})
	s.settled()
}

// withBuffer puts Envoy's buffer filter behind crowd's.
func withBuffer(t *testing.T, bootstrap []byte) []byte {
	t.Helper()
	return edited(t, bootstrap, "httpFilters", func(manager map[string]any) {
		filters, _ := manager["httpFilters"].([]any)
		manager["httpFilters"] = slices.Insert(filters, len(filters)-1, any(map[string]any{
			"name": "envoy.filters.http.buffer",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": mebibyte,
			},
		}))
	})
}
