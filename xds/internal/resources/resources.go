// Package resources says in Envoy's words what a routes document and the facts of a deployment come to. It is
// pure: the same input gives the same bytes.
package resources

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/marceloboeira/crowd/xds/route"
)

// The names of what is built.
const (
	FilterName      = "crowd"
	ListenerName    = "crowd_gateway"
	RoutesName      = "crowd_gateway_routes"
	UpstreamCluster = "crowd_upstream"
)

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

// Gateway is the Envoy around the filter.
type Gateway struct {
	// Listen is the listener's address; port 0 lets the system choose.
	Listen Address
	// Collectors are the endpoints of the cluster that the routes document names; at least one.
	Collectors []Address
	// Upstream takes the requests that no route takes; nil answers them with 404.
	Upstream *Address
}

// Resources is what an Envoy can ask for, by type.
type Resources struct {
	Listeners        []*listenerv3.Listener
	Routes           []*routev3.RouteConfiguration
	Clusters         []*clusterv3.Cluster
	Endpoints        []*endpointv3.ClusterLoadAssignment
	ExtensionConfigs []*corev3.TypedExtensionConfig
}

// Build makes the resources: the filter's configuration, and with a Gateway everything around it. It fails
// where the document's collector cluster has the name of another cluster.
func Build(in Input) (Resources, error) {
	filter, err := filterConfig(in.Routes, in.Filter)
	if err != nil {
		return Resources{}, err
	}
	r := Resources{ExtensionConfigs: []*corev3.TypedExtensionConfig{filter}}
	if in.Gateway == nil {
		return r, nil
	}

	collectors := in.Routes.Uplink.Cluster
	if collectors == "" {
		collectors = route.DefaultCluster
	}
	if collectors == UpstreamCluster {
		return Resources{}, fmt.Errorf("uplink.cluster: %q is the gateway's cluster for requests that no route takes", collectors)
	}
	if len(in.Gateway.Collectors) == 0 {
		return Resources{}, errors.New("a gateway without collectors")
	}

	r.Listeners = []*listenerv3.Listener{gatewayListener(in.Gateway.Listen)}
	r.Routes = []*routev3.RouteConfiguration{gatewayRoutes(in.Gateway.Upstream)}
	cluster, endpoints := collectorCluster(collectors, in.Gateway.Collectors)
	r.Clusters = append(r.Clusters, cluster)
	if endpoints != nil {
		r.Endpoints = append(r.Endpoints, endpoints)
	}
	if in.Gateway.Upstream != nil {
		r.Clusters = append(r.Clusters, upstreamCluster(*in.Gateway.Upstream))
	}
	return r, nil
}

// packed wraps a message built here, always to the same bytes.
func packed(m proto.Message) *anypb.Any {
	var any anypb.Any
	if err := anypb.MarshalFrom(&any, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("BUG: marshal %T: %v", m, err))
	}
	return &any
}
