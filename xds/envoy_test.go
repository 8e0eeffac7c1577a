package xds_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
	"github.com/marceloboeira/crowd/xds"
)

// These tests show a real Envoy what the server serves, with a filter that does nothing: what the real one does with
// it is e2e's.

const (
	leads  = `routes: [{name: leads, match: {path: /leads}, topic: leads}]`
	track  = `routes: [{name: track, match: {prefix: /track/}, topic: tracking}]`
	broken = `routes: [{name: leads, match: {path: /leads}}]`
)

// patience is for machines with more to do than this.
const patience = time.Minute

// control is a server that runs in a test, and the files it reads.
type control struct {
	*xds.Server
	routes, filter string
	log            <-chan string
	stop           func() // ends it, and waits for that
}

// serve starts a server of cfg, to which it adds the files, unless they are another server's.
func serve(t *testing.T, cfg xds.Config) control {
	t.Helper()
	log := make(chan string, 1000)
	if cfg.Routes == "" {
		dir := t.TempDir()
		cfg.Routes, cfg.Filter = filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "crowd.wasm")
		write(t, cfg.Routes, leads)
		write(t, cfg.Filter, string(envoytest.EmptyFilter()))
	}
	cfg.State, cfg.Listen, cfg.Admin = xds.NoState, "127.0.0.1:0", "127.0.0.1:0"
	s, err := xds.New(cfg, slog.New(messages{slog.DiscardHandler, log}), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return control{s, cfg.Routes, cfg.Filter, log, stop}
}

// messages hands on the messages of log records.
type messages struct {
	slog.Handler
	to chan<- string
}

func (m messages) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (m messages) WithAttrs([]slog.Attr) slog.Handler               { return m }

func (m messages) Handle(_ context.Context, r slog.Record) error {
	m.to <- r.Message
	return nil
}

func (c control) awaitLog(t *testing.T, message string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-c.log:
			if got == message {
				return
			}
		case <-deadline:
			t.Fatalf("%q was not logged", message)
		}
	}
}

// logged reports whether a message is among those that were logged, up to it or to now.
func (c control) logged(message string) bool {
	for {
		select {
		case got := <-c.log:
			if got == message {
				return true
			}
		default:
			return false
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// start starts an Envoy, waits until it is ready, and returns it with the address of its listener.
func start(t *testing.T, bootstrap interface{ JSON() ([]byte, error) }, listener string) (*envoy.Process, string) {
	t.Helper()
	p := launch(t, bootstrap)
	return p, listening(t, p, listener)
}

// launch starts an Envoy that ends with the test.
func launch(t *testing.T, bootstrap interface{ JSON() ([]byte, error) }) *envoy.Process {
	t.Helper()
	text, err := bootstrap.JSON()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := envoy.Start(ctx, envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: text, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

// listening waits until an Envoy is ready, and returns the address of one of its listeners.
func listening(t *testing.T, p *envoy.Process, listener string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	address, err := p.ListenerAddr(ctx, listener)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// filterRoutes is the document that Envoy's filter has, by its own account.
func filterRoutes(t *testing.T, p *envoy.Process) string {
	t.Helper()
	_, body := get(t, "http://"+p.Admin()+"/config_dump?resource=ecds_filters")
	var dump struct {
		Configs []struct {
			Filter struct {
				Typed struct {
					Config struct {
						Configuration struct {
							Value string `json:"value"`
						} `json:"configuration"`
					} `json:"config"`
				} `json:"typed_config"`
			} `json:"ecds_filter"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(body), &dump); err != nil {
		t.Fatal(err)
	}
	if len(dump.Configs) != 1 {
		t.Fatalf("%d filters from crowd, want 1: %s", len(dump.Configs), body)
	}
	return dump.Configs[0].Filter.Typed.Config.Configuration.Value
}

// follows checks that changes of the routes reach p, and broken ones do not.
func (c control) follows(t *testing.T, p *envoy.Process) {
	t.Helper()
	const (
		hasLeads = `{"routes":[{"name":"leads","match":{"path":"/leads"},"topic":"leads"}]}`
		hasTrack = `{"routes":[{"name":"track","match":{"prefix":"/track/"},"topic":"tracking"}]}`
	)
	if got := filterRoutes(t, p); got != hasLeads {
		t.Errorf("at the start: %s", got)
	}
	write(t, c.routes, broken)
	c.awaitLog(t, "routes not taken, the last good ones stay")
	if got := filterRoutes(t, p); got != hasLeads {
		t.Errorf("after a broken change: %s", got)
	}
	write(t, c.routes, track)
	deadline := time.Now().Add(patience)
	for filterRoutes(t, p) != hasTrack {
		if time.Now().After(deadline) {
			t.Fatalf("after a change: %s", filterRoutes(t, p))
		}
	}
}

func TestGateway(t *testing.T) {
	c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"}})
	p, address := start(t, envoy.GatewayBootstrap{XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}, xds.GatewayListener)
	if status, body := get(t, "http://"+address); status != http.StatusNotFound || body != "no such route\n" {
		t.Errorf("what no route takes: %d %q", status, body)
	}
	c.follows(t, p)
}

func TestGatewayWithUpstream(t *testing.T) {
	upstream := backend(t)
	c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"localhost:1"}, Upstream: upstream})
	_, address := start(t, envoy.GatewayBootstrap{XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}, xds.GatewayListener)
	if status, body := get(t, "http://"+address+"/a//b%2Fc"); status != http.StatusOK || body != "/a//b%2Fc" {
		t.Errorf("what no route takes: %d %q", status, body)
	}
}

// What no route can take never gets to the filter, which would break, and what a route may take does.
func TestTheFilterIsLeftAlone(t *testing.T) {
	c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"}, Upstream: backend(t)})
	write(t, c.filter, string(envoytest.TouchyFilter()))
	p, address := start(t, envoy.GatewayBootstrap{XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}, xds.GatewayListener)
	check := func(want int, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if status, _ := get(t, "http://"+address+path); status != want {
				t.Errorf("%s: %d, want %d", path, status, want)
			}
		}
	}
	check(http.StatusOK, "/", "/lead", "/leads/7", "/x?/leads")
	check(http.StatusServiceUnavailable, "/leads")
	// Envoy would call a filter for its access log too, when the answer is there. The first request to get to one that is
	// broken has it replaced.
	if _, stats := get(t, "http://"+p.Admin()+"/stats?filter=vm_reload"); !regexp.MustCompile(`(?m)^wasm\.crowd\.vm_reload_success: 0$`).MatchString(stats) {
		t.Errorf("the filter was broken before:\n%s", stats)
	}
	check(http.StatusServiceUnavailable, "/leads?x=/y", "/x/../leads")

	write(t, c.routes, track)
	for deadline := time.Now().Add(patience); ; {
		if status, _ := get(t, "http://"+address+"/leads"); status == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("/leads is still the filter's")
		}
	}
	check(http.StatusOK, "/", "/leads", "/track")
	check(http.StatusServiceUnavailable, "/track/", "/track/7")
}

// An Envoy with a listener of its own has the filter from a server that has a whole gateway besides.
func TestFilterOnly(t *testing.T) {
	c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"}})
	p, address := start(t, envoy.FilterBootstrap{
		XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Backend: backend(t),
	}, envoy.FilterListener)
	if status, body := get(t, "http://"+address+"/else"); status != http.StatusOK || body != "/else" {
		t.Errorf("what no route takes: %d %q", status, body)
	}
	c.follows(t, p)
}

// What Envoy cannot use it rejects, and goes on with what it had.
func TestEnvoyRejects(t *testing.T) {
	c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"}})
	_, address := start(t, envoy.GatewayBootstrap{XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}, xds.GatewayListener)
	if err := os.Remove(c.filter); err != nil {
		t.Fatal(err)
	}
	write(t, c.routes, track)
	c.awaitLog(t, "envoy rejected configuration and keeps what it had")
	if status, _ := get(t, "http://"+address); status != http.StatusNotFound {
		t.Errorf("what no route takes: %d", status)
	}
}

// backend answers with the path of the request.
func backend(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RequestURI)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
