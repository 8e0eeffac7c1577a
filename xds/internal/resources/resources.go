// Package resources says in Envoy's words what a routes document and the facts of a deployment come to. It is
// pure: the same input gives the same bytes.
package resources

import (
	"cmp"
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/marceloboeira/crowd/xds/route"
)

// The names of what is built.
const (
	FilterName      = "crowd"
	ListenerName    = "crowd_gateway"
	RoutesName      = "crowd_gateway_routes"
	SecretName      = "crowd_gateway_certificate"
	UpstreamCluster = "crowd_upstream"
)

// xdsCluster is that of crowd's servers in Envoy's bootstrap. Envoy keeps its own and ignores another of its name.
const xdsCluster = "crowd_xds"

// Input is everything the resources depend on.
type Input struct {
	// Routes is a valid document.
	Routes route.Config
	Filter Filter
	// Gateway makes up a whole Envoy; nil where listeners and clusters are somebody else's.
	Gateway *Gateway
}

// Filter says where Envoy finds crowd.wasm: exactly one field is given.
type Filter struct {
	// Path is a file as Envoy sees it.
	Path string
	// Code is the file itself, which then travels with every change of the routes.
	Code []byte
}

// Resources is what an Envoy can ask for, by type.
type Resources struct {
	Listeners        []*listenerv3.Listener
	Routes           []*routev3.RouteConfiguration
	Clusters         []*clusterv3.Cluster
	Endpoints        []*endpointv3.ClusterLoadAssignment
	ExtensionConfigs []*corev3.TypedExtensionConfig
	Secrets          []*tlsv3.Secret
}

// Build makes the resources: the filter's configuration, and with a Gateway everything around it. It fails where the
// document's collector cluster has the name of another cluster, and where what comes of in is nothing that Envoy takes.
func Build(in Input) (Resources, error) {
	collectors := cmp.Or(in.Routes.Uplink.Cluster, route.DefaultCluster)
	switch {
	case in.Filter.Path == "" && len(in.Filter.Code) == 0:
		return Resources{}, errors.New("filter: a path or code is required")
	case in.Gateway != nil && collectors == UpstreamCluster:
		return Resources{}, fmt.Errorf("uplink.cluster: %q is the gateway's cluster for requests that no route takes", collectors)
	case in.Gateway != nil && collectors == xdsCluster:
		return Resources{}, fmt.Errorf("uplink.cluster: %q is the cluster of crowd's xDS servers in Envoy's bootstrap", collectors)
	}
	filter, err := filterConfig(in.Routes, in.Filter)
	if err != nil {
		return Resources{}, err
	}
	r := Resources{ExtensionConfigs: []*corev3.TypedExtensionConfig{filter}}
	if in.Gateway != nil {
		r.addGateway(*in.Gateway, collectors, in.Routes.Reach())
	}
	return r, r.Validate()
}

func (r *Resources) addGateway(g Gateway, collectors string, reach route.Reach) {
	r.Listeners = []*listenerv3.Listener{gatewayListener(g)}
	r.Routes = []*routev3.RouteConfiguration{gatewayRoutes(reach, g.Upstream)}
	cluster, endpoints := collectorCluster(collectors, g.Collectors)
	r.Clusters = append(r.Clusters, cluster)
	if endpoints != nil {
		r.Endpoints = append(r.Endpoints, endpoints)
	}
	if g.Upstream != nil {
		r.Clusters = append(r.Clusters, upstreamCluster(*g.Upstream))
	}
	if g.TLS != nil {
		r.Secrets = append(r.Secrets, gatewaySecret(*g.TLS))
	}
}

// packed wraps a message built here, always to the same bytes.
func packed(m proto.Message) *anypb.Any {
	var any anypb.Any
	if err := anypb.MarshalFrom(&any, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("BUG: marshal %T: %v", m, err))
	}
	return &any
}
