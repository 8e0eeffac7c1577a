package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
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
	shop := filtersFor(t, s, &corev3.Node{Id: "web-0", Cluster: "shop"})
	web := filtersFor(t, s, &corev3.Node{Id: "web-1", Cluster: "other"})
	for _, c := range []struct {
		group      string
		next       func() string
		code, want string
	}{
		{"shop", func() string {
			f := shop()
			return f.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename() + " " + document(t, f)
		}, "/crowd.wasm", leads},
		{"web", func() string {
			f := web()
			return f.GetConfig().GetVmConfig().GetCode().GetLocal().GetFilename() + " " + document(t, f)
		}, "/next.wasm", track},
	} {
		if diff := cmp.Diff(c.code+" "+c.want, c.next()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.group, diff)
		}
	}

	// A change of one group's routes is that group's alone.
	write(t, filepath.Join(dir, "track.yaml"), strings.ReplaceAll(track, "tracking", "clicks"))
	if got := document(t, web()); !strings.Contains(got, "clicks") {
		t.Errorf("web: %s", got)
	}
	write(t, filepath.Join(dir, "leads.yaml"), strings.ReplaceAll(leads, `"topic":"leads"`, `"topic":"orders"`))
	if got := document(t, shop()); !strings.Contains(got, "orders") {
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
