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
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marceloboeira/crowd/xds/route"
)

const (
	leads = `{"routes":[{"name":"leads","match":{"path":"/leads"},"topic":"leads"}]}`
	track = `{"routes":[{"name":"track","match":{"prefix":"/track/"},"topic":"tracking"}]}`
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, s *Server, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// subscriber is an Envoy that wants the filter.
type subscriber struct {
	stream  discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	request *discoveryv3.DiscoveryRequest
}

func subscribe(t *testing.T, s *Server, node *corev3.Node) *subscriber {
	t.Helper()
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(connect(t, s, insecure.NewCredentials()))
	stream, err := client.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &subscriber{stream, &discoveryv3.DiscoveryRequest{
		Node: node, TypeUrl: resource.ExtensionConfigType, ResourceNames: []string{"crowd"},
	}}
}

// ack subscribes at first, and then acknowledges what came last.
func (s *subscriber) ack(t *testing.T) {
	t.Helper()
	if err := s.stream.Send(s.request); err != nil {
		t.Fatal(err)
	}
}

// next waits for the next version, after it has acknowledged the one before.
func (s *subscriber) next(t *testing.T) *httpwasmv3.Wasm {
	t.Helper()
	s.ack(t)
	r, err := s.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	s.request.VersionInfo, s.request.ResponseNonce = r.GetVersionInfo(), r.GetNonce()
	extension, filter := &corev3.TypedExtensionConfig{}, &httpwasmv3.Wasm{}
	if err := r.GetResources()[0].UnmarshalTo(extension); err != nil {
		t.Fatal(err)
	}
	if err := extension.GetTypedConfig().UnmarshalTo(filter); err != nil {
		t.Fatal(err)
	}
	return filter
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
		State:  NoState,
		Served: func(group string, c route.Config) { served <- group + " " + c.Routes[0].Name },
	}, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if len(served) != 1 || <-served != "default leads" {
		t.Error("the first document is not said to be served")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()

	envoy := subscribe(t, s, &corev3.Node{Id: "test"})
	first := envoy.next(t)
	if diff := cmp.Diff(leads, document(t, first)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := first.GetConfig().GetVmConfig().GetCode().GetLocal().GetInlineBytes(); string(got) != "\x00asm" {
		t.Errorf("code: %q", got)
	}
	write(t, routes, "routes: {}\n")
	<-rejected
	write(t, routes, track)
	if diff := cmp.Diff(track, document(t, envoy.next(t))); diff != "" {
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
	if len(served) != 1 || <-served != "default track" {
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
	taken, err := New(Config{Routes: routes, State: NoState, Filter: "x", Listen: "127.0.0.1:0", Admin: "127.0.0.1:0"}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.envoys.Close()
	defer taken.admin.Close()
	defer taken.groups["default"].source.Close()

	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"not valid", Config{Filter: "x"}, "xds: routes: either routes, a file or directory, or a groups file is required"},
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
			tt.cfg.State = NoState
			_, err := New(tt.cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
		})
	}
}
