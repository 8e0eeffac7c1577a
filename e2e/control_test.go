package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
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
	s.allStored(requests)
	verify(t, s.kafka, "leads", "/leads", answers, 10_000)
}

// TestNothingIsLostWhenTheCollectorsClusterChanges renames the cluster of the collectors under load, the second time
// while there is no collector: the old cluster is gone from Envoy at once, with what was under way on it.
func TestNothingIsLostWhenTheCollectorsClusterChanges(t *testing.T) {
	const requests = 6_000
	s := newStack(t, absorbRoutes)
	rename := func(cluster string) {
		s.writeRoutes("uplink: {cluster: " + cluster + "}\n" + absorbRoutes +
			"  - {name: probe, match: {path: /" + cluster + "}, topic: probe, answer: {status: 201}}\n")
		client := newClient(false)
		s.eventually("the change is active", func() bool {
			r := request{path: "/" + cluster}
			return r.send(t.Context(), client, s.gateway).status == http.StatusCreated
		})
	}
	answers := loadWhile(t, s.gateway, "/leads", requests, 8, 10_000, requests/4, func() {
		rename("second")
		s.collector.kill()
		rename("third")
		s.startCollector()
	})
	allAnswered(t, answers)
	s.allStored(requests)
	verify(t, s.kafka, "leads", "/leads", answers, 10_000)
}

// TestNothingIsLostWhenTheConfigurationTurnsInvalid gives the filter a configuration that it cannot read while there is
// no collector, and never another.
func TestNothingIsLostWhenTheConfigurationTurnsInvalid(t *testing.T) {
	const requests = 200
	s := newFilterStack(t)
	s.kafka = kafka.Start(t, kafka.Config{})
	s.startCollector()
	file := filepath.Join(t.TempDir(), "filter.json")
	serve := func(version, document string) {
		text, err := json.Marshal(map[string]any{
			"version_info": version,
			"resources": []any{map[string]any{
				"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": "crowd",
				"typed_config": filterConfig(t, document),
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, file, string(text))
	}
	serve("1", `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"},
		{"name": "probe", "match": {"path": "/probe"}, "topic": "probe"}]}`)
	s.start(withFilter(t, s.bootstrap("127.0.0.1:1"), func(filter map[string]any) {
		filter["configDiscovery"].(map[string]any)["configSource"] = map[string]any{
			"pathConfigSource": map[string]any{"path": file},
		}
	}))
	s.collector.kill()
	answers := load(t, s.gateway, "/leads", requests, 4, 1_000, func(int) {})
	allAnswered(t, answers)
	serve("2", `{"routes": 7}`)
	s.eventually("requests go on to the backend", func() bool { return s.post("/probe") == "200 backend: POST /probe body" })
	s.eventually("all is held, as there is no collector", func() bool {
		return s.stat("crowd.answered") >= requests && s.stat("crowd.records_stored") == 0 && s.stat("crowd.held_bytes") > 0
	})
	s.startCollector()
	s.allStored(requests)
	verify(t, s.kafka, "leads", "/leads", answers, 1_000)
}

// TestLargeBodiesUnderASmallBufferLimit stops Envoy for a moment again and again, so that more has arrived than its
// buffers may hold: the limit is not the filter's, and no body is too large for it.
func TestLargeBodiesUnderASmallBufferLimit(t *testing.T) {
	const requests = 100
	s := newFilterStack(t)
	s.kafka = kafka.Start(t, kafka.Config{Properties: map[string]string{"message.max.bytes": strconv.Itoa(messageLimit)}})
	s.startCollector()
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

	stalled, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stalled)
		for pid := envoyOf(t); ; {
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

// envoyOf returns the process id of the test's Envoy.
func envoyOf(t *testing.T) int {
	t.Helper()
	for _, pid := range children(t, os.Getpid()) {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(command), "--admin-address-path") {
			return pid
		}
	}
	t.Fatal("no Envoy runs")
	return 0
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

// filterConfig is the filter with its configuration, as Envoy takes it.
func filterConfig(t *testing.T, document string) map[string]any {
	t.Helper()
	return map[string]any{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
		"config": map[string]any{
			"name": "crowd", "allow_on_headers_stop_iteration": true,
			"vm_config": map[string]any{
				"vm_id": "crowd", "runtime": "envoy.wasm.runtime.v8",
				"code": map[string]any{"local": map[string]any{"filename": absolute(t, crowdModule)}},
			},
			"configuration": map[string]any{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": document},
		},
	}
}

// withStaticFilter puts the filter into a bootstrap with its configuration, in place of its discovery.
func withStaticFilter(t *testing.T, bootstrap []byte, document string) []byte {
	t.Helper()
	return withFilter(t, bootstrap, func(filter map[string]any) {
		delete(filter, "configDiscovery")
		filter["typed_config"] = filterConfig(t, document)
	})
}

// withFilter edits the filter in a bootstrap that has it by discovery.
func withFilter(t *testing.T, bootstrap []byte, edit func(filter map[string]any)) []byte {
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
			if _, ok := node["configDiscovery"]; ok {
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
		t.Fatalf("%d filters by discovery in the bootstrap", found)
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
		"unreadable": {[]string{"routes", "check", good + ".none", good}, 1, []string{good + ".none", good + ": 3 routes", "1 of 2"}},
		"no file":    {[]string{"routes", "check"}, 2, []string{"want at least one FILE", "usage"}},
		"taken":      {[]string{"routes", "explain", "POST http://x/orders/1?a=b", "--routes", good}, 0, []string{"leads", "✓ orders"}},
		"gRPC":       {[]string{"routes", "explain", "POST http://x/leads", "--routes", good, "-H", "content-type: application/grpc"}, 0, []string{"never absorbed", "no route"}},
		"not taken":  {[]string{"routes", "explain", "GET http://x/leads", "--routes", good}, 0, []string{"no route"}},
		"no request": {[]string{"routes", "explain", "leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"no method":  {[]string{"routes", "explain", " http://x/leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"no quotes":  {[]string{"routes", "explain", "POST", "http://x/leads"}, 2, []string{"want one 'METHOD URL', not \"POST http://x/leads\""}},
		"no HTTP":    {[]string{"routes", "explain", "POST ftp://x/leads", "--routes", good}, 1, []string{"want a method and a URL"}},
		"control":    {[]string{"routes", "explain", "PO\x1bST http://x/leads", "--routes", good}, 1, []string{`"PO\x1bST http://x/leads"`}},
		"no default": {[]string{"routes", "explain", "POST http://x/leads"}, 1, []string{"--routes"}},
		"no topic":   {[]string{"tail", "--kafka", "127.0.0.1:1"}, 2, []string{"want one TOPIC"}},
		"no module":  {[]string{"xds", "--routes", good, "--filter-inline", good}, 1, []string{"--filter-inline", good, "make build"}},
		"nonsense":   {[]string{"rotues"}, 2, []string{"no command \"rotues\""}},
		"help":       {[]string{"--help"}, 0, []string{"crowd dev"}},
		"its flags":  {[]string{"collector", "--help"}, 0, []string{"-kafka-config"}},
		"no Kafka":   {[]string{"collector"}, 1, []string{"--kafka"}},
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

// TestRoutesCommandsEndWhenToldTo interrupts one that waits for a file which nobody writes.
func TestRoutesCommandsEndWhenToldTo(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := crowd(t, "routes", "check", fifo)
	// Returns when the program reads.
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code == 0 {
		t.Errorf("exit status %d: %s", code, p.out)
	}
}
