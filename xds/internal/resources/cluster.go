package resources

import (
	"math"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// Collectors are near; Envoy's default of 5 s would keep records waiting.
	connectTimeout = time.Second

	// A collector that has frozen without closing its connections is given up after at most their sum, well
	// within the time that a route's answer may wait.
	keepaliveInterval = 5 * time.Second
	keepaliveTimeout  = 2 * time.Second

	// How long a collector that cannot be connected to is left alone, the longer the more often, and how often
	// Envoy looks whether that is over.
	sweepInterval   = 500 * time.Millisecond
	ejectionTime    = time.Second
	maxEjectionTime = 5 * time.Second

	// choices is how many collectors, picked at random, are compared for each stream.
	choices = 10

	// The key of a cluster's HTTP options, from Envoy's documentation of upstreams/http/v3.
	httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
)

// collectorCluster is where the filter's streams go. Collectors known by IP come by EDS; if any has a name,
// Envoy resolves them all, and there are no endpoints to send.
func collectorCluster(name string, collectors []Address) (*clusterv3.Cluster, *endpointv3.ClusterLoadAssignment) {
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(connectTimeout),
		// Streams live for hours: a new one goes where fewest are, and not just to whose turn it is. Of the two hosts that
		// Envoy compares by default, a new collector is often neither.
		LbPolicy: clusterv3.Cluster_LEAST_REQUEST,
		LbConfig: &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{
			ChoiceCount: wrapperspb.UInt32(choices),
		}},
		// A collector that is down has the fewest streams: it must not be tried again and again. One failed connection is
		// enough to leave it alone for a moment; but where all are, as the only one is when it restarts, all are tried.
		OutlierDetection: &clusterv3.OutlierDetection{
			SplitExternalLocalOriginErrors: true,
			ConsecutiveLocalOriginFailure:  wrapperspb.UInt32(1),
			Interval:                       durationpb.New(sweepInterval),
			BaseEjectionTime:               durationpb.New(ejectionTime),
			MaxEjectionTime:                durationpb.New(maxEjectionTime),
			MaxEjectionPercent:             wrapperspb.UInt32(100),
			// Errors of the streams themselves say nothing: they are the filter's to deal with.
			EnforcingConsecutive_5Xx:           wrapperspb.UInt32(0),
			EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(0),
			EnforcingSuccessRate:               wrapperspb.UInt32(0),
			EnforcingLocalOriginSuccessRate:    wrapperspb.UInt32(0),
		},
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 1}},
		// A stream counts as a request for as long as it lives. What limits them is the filter, which opens one
		// for each worker and configuration.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(math.MaxUint32),
			MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
			MaxRequests:        wrapperspb.UInt32(math.MaxUint32),
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptionsKey: packed(overHTTP2())},
	}
	assignment := loadAssignment(name, collectors)
	if slices.ContainsFunc(collectors, func(a Address) bool { return !a.IsIP() }) {
		resolve(c, assignment)
		return c, nil
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: fromADS()}
	return c, assignment
}

// upstreamCluster is the backend of the requests that no route takes.
func upstreamCluster(upstream Address) *clusterv3.Cluster {
	c := &clusterv3.Cluster{Name: UpstreamCluster}
	resolve(c, loadAssignment(UpstreamCluster, []Address{upstream}))
	return c
}

// resolve has Envoy find a cluster's endpoints by DNS, where an IP address stands for itself.
func resolve(c *clusterv3.Cluster, assignment *endpointv3.ClusterLoadAssignment) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	// Envoy would prefer IPv6, where "localhost" and many containers have an address that nobody listens on.
	c.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	c.LoadAssignment = assignment
}

func loadAssignment(cluster string, addresses []Address) *endpointv3.ClusterLoadAssignment {
	endpoints := make([]*endpointv3.LbEndpoint, 0, len(addresses))
	for _, a := range addresses {
		endpoints = append(endpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a.proto()}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: cluster,
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func overHTTP2() *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
						ConnectionKeepalive: &corev3.KeepaliveSettings{
							Interval: durationpb.New(keepaliveInterval),
							Timeout:  durationpb.New(keepaliveTimeout),
						},
					},
				},
			},
		},
	}
}
