package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
	"github.com/marceloboeira/crowd/xds"
)

// stack is everything: Kafka, collectors, the xDS server and an Envoy that it configures, each a process of its own
// on loopback, and a backend for what is not absorbed.
type stack struct {
	t           testing.TB
	kafka       *kafka.Broker
	collectors  []*collector
	xds         *process
	envoyConfig []byte
	envoy       *envoy.Process
	routes      string       // the file
	backend     http.Handler // may be replaced before the first request
	workers     int          // of Envoy; may be set before it starts, and is 2 otherwise
	gateway     string       // http://host:port
	log         *output
}

// TestMain ends the Kafkas that tests have borrowed.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := kafka.ClosePool(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// ownKafka starts a Kafka for a test that needs one of its own: which it takes away, slows down, or gives properties.
func ownKafka(t testing.TB, properties map[string]string) *kafka.Broker {
	t.Helper()
	return kafka.Start(t, kafka.Config{Properties: properties, Brief: true})
}

// newStack starts everything, with so many collectors and flags for them. Its Kafka may be borrowed: no test may take that away.
func newStack(t testing.TB, routes string, collectors int, flags ...string) *stack {
	t.Helper()
	return newStackOn(t, kafka.Borrow(t), routes, collectors, flags...)
}

// newStackOn starts everything but Kafka.
func newStackOn(t testing.TB, broker *kafka.Broker, routes string, collectors int, flags ...string) *stack {
	t.Helper()
	s := prepareStackOn(t, broker, routes, collectors, flags...)
	s.startEnvoy()
	return s
}

// prepareStackOn starts everything but Kafka and Envoy.
func prepareStackOn(t testing.TB, broker *kafka.Broker, routes string, collectors int, flags ...string) *stack {
	t.Helper()
	s := &stack{t: t, kafka: broker, routes: filepath.Join(t.TempDir(), "routes.yaml"), backend: echo}
	s.writeRoutes(routes)
	s.addCollectors(collectors, flags...)
	addresses := make([]string, collectors)
	for i, c := range s.collectors {
		c.start()
		addresses[i] = c.address
	}

	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.backend.ServeHTTP(w, r) }))
	t.Cleanup(backend.Close)
	s.xds = crowd(t, "xds", "--routes", s.routes, "--state", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--filter", absolute(t, crowdModule),
		"--gateway", "127.0.0.1:0", "--collector", strings.Join(addresses, ","),
		"--upstream", strings.TrimPrefix(backend.URL, "http://"))
	var err error
	s.envoyConfig, err = envoy.GatewayBootstrap{
		NodeID: "e2e", XDS: []string{s.xds.waitFor(`xds listening.* address=(\S+)`)}, Admin: "127.0.0.1:0",
	}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// startEnvoy starts the Envoy, or another one in its place, on another port.
func (s *stack) startEnvoy() {
	s.t.Helper()
	s.envoy, s.log = startEnvoy(s.t, s.envoyConfig, s.workers)
	s.gateway = "http://" + s.listener(xds.GatewayListener)
}

// base is where traffic goes that stays with one Envoy.
func (s *stack) base() string { return s.gateway }

// echo is a backend: it says what it got.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "backend: %s %s ", r.Method, r.URL)
	_, _ = io.Copy(w, r.Body)
})

// startEnvoy starts an Envoy that ends with the test, and returns what it logs too.
func startEnvoy(t testing.TB, bootstrap []byte, workers int) (*envoy.Process, *output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log := &output{more: make(chan struct{})}
	p, err := envoy.Start(ctx, envoy.ProcessConfig{
		Path: envoytest.Path(t), Bootstrap: bootstrap, Concurrency: cmp.Or(workers, 2), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if p.Err() == nil { // the test may have ended it
			if err := p.Stop(ctx); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("envoy:\n%s", log)
		}
	})
	return p, log
}

// Write takes what Envoy logs.
func (o *output) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		o.add(strings.TrimSuffix(line, "\n"), false)
	}
	return len(b), nil
}

// writeRoutes replaces the routes file.
func (s *stack) writeRoutes(routes string) {
	s.t.Helper()
	replaceFile(s.t, s.routes, routes)
}

// replaceFile replaces a file in one step.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

// listener waits for one of Envoy's listeners and returns its address.
func (s *stack) listener(name string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.envoy.Ready(ctx); err != nil {
		s.t.Fatal(err)
	}
	address, err := s.envoy.ListenerAddr(ctx, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return address
}

// get reads a page.
func get(t testing.TB, url string) string {
	t.Helper()
	response, err := http.Get(url) //nolint:noctx // a test's own address
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, response.StatusCode, text, err)
	}
	return string(text)
}

// stat reads one of the filter's stats from Envoy; it lags by a tick.
func (s *stack) stat(name string) int {
	s.t.Helper()
	return s.envoyStat("wasmcustom." + name)
}

// envoyStat reads one of Envoy's stats.
func (s *stack) envoyStat(name string) int {
	s.t.Helper()
	text := get(s.t, "http://"+s.envoy.Admin()+"/stats?filter=^"+name+"$")
	m := regexp.MustCompile(`: (\d+)`).FindStringSubmatch(text)
	if m == nil {
		return 0 // not there before the first plugin
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// eventually waits for something that nothing announces.
func (s *stack) eventually(what string, is func() bool) {
	s.t.Helper()
	eventually(s.t, what, is)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not after %v: %s", patience, what)
		}
	}
}

// allStored waits until everything that was answered is in Kafka: so many requests, and what probed the routes.
func (s *stack) allStored(atLeast int) {
	s.t.Helper()
	s.eventually("everything answered is stored", func() bool {
		stored := s.stat("crowd.records_stored")
		return s.stat("crowd.held_bytes") == 0 && stored >= atLeast && stored == s.stat("crowd.answered")
	})
	s.settled()
}

// drained waits until Envoy has counted so many answers and nothing is on its way: whatever was answered is in Kafka or
// refused.
func (s *stack) drained(answered int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%d requests are answered and stored", answered), func() bool {
		return s.stat("crowd.answered") == answered && s.stat("crowd.held_bytes") == 0 &&
			s.stat("crowd.records_stored")+s.stat("crowd.records_refused") == answered
	})
	s.settled()
}

// settled waits until the filter and the collectors that run hold nothing.
func (s *stack) settled() {
	s.t.Helper()
	s.eventually("nothing is on its way", func() bool {
		if s.stat("crowd.held_bytes") > 0 || s.stat("crowd.waiting_requests") > 0 {
			return false
		}
		l := s.ledger()
		l.observe()
		for _, c := range l {
			now := c.counted[len(c.counted)-1]
			if !c.ended() && total(s.t, now, "crowd_spool_entries", nil)+total(s.t, now, "crowd_inflight_bytes", nil) > 0 {
				return false
			}
		}
		return true
	})
}
