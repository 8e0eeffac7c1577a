package server

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionservice "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/route"
)

// protocol is a way to speak xDS.
type protocol struct {
	name       string
	delta, own bool
}

var protocols = []protocol{
	{"state of the world over ADS", false, false},
	{"state of the world over services of their own", false, true},
	{"delta over ADS", true, false},
	{"delta over services of their own", true, true},
}

// everything is what the Envoy of a gateway subscribes to, in its order; a filter's has the last alone.
var everything = []struct {
	typeURL string
	names   []string
}{
	{resource.ClusterType, nil},
	{resource.EndpointType, []string{route.DefaultCluster}},
	{resource.ListenerType, nil},
	{resource.RouteType, []string{resources.RoutesName}},
	{resource.ExtensionConfigType, []string{resources.FilterName}},
}

// robot is an Envoy that answers by itself.
type robot struct {
	t        *testing.T
	protocol protocol
	node     *corev3.Node
	// refuses says why a route's name is not acceptable, or "".
	refuses func(routeName string) string
	// got takes the route's name of every filter it is sent, before that is answered.
	got   chan string
	leave context.CancelFunc
	// has are the versions it acknowledged: the types', or over delta the resources' by type.
	mu  sync.Mutex
	has map[string]string
	own map[string]map[string]string
}

// robot connects an Envoy and subscribes to everything, or to the last few types of that.
func (s serving) robot(t *testing.T, id string, p protocol, types int, refuses func(string) string) *robot {
	t.Helper()
	return s.connect(t, &robot{
		t: t, protocol: p, node: &corev3.Node{Id: id, Cluster: "robots"}, refuses: refuses, got: make(chan string, 1000),
		has: map[string]string{}, own: map[string]map[string]string{},
	}, types)
}

// robotThatHas connects an Envoy that has what another one got, as one does that comes from another server.
func (s serving) robotThatHas(t *testing.T, other *robot, types int) *robot {
	t.Helper()
	other.mu.Lock()
	defer other.mu.Unlock()
	return s.connect(t, &robot{
		t: t, protocol: other.protocol, node: other.node, refuses: other.refuses, got: make(chan string, 1000),
		has: maps.Clone(other.has), own: maps.Clone(other.own),
	}, types)
}

func (s serving) connect(t *testing.T, r *robot, types int) *robot {
	t.Helper()
	p, has, own := r.protocol, maps.Clone(r.has), maps.Clone(r.own)
	ctx, cancel := context.WithCancel(t.Context())
	r.leave = cancel
	t.Cleanup(cancel)
	subscriptions := everything[len(everything)-types:]
	streams := 1
	if p.own {
		streams = len(subscriptions)
	}
	for i := range streams {
		typeURL := ""
		if p.own {
			typeURL, subscriptions = everything[len(everything)-types+i].typeURL, everything[len(everything)-types+i:][:1]
		}
		if p.delta {
			stream := openDelta(t, ctx, s.conn, typeURL)
			for j, b := range subscriptions {
				request := &discoveryv3.DeltaDiscoveryRequest{
					TypeUrl: b.typeURL, ResourceNamesSubscribe: b.names, InitialResourceVersions: own[b.typeURL],
				}
				if j == 0 {
					request.Node = r.node
				}
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
			}
			go r.answerDelta(stream)
			continue
		}
		stream := openSotw(t, ctx, s.conn, typeURL)
		for j, b := range subscriptions {
			request := &discoveryv3.DiscoveryRequest{TypeUrl: b.typeURL, ResourceNames: b.names, VersionInfo: has[b.typeURL]}
			if j == 0 {
				request.Node = r.node
			}
			if err := stream.Send(request); err != nil {
				t.Fatal(err)
			}
		}
		go r.answerSotw(stream)
	}
	return r
}

func (r *robot) answerSotw(stream sotwStream) {
	for {
		got, err := stream.Recv()
		if err != nil {
			return // it left
		}
		request := &discoveryv3.DiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
		for _, b := range everything {
			if b.typeURL == got.GetTypeUrl() {
				request.ResourceNames = b.names
			}
		}
		reason := r.judge(got.GetTypeUrl(), got.GetResources())
		r.mu.Lock()
		if reason != "" {
			request.ErrorDetail = &statuspb.Status{Message: reason}
		} else {
			r.has[got.GetTypeUrl()] = got.GetVersionInfo()
		}
		request.VersionInfo = r.has[got.GetTypeUrl()]
		r.mu.Unlock()
		if stream.Send(request) != nil {
			return
		}
	}
}

func (r *robot) answerDelta(stream deltaStream) {
	for {
		got, err := stream.Recv()
		if err != nil {
			return
		}
		request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}
		var all []*anypb.Any
		versions := map[string]string{}
		for _, one := range got.GetResources() {
			all = append(all, one.GetResource())
			versions[one.GetName()] = one.GetVersion()
		}
		if reason := r.judge(got.GetTypeUrl(), all); reason != "" {
			request.ErrorDetail = &statuspb.Status{Message: reason}
		} else {
			r.mu.Lock()
			r.own[got.GetTypeUrl()] = versions
			r.mu.Unlock()
		}
		if stream.Send(request) != nil {
			return
		}
	}
}

func (r *robot) judge(typeURL string, list []*anypb.Any) (reason string) {
	if typeURL != resource.ExtensionConfigType {
		return ""
	}
	for _, one := range list {
		name := routeName(r.t, one)
		r.got <- name
		if reason := r.refuses(name); reason != "" {
			return reason
		}
	}
	return ""
}

// gets waits for the next filter.
func (r *robot) gets(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.got:
		if got != want {
			t.Fatalf("%s got %q, want %q", r.node.GetId(), got, want)
		}
	case <-t.Context().Done():
	case <-patience():
		t.Fatalf("%s did not get %q", r.node.GetId(), want)
	}
}

func (r *robot) gotNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-r.got:
		t.Errorf("%s got %q", r.node.GetId(), got)
	default:
	}
}

func takesAll(string) string { return "" }

func refuses(name string) func(string) string {
	return func(got string) string {
		if got == name {
			return "no such file"
		}
		return ""
	}
}

// routeName is that of the only route in a filter's configuration.
func routeName(t *testing.T, filter *anypb.Any) string {
	extension, wasm, text := &corev3.TypedExtensionConfig{}, &httpwasmv3.Wasm{}, &wrapperspb.StringValue{}
	err := filter.UnmarshalTo(extension)
	if err == nil {
		err = extension.GetTypedConfig().UnmarshalTo(wasm)
	}
	if err == nil {
		err = wasm.GetConfig().GetConfiguration().UnmarshalTo(text)
	}
	var config route.Config
	if err == nil {
		err = json.Unmarshal([]byte(text.GetValue()), &config)
	}
	if err != nil || len(config.Routes) != 1 {
		t.Errorf("a filter without one route: %v, %s", err, text.GetValue())
		return ""
	}
	return config.Routes[0].Name
}

type sotwStream interface {
	Send(*discoveryv3.DiscoveryRequest) error
	Recv() (*discoveryv3.DiscoveryResponse, error)
}

type deltaStream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

// openSotw opens a stream of a type's own service, or of ADS without a type.
func openSotw(t *testing.T, ctx context.Context, conn *grpc.ClientConn, typeURL string) (stream sotwStream) {
	t.Helper()
	var err error
	switch typeURL {
	case "":
		stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	case resource.ClusterType:
		stream, err = clusterservice.NewClusterDiscoveryServiceClient(conn).StreamClusters(ctx)
	case resource.EndpointType:
		stream, err = endpointservice.NewEndpointDiscoveryServiceClient(conn).StreamEndpoints(ctx)
	case resource.ListenerType:
		stream, err = listenerservice.NewListenerDiscoveryServiceClient(conn).StreamListeners(ctx)
	case resource.RouteType:
		stream, err = routeservice.NewRouteDiscoveryServiceClient(conn).StreamRoutes(ctx)
	case resource.ExtensionConfigType:
		stream, err = extensionservice.NewExtensionConfigDiscoveryServiceClient(conn).StreamExtensionConfigs(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func openDelta(t *testing.T, ctx context.Context, conn *grpc.ClientConn, typeURL string) (stream deltaStream) {
	t.Helper()
	var err error
	switch typeURL {
	case "":
		stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	case resource.ClusterType:
		stream, err = clusterservice.NewClusterDiscoveryServiceClient(conn).DeltaClusters(ctx)
	case resource.EndpointType:
		stream, err = endpointservice.NewEndpointDiscoveryServiceClient(conn).DeltaEndpoints(ctx)
	case resource.ListenerType:
		stream, err = listenerservice.NewListenerDiscoveryServiceClient(conn).DeltaListeners(ctx)
	case resource.RouteType:
		stream, err = routeservice.NewRouteDiscoveryServiceClient(conn).DeltaRoutes(ctx)
	case resource.ExtensionConfigType:
		stream, err = extensionservice.NewExtensionConfigDiscoveryServiceClient(conn).DeltaExtensionConfigs(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream
}
