package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// TestNothingIsLostWhenTheConfigurationTurnsInvalid gives the filter a configuration that it cannot read while there is
// no collector: Envoy rejects it, and everything goes on as it was.
func TestNothingIsLostWhenTheConfigurationTurnsInvalid(t *testing.T) {
	t.Parallel()
	const requests = 200
	for name, start := range map[string]func(s *stack) func(document string){
		"from a file":   (*stack).startWithFile,
		"over a stream": (*stack).startWithStream,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFilterStack(t)
			s.kafka = kafka.Borrow(t)
			s.collectors[0].start()
			serve := start(s)
			valid := func(path string) string {
				return `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"},
					{"name": "probe", "match": {"path": "` + path + `"}, "topic": "probe"}]}`
			}
			serve(valid("/first"))
			const taken = `200 {"status":"OK"}`
			s.eventually("the first routes are active", func() bool { return s.post("/first") == taken })
			s.collectors[0].kill()
			answers := loadWhile(t, s.gateway, "/leads", requests, 8, 1_000, requests/4, func() {
				serve(`{"routes": 7}`)
				s.eventually("the configuration is rejected", func() bool {
					return s.envoyStat("extension_config_discovery.http_filter.crowd.update_rejected") == 1
				})
			})
			allAnswered(t, answers)
			s.eventually("it is counted, and Envoy's log says so", func() bool {
				return s.stat("crowd.config_invalid") == 1 && strings.Contains(s.log.String(), "invalid configuration refused")
			})
			serve(valid("/second"))
			s.eventually("the next routes are active", func() bool { return s.post("/second") == taken })
			if got := s.post("/first"); got != "200 backend: POST /first body" {
				t.Errorf("/first: %s, though its route is gone", got)
			}
			s.eventually("all is held, as there is no collector", func() bool {
				return s.stat("crowd.answered") >= requests && s.stat("crowd.records_stored") <= 1 && s.stat("crowd.held_bytes") > 0
			})
			s.collectors[0].start()
			s.allStored(requests)
			verify(t, s.kafka, "leads", "/leads", answers, 1_000)
		})
	}
}

// TestLargeBodiesUnderASmallBufferLimit stops Envoy for a moment again and again, so that more has arrived than its
// buffers may hold: the limit is not the filter's, and no body is too large for it.
func TestLargeBodiesUnderASmallBufferLimit(t *testing.T) {
	t.Parallel()
	const requests = 100
	s := newFilterStack(t)
	s.kafka = kafka.Borrow(t)
	s.kafka.CreateTopic("leads", nil) // all that is sent before there is one must fit into the filter's buffer
	s.collectors[0].start()
	bootstrap := withFilter(t, s.bootstrap("127.0.0.1:1"), func(filter map[string]any) {
		delete(filter, "configDiscovery")
		filter["typed_config"] = filterConfig(t, `{"uplink": {"max_buffer_bytes": "256MiB"},
			"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads", "max_body": "12MiB"}]}`)
	})
	var whole map[string]any
	if err := json.Unmarshal(bootstrap, &whole); err != nil {
		t.Fatal(err)
	}
	resources, _ := whole["staticResources"].(map[string]any)
	listeners, _ := resources["listeners"].([]any)
	if len(listeners) != 1 {
		t.Fatalf("the bootstrap has %d listeners", len(listeners))
	}
	listeners[0].(map[string]any)["perConnectionBufferLimitBytes"] = 32 << 10 // as Envoy advises for an edge
	bootstrap, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	s.start(bootstrap)

	stalled, stop, pid := make(chan struct{}), make(chan struct{}), s.envoy.PID()
	go func() {
		defer close(stalled)
		for {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			time.Sleep(30 * time.Millisecond) // is the stall
			_ = syscall.Kill(pid, syscall.SIGCONT)
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
			}
		}
	}()
	answers := make([]answer, requests)
	var all sync.WaitGroup
	for c := range 4 {
		client := newClient(c%2 == 1)
		all.Go(func() {
			defer client.CloseIdleConnections()
			for i := c; i < requests; i += 4 {
				r := largeRequest(i)
				answers[i] = r.send(t.Context(), client, s.gateway)
			}
		})
	}
	all.Wait()
	close(stop)
	<-stalled
	allAnswered(t, answers)
	s.drained(requests)
	records, err := s.kafka.ReadAll(t.Context(), "leads")
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != requests {
		t.Errorf("%d records, want %d", len(records), requests)
	}
	for _, r := range records {
		id, err := strconv.Atoi(header(r, idHeader))
		if err != nil {
			t.Fatal(err)
		}
		if want := largeRequest(id); !bytes.Equal(r.Value, want.body) {
			t.Errorf("request %d: body in Kafka is %s, want %s", id, digest(r.Value), digest(want.body))
		}
	}
}

// largeRequest has a body that is many times Envoy's buffer limit.
func largeRequest(id int) request {
	return request{
		id: id, path: "/leads", kind: []int{kindJSON, kindChunked}[id%2],
		body: bytes.Repeat(fmt.Appendf(nil, "%08d", id), 5*mebibyte/8),
	}
}

// TestFilterInSomebodyElsesEnvoy gives only the filter to an Envoy that is configured by hand.
func TestFilterInSomebodyElsesEnvoy(t *testing.T) {
	t.Parallel()
	s := newFilterStack(t)
	s.kafka = kafka.Borrow(t)
	s.collectors[0].start()
	xdsServer := crowd(t, "xds", "--routes", s.routes, "--state", "off", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--filter",
		absolute(t, crowdModule))
	s.start(s.bootstrap(xdsServer.waitFor(`xds listening.* address=(\S+)`)))
	if got := s.post("/other"); got != "200 backend: POST /other body" {
		t.Errorf("/other: %s", got)
	}
	if got := s.post("/leads"); got != `200 {"status":"OK"}` {
		t.Errorf("/leads: %s", got)
	}
	s.drained(1)
	records, err := s.kafka.ReadAll(t.Context(), "leads")
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || string(records[0].Value) != "body" {
		t.Errorf("leads hold %+v", records)
	}
}

// TestInvalidPluginConfiguration gives the filter what crowd's xDS server never would.
func TestInvalidPluginConfiguration(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"not a document": `{"routes": 7}`,
		"unknown field":  `{"routes": [{"name": "leads", "match": {"pth": "/leads"}, "topic": "leads"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFilterStack(t)
			s.start(withStaticFilter(t, s.bootstrap("127.0.0.1:1"), document))
			if got := s.post("/leads"); got != "200 backend: POST /leads body" {
				t.Errorf("/leads: %s, want the backend's answer", got)
			}
			if s.stat("crowd.config_invalid") == 0 {
				t.Error("not counted")
			}
			if !strings.Contains(s.log.String(), "invalid configuration") {
				t.Error("Envoy's log says nothing")
			}
		})
	}
}

// newFilterStack is a stack with routes and nothing else.
func newFilterStack(t testing.TB) *stack {
	t.Helper()
	s := &stack{t: t, routes: filepath.Join(t.TempDir(), "routes.yaml"), backend: echo}
	s.addCollectors(1)
	s.writeRoutes(absorbRoutes)
	return s
}

// bootstrap is that of an Envoy with a listener and a backend of its own.
func (s *stack) bootstrap(xdsServer string) []byte {
	s.t.Helper()
	backend := httptest.NewServer(s.backend)
	s.t.Cleanup(backend.Close)
	text, err := envoy.FilterBootstrap{
		NodeID: "e2e", XDS: []string{xdsServer}, Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Collector: s.collectors[0].address,
		Backend: strings.TrimPrefix(backend.URL, "http://"),
	}.JSON()
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func (s *stack) start(bootstrap []byte) {
	s.t.Helper()
	s.envoy, s.log = startEnvoy(s.t, bootstrap, s.workers)
	s.gateway = "http://" + s.listener(envoy.FilterListener)
}

func (s *stack) post(path string) string {
	s.t.Helper()
	response, err := http.Post(s.gateway+path, "text/plain", strings.NewReader("body")) //nolint:noctx // a test's own address
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(response.StatusCode, " ", text.String())
}

// filterConfig is the filter with its configuration, as Envoy takes it.
func filterConfig(t testing.TB, document string) map[string]any {
	t.Helper()
	return map[string]any{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
		"config": map[string]any{
			"name": "crowd", "allow_on_headers_stop_iteration": true, "failure_policy": "FAIL_RELOAD",
			"vm_config": map[string]any{
				"vm_id": "crowd", "runtime": "envoy.wasm.runtime.v8",
				"code": map[string]any{"local": map[string]any{"filename": absolute(t, crowdModule)}},
			},
			"configuration": map[string]any{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": document},
		},
	}
}

// withStaticFilter puts the filter into a bootstrap with its configuration, in place of its discovery.
func withStaticFilter(t testing.TB, bootstrap []byte, document string) []byte {
	t.Helper()
	return withFilter(t, bootstrap, func(filter map[string]any) {
		delete(filter, "configDiscovery")
		filter["typed_config"] = filterConfig(t, document)
	})
}

// withFilter edits the filter in a bootstrap that has it by discovery.
func withFilter(t testing.TB, bootstrap []byte, edit func(filter map[string]any)) []byte {
	t.Helper()
	return edited(t, bootstrap, "configDiscovery", edit)
}

// edited edits the only group of fields in a bootstrap that has the given one.
func edited(t testing.TB, bootstrap []byte, field string, edit func(group map[string]any)) []byte {
	t.Helper()
	var whole any
	if err := json.Unmarshal(bootstrap, &whole); err != nil {
		t.Fatal(err)
	}
	found := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			if _, ok := node[field]; ok {
				edit(node)
				found++
				return
			}
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(whole)
	if found != 1 {
		t.Fatalf("%d groups with %s in the bootstrap", found, field)
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
