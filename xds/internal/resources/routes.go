package resources

import (
	"net/http"
	"slices"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marceloboeira/crowd/xds/route"
)

// upstreamTimeout is how long the upstream may take for a whole response. Envoy's default of 15 s would cut off
// backends that have been slow without harm so far.
const upstreamTimeout = time.Minute

// gatewayRoutes says which requests the filter gets to see, by their paths alone, and what becomes of those that it lets
// pass or does not see.
//
// The filter still decides by itself. What Envoy decides must only be no less than what the filter would take, and it is
// whatever version of the routes each of them has at the moment, for every request that both versions take: its path is
// within the reach of both. So routes that do not change lose nothing while others do.
func gatewayRoutes(reach route.Reach, upstream *Address) *routev3.RouteConfiguration {
	seen, unseen := everything(upstream), everything(upstream)
	unseen.TypedPerFilterConfig = map[string]*anypb.Any{FilterName: packed(&routev3.FilterConfig{Disabled: true})}
	host := &routev3.VirtualHost{Name: RoutesName, Domains: []string{"*"}}
	switch {
	case slices.Contains(reach.Prefixes, ""):
		host.Routes = []*routev3.Route{seen}
	case len(reach.Prefixes) == 0 && len(reach.Paths) == 0:
		host.Routes = []*routev3.Route{unseen}
	default:
		host.Matcher = byPath(reach, seen, unseen)
	}
	return &routev3.RouteConfiguration{Name: RoutesName, VirtualHosts: []*routev3.VirtualHost{host}}
}

// everything takes every request that has a path.
func everything(upstream *Address) *routev3.Route {
	r := &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: http.StatusNotFound,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "no such route\n"}},
		}},
	}
	if upstream != nil {
		r.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: UpstreamCluster},
			Timeout:          durationpb.New(upstreamTimeout),
		}}
	}
	return r
}

// byPath finds the longest text of the reach that a path begins with, in a tree: routes in a list would be tried one after
// another. Here a path has its query, so that one of reach.Paths is the beginning of it too, and remains to be compared.
func byPath(reach route.Reach, seen, unseen *routev3.Route) *matcherv3.Matcher {
	tree, thenSeen := map[string]*matcherv3.Matcher_OnMatch{}, then(seen)
	for _, prefix := range reach.Prefixes {
		tree[prefix] = thenSeen
	}
	for _, path := range reach.Paths {
		exactly := proto.CloneOf(seen)
		exactly.Match.PathSpecifier = &routev3.RouteMatch_Path{Path: path}
		tree[path] = then(&routev3.RouteList{Routes: []*routev3.Route{exactly, unseen}})
	}
	return &matcherv3.Matcher{
		MatcherType: &matcherv3.Matcher_MatcherTree_{MatcherTree: &matcherv3.Matcher_MatcherTree{
			Input: extension("path", &httpmatcherv3.HttpRequestHeaderMatchInput{HeaderName: ":path"}),
			TreeType: &matcherv3.Matcher_MatcherTree_PrefixMatchMap{
				PrefixMatchMap: &matcherv3.Matcher_MatcherTree_MatchMap{Map: tree},
			},
		}},
		OnNoMatch: then(unseen),
	}
}

// then is the end of a matcher, with a Route or a RouteList.
func then(routes proto.Message) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{Action: extension("routes", routes)}}
}

func extension(name string, config proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: packed(config)}
}
