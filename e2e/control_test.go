package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// TestRoutesChange follows the routes file: a new route takes its requests, a broken file changes nothing.
func TestRoutesChange(t *testing.T) {
	s := newStack(t, absorbRoutes)
	client := newClient(false)
	status := func(path string) int {
		r := request{path: path, kind: kindJSON, body: []byte("{}")}
		a := r.send(t.Context(), client, s.gateway)
		if a.err != nil && a.status != http.StatusOK {
			t.Fatal(a.err)
		}
		return a.status
	}
	const added = "\n  - {name: new, match: {path: /new}, topic: new, answer: {status: 201}}\n"
	if got := status("/new"); got != http.StatusOK { // the backend's
		t.Fatalf("/new: %d before there is such a route", got)
	}
	s.writeRoutes(absorbRoutes + added)
	s.eventually("the new route is active", func() bool { return status("/new") == http.StatusCreated })

	s.writeRoutes(absorbRoutes + "  - {name: new, match: {path: /new}}\n")
	s.xds.waitFor(`routes\[3\].topic`)
	if got := status("/new"); got != http.StatusCreated {
		t.Errorf("/new: %d after a broken file", got)
	}
	s.writeRoutes(absorbRoutes)
	s.eventually("the route is gone", func() bool { return status("/new") == http.StatusOK })
}

// TestNothingIsLostWhenRoutesChange changes the routes again and again under load. Each change ends a plugin
// context in every worker, with its streams.
func TestNothingIsLostWhenRoutesChange(t *testing.T) {
	const requests, changes = 10_000, 20
	s := newStack(t, absorbRoutes)
	loaded := make(chan []answer)
	due := make(chan int, changes)
	go func() {
		loaded <- load(t, s.gateway, "/leads", requests, 16, 300_000, func(done int) {
			if done%(requests/changes) == 0 {
				due <- done
			}
		})
	}()
	for range changes {
		n := <-due
		s.writeRoutes(absorbRoutes + fmt.Sprintf("\n  - {name: n%d, match: {path: /n%d}, topic: n}\n", n, n))
	}
	answers := <-loaded
	allAnswered(t, answers)
	s.drained(requests)
	if o := verify(t, s.kafka, "leads", "/leads", answers, 300_000); o.repeats != 0 {
		t.Errorf("%d repeats", o.repeats)
	}
}

// TestNothingIsLostWhenRoutesGoBackAndForth changes the routes and back while Kafka hangs, so that nothing is
// acknowledged and contexts of the same configuration wait for their end side by side.
func TestNothingIsLostWhenRoutesGoBackAndForth(t *testing.T) {
	const requests, changes = 2_000, 10
	s := newStack(t, absorbRoutes)
	warm := load(t, s.gateway, "/orders/large", 10, 2, 100, func(int) {}) // so that the topics' partitions are known
	s.drained(len(warm))
	s.kafka.Pause()
	client := newClient(false)
	answers := loadWhile(t, s.gateway, "/leads", requests, 8, 10_000, requests/4, func() {
		for n := range changes {
			name := fmt.Sprint("/probe", n%2)
			s.writeRoutes(absorbRoutes + fmt.Sprintf("  - {name: probe, match: {path: %s}, topic: probe, answer: {status: 201}}\n", name))
			s.eventually("the change is active", func() bool {
				r := request{path: name}
				return r.send(t.Context(), client, s.gateway).status == http.StatusCreated
			})
		}
	})
	s.kafka.Continue()
	allAnswered(t, answers)
	s.eventually("everything answered is stored", func() bool {
		return s.stat("crowd.held_bytes") == 0 && s.stat("crowd.records_stored") == s.stat("crowd.answered")
	})
	verify(t, s.kafka, "leads", "/leads", answers, 10_000)
}

// TestFilterInSomebodyElsesEnvoy gives only the filter to an Envoy that is configured by hand.
func TestFilterInSomebodyElsesEnvoy(t *testing.T) {
	s := newFilterStack(t)
	s.kafka = kafka.Start(t, kafka.Config{})
	s.startCollector()
	xdsServer := crowd(t, "xds", "--routes", s.routes, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--filter",
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
	for name, document := range map[string]string{
		"not a document": `{"routes": 7}`,
		"unknown field":  `{"routes": [{"name": "leads", "match": {"pth": "/leads"}, "topic": "leads"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
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
func newFilterStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, routes: filepath.Join(t.TempDir(), "routes.yaml"), collectorAddress: "127.0.0.1:0"}
	s.writeRoutes(absorbRoutes)
	return s
}

// bootstrap is that of an Envoy with a listener and a backend of its own.
func (s *stack) bootstrap(xdsServer string) []byte {
	s.t.Helper()
	backend := httptest.NewServer(echo)
	s.t.Cleanup(backend.Close)
	text, err := envoy.FilterBootstrap{
		NodeID: "e2e", XDS: xdsServer, Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Collector: s.collectorAddress,
		Backend: strings.TrimPrefix(backend.URL, "http://"),
	}.JSON()
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func (s *stack) start(bootstrap []byte) {
	s.t.Helper()
	s.envoy, s.log = startEnvoy(s.t, bootstrap)
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

// withStaticFilter puts the filter into a bootstrap with its configuration, in place of its discovery.
func withStaticFilter(t *testing.T, bootstrap []byte, document string) []byte {
	t.Helper()
	config, err := json.Marshal(map[string]any{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
		"config": map[string]any{
			"name": "crowd", "allow_on_headers_stop_iteration": true,
			"vm_config": map[string]any{
				"runtime": "envoy.wasm.runtime.v8",
				"code":    map[string]any{"local": map[string]any{"filename": absolute(t, crowdModule)}},
			},
			"configuration": map[string]any{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": document},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := json.Unmarshal(bootstrap, &whole); err != nil {
		t.Fatal(err)
	}
	replaced := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for _, key := range []string{"configDiscovery", "config_discovery"} {
				if _, ok := node[key]; ok {
					delete(node, key)
					node["typed_config"] = json.RawMessage(config)
					replaced++
				}
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
	if replaced != 1 {
		t.Fatalf("%d filters by discovery in the bootstrap", replaced)
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRoutesCommands checks what people run before they trust a file to production.
func TestRoutesCommands(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(good, []byte(absorbRoutes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("routes:\n  - {name: a, topic: \"no spaces\", match: {path: leads}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"valid":      {[]string{"routes", "check", good}, 0, []string{good + ": 3 routes"}},
		"invalid":    {[]string{"routes", "check", good, bad}, 1, []string{bad + ":2:", "topic", "match.path", "1 of 2"}},
		"no file":    {[]string{"routes", "check"}, 2, []string{"usage"}},
		"taken":      {[]string{"routes", "explain", "POST http://x/orders/1?a=b", "--routes", good}, 0, []string{"leads", "✓ orders"}},
		"gRPC":       {[]string{"routes", "explain", "POST http://x/leads", "--routes", good, "-H", "content-type: application/grpc"}, 0, []string{"never absorbed", "no route"}},
		"not taken":  {[]string{"routes", "explain", "GET http://x/leads", "--routes", good}, 0, []string{"no route"}},
		"no request": {[]string{"routes", "explain", "leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"nonsense":   {[]string{"rotues"}, 2, []string{"no command \"rotues\""}},
		"help":       {[]string{"--help"}, 0, []string{"crowd dev"}},
		"its flags":  {[]string{"collector", "--help"}, 0, []string{"-kafka-config"}},
		"no Kafka":   {[]string{"collector"}, 1, []string{"kafka"}},
		"no routes":  {[]string{"xds", "--filter", "x"}, 1, []string{"routes"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := crowd(t, c.args...)
			if code := p.exit(); code != c.code {
				t.Errorf("exit status %d, want %d: %s", code, c.code, p.out)
			}
			for _, part := range c.want {
				if !strings.Contains(p.out.String(), part) {
					t.Errorf("says %q, want %q in it", p.out, part)
				}
			}
		})
	}
}
