package resources

import (
	"cmp"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names that Envoy gives its extensions.
const (
	connectionManagerName = "envoy.filters.network.http_connection_manager"
	routerName            = "envoy.filters.http.router"
	wasmTypeURL           = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
)

// What a connection from outside may use. "Edge" marks the values of "Configuring Envoy as an edge proxy" in
// Envoy's documentation.
const (
	// Edge says 32 KiB. The larger, the fewer pieces a body reaches the filter in; a body may still be longer,
	// because the filter drains what it reads.
	connectionBufferBytes = 1 << 20

	connectionIdleTimeout = time.Hour        // edge
	requestHeadersTimeout = 10 * time.Second // a request's headers must be whole by then
	requestTimeout        = 5 * time.Minute  // edge: and the whole request by then
	streamIdleTimeout     = 5 * time.Minute  // edge: while it moves

	http2ConcurrentStreams     = 100      // edge
	http2StreamWindowBytes     = 64 << 10 // edge
	http2ConnectionWindowBytes = 1 << 20  // edge
)

func gatewayListener(g Gateway) *listenerv3.Listener {
	g.Listen.Host = cmp.Or(g.Listen.Host, "0.0.0.0")
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       connectionManagerName,
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(connectionManager())},
	}}}
	if g.TLS != nil {
		chain.TransportSocket = gatewayTLS()
	}
	return &listenerv3.Listener{
		Name:                          ListenerName,
		Address:                       g.Listen.proto(),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBufferBytes),
		FilterChains:                  []*listenerv3.FilterChain{chain},
	}
}

func connectionManager() *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: ListenerName,
		// HTTP/1.1, or HTTP/2 by ALPN or prior knowledge.
		CodecType: hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: RoutesName,
			ConfigSource:    fromADS(),
		}},
		HttpFilters: []*hcmv3.HttpFilter{
			{Name: FilterName, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{
				ConfigDiscovery: &corev3.ExtensionConfigSource{
					ConfigSource: fromADS(),
					TypeUrls:     []string{wasmTypeURL},
				},
			}},
			{Name: routerName, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&routerv3.Router{})}},
		},

		// Edge: the client's address is the connection's, and x-envoy-* headers from outside are dropped.
		UseRemoteAddress: wrapperspb.Bool(true),
		// Off, because Envoy's x-request-id would be a header in every record that nobody sent; a record has its
		// own id.
		GenerateRequestId: wrapperspb.Bool(false),
		// Edge: /track/../leads is /leads when routes are matched.
		NormalizePath: wrapperspb.Bool(true),
		// Edge merges slashes and unescapes %2F. Here both stay, because tracking paths carry URLs (/track/https://…)
		// and crowd grants no access by path.
		MergeSlashes:                 false,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,

		RequestHeadersTimeout: durationpb.New(requestHeadersTimeout),
		RequestTimeout:        durationpb.New(requestTimeout),
		StreamIdleTimeout:     durationpb.New(streamIdleTimeout),
		// Edge also rejects header names with underscores; a record has a request's headers as they were.
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(connectionIdleTimeout)},
		// A record has the trailers too, which Envoy drops from HTTP/1 unless told otherwise.
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(http2ConcurrentStreams),
			InitialStreamWindowSize:     wrapperspb.UInt32(http2StreamWindowBytes),
			InitialConnectionWindowSize: wrapperspb.UInt32(http2ConnectionWindowBytes),
		},
	}
}

// fromADS is a source that Envoy waits for as long as it takes: 0 turns its timeout off, after which it would
// serve a listener without the filter.
func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   durationpb.New(0),
	}
}
