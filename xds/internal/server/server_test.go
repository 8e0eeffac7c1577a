package server

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	extensionservice "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/route"
)

// serving is a Server that serves in a test.
type serving struct {
	*Server
	conn  *grpc.ClientConn
	lines <-chan string // the message of every log record
	good  <-chan string // group and version
	stop  func()        // ends Serve and waits for it
}

func serve(t *testing.T) serving { return serveWith(t, rollout.Policy{}) }

// serveWith serves a group "default", which takes all nodes but those of cluster "nobody".
func serveWith(t *testing.T, policy rollout.Policy) serving {
	t.Helper()
	lines, good := make(chan string, 10000), make(chan string, 1000)
	s := New(Options{
		Name: "test",
		Group: func(n *corev3.Node) string {
			if n.GetCluster() == "nobody" {
				return ""
			}
			return "default"
		},
		Rollout: policy,
		Good:    func(group, version string) { good <- group + " " + version },
	}, slog.New(messageLog{lines}), prometheus.NewRegistry())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(ctx, listener, insecure.NewCredentials()); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return serving{Server: s, conn: conn, lines: lines, good: good, stop: stop}
}

// messageLog hands on the messages of log records.
type messageLog struct{ to chan<- string }

func (l messageLog) Enabled(context.Context, slog.Level) bool { return true }
func (l messageLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l messageLog) WithGroup(string) slog.Handler            { return l }

func (l messageLog) Handle(_ context.Context, r slog.Record) error {
	l.to <- r.Message
	return nil
}

func (s serving) awaitLog(t *testing.T, message string) {
	t.Helper()
	deadline := patience()
	for {
		select {
		case line := <-s.lines:
			if line == message {
				return
			}
		case <-deadline:
			t.Fatalf("%q was not logged", message)
		}
	}
}

// patience is for machines with more to do than this.
func patience() <-chan time.Time { return time.After(20 * time.Second) }

// set serves a document with one route, as a gateway or for the filter alone.
func (s serving) set(t *testing.T, routeName string, gateway bool) (version string) {
	t.Helper()
	version, err := s.Offer("default", build(t, routeName, gateway))
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func build(t *testing.T, routeName string, gateway bool) resources.Resources {
	t.Helper()
	in := resources.Input{
		Routes: route.Config{Routes: []route.Route{{Name: routeName, Match: route.Match{Path: "/"}, Policy: route.Policy{Topic: "t"}}}},
		Filter: resources.Filter{Path: "crowd.wasm"},
	}
	if gateway {
		in.Gateway = &resources.Gateway{
			Listen:     resources.Address{Port: 10000},
			Collectors: []resources.Address{{Host: "10.0.0.1", Port: 9001}},
		}
	}
	r, err := resources.Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// envoy speaks the state-of-the-world protocol as one.
type envoy struct {
	t      *testing.T
	stream interface {
		Send(*discoveryv3.DiscoveryRequest) error
		Recv() (*discoveryv3.DiscoveryResponse, error)
	}
	node *corev3.Node
}

func (s serving) envoy(t *testing.T, node string) *envoy {
	t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &envoy{t: t, stream: stream, node: &corev3.Node{Id: node}}
}

func (e *envoy) send(r *discoveryv3.DiscoveryRequest) {
	e.t.Helper()
	r.Node, e.node = e.node, nil // as Envoy does, with the first request only
	if err := e.stream.Send(r); err != nil {
		e.t.Fatal(err)
	}
}

func (e *envoy) subscribe(typeURL string, names ...string) {
	e.t.Helper()
	e.send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: names})
}

func (e *envoy) receive() *discoveryv3.DiscoveryResponse {
	e.t.Helper()
	r, err := e.stream.Recv()
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

func (e *envoy) ack(r *discoveryv3.DiscoveryResponse, names ...string) {
	e.t.Helper()
	e.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResourceNames: names, VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce(),
	})
}

// nack answers r with what Envoy sends: the version that it keeps.
func (e *envoy) nack(r *discoveryv3.DiscoveryResponse, keeps string, names ...string) {
	e.t.Helper()
	e.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResourceNames: names, VersionInfo: keeps, ResponseNonce: r.GetNonce(),
		ErrorDetail: &statuspb.Status{Message: "no such file"},
	})
}

// An Envoy whose listener is somebody else's asks for the filter only, from a server that has more.
func TestFilterOnly(t *testing.T) {
	s := serve(t)
	s.set(t, "one", true)
	e := s.envoy(t, "mesh")
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	one := e.receive()
	if len(one.GetResources()) != 1 {
		t.Fatalf("%d resources, want the filter", len(one.GetResources()))
	}
	e.ack(one, resources.FilterName)

	s.set(t, "two", true)
	two := e.receive()
	if two.GetTypeUrl() != resource.ExtensionConfigType || two.GetVersionInfo() == one.GetVersionInfo() {
		t.Errorf("after a change: %s at version %s", two.GetTypeUrl(), two.GetVersionInfo())
	}
}

func TestGateway(t *testing.T) {
	s := serve(t)
	s.set(t, "one", true)
	e := s.envoy(t, "gateway")
	for _, subscription := range []struct {
		typeURL string
		names   []string
	}{
		{typeURL: resource.ClusterType},
		{resource.EndpointType, []string{route.DefaultCluster}},
		{typeURL: resource.ListenerType},
		{resource.ExtensionConfigType, []string{resources.FilterName}},
		{resource.RouteType, []string{resources.RoutesName}},
	} {
		e.subscribe(subscription.typeURL, subscription.names...)
		r := e.receive()
		if r.GetTypeUrl() != subscription.typeURL || len(r.GetResources()) != 1 {
			t.Errorf("asked for %s, got %d of %s", subscription.typeURL, len(r.GetResources()), r.GetTypeUrl())
		}
		e.ack(r, subscription.names...)
	}
}

// A gateway's Envoy at a server for the filter alone is told that there is nothing, rather than left waiting.
func TestNothingOfAType(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	e := s.envoy(t, "gateway")
	e.subscribe(resource.ListenerType)
	if r := e.receive(); len(r.GetResources()) != 0 || r.GetVersionInfo() == "" {
		t.Errorf("%d listeners at version %q", len(r.GetResources()), r.GetVersionInfo())
	}
}

// What an Envoy rejects is counted, and not sent to it again until it changes.
func TestRejected(t *testing.T) {
	s := serve(t)
	s.set(t, "one", true)
	e := s.envoy(t, "gateway")
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	one := e.receive()
	e.ack(one, resources.FilterName)
	s.set(t, "two", true)
	two := e.receive()
	e.nack(two, one.GetVersionInfo(), resources.FilterName)
	s.awaitLog(t, "envoy rejected configuration and keeps what it had")
	// Answered only after the rejection was dealt with: were it answered too, that would come before what is new.
	e.subscribe(resource.ClusterType)
	if r := e.receive(); r.GetTypeUrl() != resource.ClusterType {
		t.Fatalf("got %s at version %s", r.GetTypeUrl(), r.GetVersionInfo())
	}
	s.set(t, "three", true)
	if r := e.receive(); r.GetTypeUrl() != resource.ExtensionConfigType || r.GetVersionInfo() == two.GetVersionInfo() {
		t.Errorf("got %s at version %s, which was rejected", r.GetTypeUrl(), r.GetVersionInfo())
	}
	if n := testutil.ToFloat64(s.metrics.nacks.WithLabelValues("ecds")); n != 1 {
		t.Errorf("%v rejections counted, want 1", n)
	}
}

func TestDelta(t *testing.T) {
	s := serve(t)
	s.set(t, "one", true)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(s.conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discoveryv3.DeltaDiscoveryRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() *discoveryv3.DeltaDiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(r.GetResources()) != 1 {
			t.Fatalf("%d resources, want 1", len(r.GetResources()))
		}
		return r
	}
	send(&discoveryv3.DeltaDiscoveryRequest{
		Node:                   &corev3.Node{Id: "gateway"},
		TypeUrl:                resource.ExtensionConfigType,
		ResourceNamesSubscribe: []string{resources.FilterName},
	})
	one := receive()
	send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: resource.ExtensionConfigType, ResponseNonce: one.GetNonce(),
		ErrorDetail: &statuspb.Status{Message: "no such file"},
	})
	s.awaitLog(t, "envoy rejected configuration and keeps what it had")
	s.set(t, "two", true)
	if two := receive(); two.GetSystemVersionInfo() == one.GetSystemVersionInfo() {
		t.Error("the rejected version was sent again")
	}
	if n := testutil.ToFloat64(s.metrics.nacks.WithLabelValues("ecds")); n != 1 {
		t.Errorf("%v rejections counted, want 1", n)
	}
}

// The filter alone can also be had without ADS.
func TestOwnService(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	stream, err := extensionservice.NewExtensionConfigDiscoveryServiceClient(s.conn).StreamExtensionConfigs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := &envoy{t: t, stream: stream, node: &corev3.Node{Id: "mesh"}}
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	if r := e.receive(); len(r.GetResources()) != 1 {
		t.Errorf("%d resources, want the filter", len(r.GetResources()))
	}
}

// Nodes are counted by their id, and streams still open do not hold up the end.
func TestConnectedNodes(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	for _, node := range []string{"a", "a", "b"} {
		e := s.envoy(t, node)
		e.subscribe(resource.ExtensionConfigType, resources.FilterName)
		e.receive()
	}
	if n := testutil.ToFloat64(s.metrics.nodes.WithLabelValues("default")); n != 2 {
		t.Errorf("%v nodes connected, want 2", n)
	}
	s.stop()
	if n := testutil.ToFloat64(s.metrics.nodes.WithLabelValues("default")); n != 0 {
		t.Errorf("%v nodes connected after the end, want 0", n)
	}
}

// A version changes with its type's content and with nothing else.
func TestVersions(t *testing.T) {
	versions := func(r resources.Resources) map[string]string {
		snapshot, err := snapshotOf(r)
		if err != nil {
			t.Fatal(err)
		}
		byType := map[string]string{}
		for typeURL, name := range typeNames {
			byType[name] = snapshot.GetVersion(typeURL)
		}
		return byType
	}
	first, again, other := versions(build(t, "one", true)), versions(build(t, "one", true)), versions(build(t, "two", true))
	for name := range first {
		if first[name] != again[name] {
			t.Errorf("%s: versions %s and %s of the same content", name, first[name], again[name])
		}
		if changed := first[name] != other[name]; changed != (name == "ecds") {
			t.Errorf("%s: version changed with the routes: %t", name, changed)
		}
	}
}
