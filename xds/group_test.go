package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/envoy/envoytest"
	"github.com/marceloboeira/crowd/xds/internal/state"
	"github.com/marceloboeira/crowd/xds/route"
)

func discard() *slog.Logger             { return slog.New(slog.DiscardHandler) }
func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// running starts a server on loopback, which ends with the test, or before it with stop.
func running(t *testing.T, cfg Config) (s *Server, stop func()) {
	t.Helper()
	cfg.Listen, cfg.Admin = "127.0.0.1:0", "127.0.0.1:0"
	s, err := New(cfg, discard(), newRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return s, stop
}

func TestEachGroupGetsItsOwnRoutes(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "leads.yaml"), leads)
	write(t, filepath.Join(dir, "track.yaml"), track)
	groups := filepath.Join(dir, "groups.yaml")
	write(t, groups, `
groups:
  - {name: shop, match: {cluster: {exact: shop}}, routes: leads.yaml}
  - {name: web, match: {id: {prefix: web-}}, routes: track.yaml, filter: /next.wasm}
`)
	s, _ := running(t, Config{Groups: groups, Filter: "/crowd.wasm", State: NoState})
	shop := subscribe(t, s, &corev3.Node{Id: "web-0", Cluster: "shop"})
	web := subscribe(t, s, &corev3.Node{Id: "web-1", Cluster: "other"})
	for _, c := range []struct {
		envoy      *subscriber
		code, want string
	}{{shop, "/crowd.wasm", leads}, {web, "/next.wasm", track}} {
		got := c.envoy.next(t)
		if code := got.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename(); code != c.code || document(t, got) != c.want {
			t.Errorf("%s with %s, want %s with %s", code, document(t, got), c.code, c.want)
		}
	}

	// A change of one group's routes is that group's alone.
	write(t, filepath.Join(dir, "track.yaml"), strings.ReplaceAll(track, "tracking", "clicks"))
	if got := document(t, web.next(t)); !strings.Contains(got, "clicks") {
		t.Errorf("web: %s", got)
	}
	write(t, filepath.Join(dir, "leads.yaml"), strings.ReplaceAll(leads, `"topic":"leads"`, `"topic":"orders"`))
	if got := document(t, shop.next(t)); !strings.Contains(got, "orders") {
		t.Errorf("shop: %s", got)
	}
}

// Over TLS an Envoy is served if the certificate it shows is one of the CA's and has a name on the list.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, others := envoytest.NewCA(t), envoytest.NewCA(t)
	cert, key := ca.Issue(t, "xds.crowd")
	write(t, file("tls.crt"), string(cert))
	write(t, file("tls.key"), string(key))
	write(t, file("ca.crt"), string(ca.PEM))
	write(t, file("routes.yaml"), leads)
	s, _ := running(t, Config{
		Routes: file("routes.yaml"), State: NoState, Filter: "/crowd.wasm",
		TLSCert: file("tls.crt"), TLSKey: file("tls.key"), TLSClientCA: file("ca.crt"), TLSAllowSAN: []string{"spiffe://crowd/edge/*"},
	})
	for _, c := range []struct {
		name    string
		ca      *envoytest.CA
		san     string
		allowed bool
	}{
		{"allowed", ca, "spiffe://crowd/edge/1", true},
		{"not on the list", ca, "spiffe://crowd/shop/1", false},
		{"of another CA", others, "spiffe://crowd/edge/1", false},
		{"none", nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "xds.crowd"}
			config.RootCAs.AppendCertsFromPEM(ca.PEM)
			if c.ca != nil {
				pair, err := tls.X509KeyPair(c.ca.Issue(t, c.san))
				if err != nil {
					t.Fatal(err)
				}
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			client := discoveryv3.NewAggregatedDiscoveryServiceClient(connect(t, s, credentials.NewTLS(config)))
			stream, err := client.StreamAggregatedResources(ctx)
			if err == nil {
				_ = stream.Send(&discoveryv3.DiscoveryRequest{
					Node: &corev3.Node{Id: "test"}, TypeUrl: resource.ExtensionConfigType, ResourceNames: []string{"crowd"},
				}) // Recv says more
				_, err = stream.Recv()
			}
			if c.allowed && err != nil || !c.allowed && status.Code(err) != codes.Unavailable {
				t.Errorf("%v", err)
			}
		})
	}
}

// served is what a node that comes to s is given.
func served(t *testing.T, s *Server) string {
	t.Helper()
	return document(t, subscribe(t, s, &corev3.Node{Id: "served"}).next(t))
}

// What was good is served where the routes are broken at the start, until they are good again.
func TestAStartWithBrokenRoutesServesTheLastGoodOnes(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Routes: filepath.Join(dir, "routes.yaml"), State: filepath.Join(dir, "state"), Filter: "/crowd.wasm"}
	write(t, cfg.Routes, leads)
	s, stop := running(t, cfg)
	envoy := subscribe(t, s, &corev3.Node{Id: "test"})
	envoy.next(t)
	write(t, cfg.Routes, track)
	envoy.next(t) // which acknowledges the first
	write(t, cfg.Routes, "routes: {}\n")
	kept := filepath.Join(cfg.State, "default.yaml")
	awaitFile(t, kept, `"leads"`)
	stop() // before the second is acknowledged

	s, stop = running(t, cfg)
	if diff := cmp.Diff(leads, served(t, s)); diff != "" {
		t.Errorf("with broken routes (-want +got):\n%s", diff)
	}
	if metrics := get(t, "http://"+s.AdminAddr().String()+"/metrics"); !strings.Contains(metrics, `crowd_xds_config_valid{group="default"} 0`) {
		t.Errorf("metrics: %s", metrics)
	}
	envoy = subscribe(t, s, &corev3.Node{Id: "test"})
	envoy.next(t)
	write(t, cfg.Routes, track)
	if diff := cmp.Diff(track, document(t, envoy.next(t))); diff != "" {
		t.Errorf("with good ones (-want +got):\n%s", diff)
	}
	stop()

	// Without the file altogether, too; but not with neither.
	if err := os.Remove(cfg.Routes); err != nil {
		t.Fatal(err)
	}
	s, stop = running(t, cfg)
	if diff := cmp.Diff(leads, served(t, s)); diff != "" {
		t.Errorf("without routes (-want +got):\n%s", diff)
	}
	stop()
	write(t, kept, "damaged")
	if _, err := New(cfg, discard(), newRegistry()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("with neither: %v", err)
	}
	write(t, cfg.Routes, leads)
	write(t, kept, "damaged")
	s, _ = running(t, cfg)
	if diff := cmp.Diff(leads, served(t, s)); diff != "" {
		t.Errorf("with a damaged state (-want +got):\n%s", diff)
	}
}

// What is good again after a restart is what the file says, if nobody objects.
func TestARestartBeginsWithTheLastGoodRoutes(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{
		Routes: filepath.Join(dir, "routes.yaml"), State: filepath.Join(dir, "state"), Filter: "/crowd.wasm",
		CanaryPercent: 50, CanaryHold: time.Hour,
	}
	write(t, cfg.Routes, leads)
	s, stop := running(t, cfg)
	envoy := subscribe(t, s, &corev3.Node{Id: "test"})
	envoy.next(t)
	envoy.ack(t)
	awaitFile(t, filepath.Join(cfg.State, "default.yaml"), `"leads"`)
	stop()

	write(t, cfg.Routes, track)
	s, _ = running(t, cfg)
	got := map[string]bool{}
	for _, node := range []string{"a", "b"} {
		got[document(t, subscribe(t, s, &corev3.Node{Id: node}).next(t))] = true
	}
	if !got[leads] {
		t.Errorf("nobody gets the last good routes: %v", got)
	}
}

// Other flags are a change as any other: canaries have them first, and whoever rejects them gets back what was good.
func TestARestartWithOtherFlagsIsAChange(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{
		Routes: filepath.Join(dir, "routes.yaml"), State: filepath.Join(dir, "state"), Filter: "/crowd.wasm",
		CanaryPercent: 50, CanaryHold: time.Hour,
	}
	write(t, cfg.Routes, leads)
	s, stop := running(t, cfg)
	envoy := subscribe(t, s, &corev3.Node{Id: "test"})
	envoy.next(t)
	envoy.ack(t)
	awaitFile(t, filepath.Join(cfg.State, "default.yaml"), `"leads"`)
	good := s.Status().Groups[0].Good
	stop()

	cfg.Filter = "/next.wasm"
	for _, routes := range []string{leads, "routes: {}\n"} { // also where the routes are broken meanwhile
		write(t, cfg.Routes, routes)
		s, stop = running(t, cfg)
		got := map[string]string{}
		for _, node := range []string{"a", "b"} {
			filter := subscribe(t, s, &corev3.Node{Id: node}).next(t)
			got[filter.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename()] = document(t, filter)
		}
		if diff := cmp.Diff(map[string]string{"/crowd.wasm": leads, "/next.wasm": leads}, got); diff != "" {
			t.Errorf("with %q (-want +got):\n%s", routes, diff)
		}
		if g := s.Status().Groups[0]; g.Good != good || g.Candidate == "" {
			t.Errorf("%+v, and before %s was good", g, good)
		}
		stop()
	}
}

func TestAStateThatCannotBeKeptFailsTheStart(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Routes: filepath.Join(dir, "routes.yaml"), Filter: "/crowd.wasm"}
	write(t, cfg.Routes, leads)
	cfg.State = filepath.Join(cfg.Routes, "state")
	if _, err := New(cfg, discard(), newRegistry()); err == nil || !strings.HasSuffix(err.Error(), "pass another one with --state, or --state off") {
		t.Errorf("New: %v", err)
	}
}

// A disk that was full when routes became good does not keep them from the next start once there is room.
func TestGoodRoutesThatCouldNotBeKeptAreKeptLater(t *testing.T) {
	dir := t.TempDir()
	store, err := state.Open(dir, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept := filepath.Join(dir, "shop.yaml")
	if err := os.MkdirAll(filepath.Join(kept, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := &group{name: "shop", state: store, log: discard(), offered: []offered{{"1", route.Config{}}, {"2", route.Config{}}}}
	g.keep("1")
	if g.saved != "" || g.unsaved == nil {
		t.Fatalf("saved %q, unsaved %v, with a directory in the way", g.saved, g.unsaved)
	}
	again := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(again)
		g.saveAgain(ctx, time.Millisecond)
	}()
	if err := os.RemoveAll(kept); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, kept, "{")
	cancel()
	<-again
	if g.saved != "1" || g.unsaved != nil {
		t.Errorf("saved %q, unsaved %v", g.saved, g.unsaved)
	}
}

// awaitFile waits until a file has a text in it.
func awaitFile(t *testing.T, path, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %s: %q, %v", text, path, content, err)
		}
	}
}
