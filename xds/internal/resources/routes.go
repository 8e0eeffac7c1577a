package resources

import (
	"net/http"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// upstreamTimeout is how long the upstream may take for a whole response. Envoy's default of 15 s would cut off
// backends that have been slow without harm so far.
const upstreamTimeout = time.Minute

// gatewayRoutes says what becomes of a request that the filter lets pass.
func gatewayRoutes(upstream *Address) *routev3.RouteConfiguration {
	everything := &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: http.StatusNotFound,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "no such route\n"}},
		}},
	}
	if upstream != nil {
		everything.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: UpstreamCluster},
			Timeout:          durationpb.New(upstreamTimeout),
		}}
	}
	return &routev3.RouteConfiguration{
		Name: RoutesName,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    RoutesName,
			Domains: []string{"*"},
			Routes:  []*routev3.Route{everything},
		}},
	}
}
