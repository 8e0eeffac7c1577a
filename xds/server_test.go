package xds

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marceloboeira/crowd/xds/route"
)

const (
	leads = `{"routes":[{"name":"leads","match":{"path":"/leads"},"topic":"leads"}]}`
	track = `{"routes":[{"name":"track","match":{"prefix":"/track/"},"topic":"tracking"}]}`
)

func TestValidate(t *testing.T) {
	valid := Config{Routes: "routes.yaml", Filter: "/crowd.wasm", Gateway: ":10000", Collectors: []string{"collector:9001"}}
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"valid", func(*Config) {}, ""},
		{"filter only", func(c *Config) { c.Gateway, c.Collectors = "", nil }, ""},
		{"nothing", func(c *Config) { *c = Config{} }, "routes: a file is required\n" +
			"filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"},
		{"both filters", func(c *Config) { c.FilterInline = "crowd.wasm" },
			"filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"},
		{"own addresses", func(c *Config) { c.Listen, c.Admin = "18000", "a:b" }, `listen: address "18000": want host:port` + "\n" +
			`admin: address "a:b": port "b" is not a number from 0 to 65535`},
		{"clusters without a gateway", func(c *Config) { c.Gateway = "" }, "gateway: collectors, upstream and TLS mean nothing " +
			"without the gateway's address; where the listener is somebody else's, so are they"},
		{"no collectors", func(c *Config) { c.Collectors = nil }, "collectors: a gateway needs at least one"},
		{"gateway by name", func(c *Config) { c.Gateway = "localhost:80" },
			`gateway: address "localhost:80": a listener needs an IP address, such as 127.0.0.1 or 0.0.0.0`},
		{"everything at once", func(c *Config) { c.Gateway, c.Collectors, c.Upstream = ":http", []string{":9001", "c"}, "api:0" },
			`gateway: address ":http": port "http" is not a number from 0 to 65535` + "\n" +
				`collectors: address ":9001": host and port are required` + "\n" +
				`collectors: address "c": want host:port` + "\n" +
				`upstream: address "api:0": host and port are required`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := valid
			tt.edit(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
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

// filters subscribes to the filter at s and returns a function that waits for its next version and acknowledges it.
func filters(t *testing.T, s *Server) func() *httpwasmv3.Wasm {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := &discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: "test"}, TypeUrl: resource.ExtensionConfigType, ResourceNames: []string{"crowd"},
	}
	return func() *httpwasmv3.Wasm {
		t.Helper()
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		request.VersionInfo, request.ResponseNonce = r.GetVersionInfo(), r.GetNonce()
		extension, filter := &corev3.TypedExtensionConfig{}, &httpwasmv3.Wasm{}
		if err := r.GetResources()[0].UnmarshalTo(extension); err != nil {
			t.Fatal(err)
		}
		if err := extension.GetTypedConfig().UnmarshalTo(filter); err != nil {
			t.Fatal(err)
		}
		return filter
	}
}

func document(t *testing.T, filter *httpwasmv3.Wasm) string {
	t.Helper()
	text := &wrapperspb.StringValue{}
	if err := filter.GetConfig().GetConfiguration().UnmarshalTo(text); err != nil {
		t.Fatal(err)
	}
	return text.GetValue()
}

// A change of the file reaches an Envoy; a broken one does not, and the next good one does.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	routes, code := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "crowd.wasm")
	write(t, routes, leads)
	write(t, code, "\x00asm")
	rejected := make(chan struct{}, 1)
	log := slog.New(notTaken{slog.DiscardHandler, rejected})
	served := make(chan string, 10)
	s, err := New(Config{
		Routes: routes, FilterInline: code, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Served: func(c route.Config) { served <- c.Routes[0].Name },
	}, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if len(served) != 1 || <-served != "leads" {
		t.Error("the first document is not said to be served")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()

	next := filters(t, s)
	first := next()
	if diff := cmp.Diff(leads, document(t, first)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := first.GetConfig().GetVmConfig().GetCode().GetLocal().GetInlineBytes(); string(got) != "\x00asm" {
		t.Errorf("code: %q", got)
	}
	write(t, routes, "routes: {}\n")
	<-rejected
	write(t, routes, track)
	if diff := cmp.Diff(track, document(t, next())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	for path, want := range map[string]string{"/healthz": "alive\n", "/readyz": "ready\n", "/metrics": `crowd_xds_config_reloads_total{group="default",result="rejected"} 1`} {
		if body := get(t, "http://"+s.AdminAddr().String()+path); !strings.Contains(body, want) {
			t.Errorf("%s: %q, want %q", path, body, want)
		}
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(served) != 1 || <-served != "track" {
		t.Error("the good change, and nothing else, is not said to be served")
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

// notTaken signals that a document was logged as not taken.
type notTaken struct {
	slog.Handler
	to chan<- struct{}
}

func (l notTaken) Enabled(context.Context, slog.Level) bool { return true }
func (l notTaken) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l notTaken) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "routes not taken") {
		l.to <- struct{}{}
	}
	return nil
}

func TestNewFails(t *testing.T) {
	dir := t.TempDir()
	routes := filepath.Join(dir, "routes.yaml")
	write(t, routes, `{"uplink":{"cluster":"crowd_upstream"},`+strings.TrimPrefix(leads, "{"))
	taken, err := New(Config{Routes: routes, Filter: "x", Listen: "127.0.0.1:0", Admin: "127.0.0.1:0"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.envoys.Close()
	defer taken.admin.Close()
	defer taken.source.Close()

	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"not valid", Config{Filter: "x"}, "xds: routes: a file is required"},
		{"no routes", Config{Routes: filepath.Join(dir, "none"), Filter: "x"}, "xds: read routes: "},
		{"no code", Config{Routes: routes, FilterInline: filepath.Join(dir, "none")}, "xds: --filter-inline: open " + dir},
		{"other code", Config{Routes: routes, FilterInline: routes}, "xds: --filter-inline: " + routes + " is not a Wasm module; run `make build`"},
		{"cluster", Config{Routes: routes, Filter: "x", Gateway: ":1", Collectors: []string{"c:1"}}, "xds: uplink.cluster: "},
		{"port in use", Config{Routes: routes, Filter: "x", Listen: taken.Addr().String()}, "xds: listen for Envoys: "},
		{"admin port in use", Config{Routes: routes, Filter: "x", Listen: "127.0.0.1:0", Admin: taken.AdminAddr().String()},
			"xds: listen for admin requests: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
		})
	}
}
