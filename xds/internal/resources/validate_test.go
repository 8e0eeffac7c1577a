package resources

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route"
)

// Whatever is inconsistent is said, with both ends.
func TestValidate(t *testing.T) {
	manager := func(r *Resources, change func(*hcmv3.HttpConnectionManager)) {
		edit(t, r.Listeners[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig(), change)
	}
	for _, c := range []struct {
		name  string
		spoil func(*Resources)
		want  string
	}{
		{"nothing", func(*Resources) {}, ""},
		{"nothing but the filter", func(r *Resources) { *r = Resources{ExtensionConfigs: r.ExtensionConfigs} }, ""},
		{"no routes", func(r *Resources) { r.Routes = nil },
			`listener "crowd_gateway" refers to route configuration "crowd_gateway_routes", which is not there`},
		{"no filter", func(r *Resources) { r.ExtensionConfigs = nil },
			`listener "crowd_gateway" refers to extension configuration "crowd", which is not there`},
		{"no secret", func(r *Resources) { r.Secrets = nil },
			`listener "crowd_gateway" refers to secret "crowd_gateway_certificate", which is not there`},
		{"no endpoints", func(r *Resources) { r.Endpoints = nil },
			`cluster "crowd_collector" refers to endpoints "crowd_collector", which is not there`},
		{"no upstream", func(r *Resources) { r.Clusters = r.Clusters[:1] },
			`route configuration "crowd_gateway_routes" refers to cluster "crowd_upstream", which is not there`},
		{"another name", func(r *Resources) { r.Endpoints[0].ClusterName = "other" },
			`cluster "crowd_collector" refers to endpoints "crowd_collector", which is not there` + "\n" +
				`nothing refers to endpoints "other"`},
		{"no listener", func(r *Resources) { r.Listeners = nil },
			`nothing refers to route configuration "crowd_gateway_routes"` + "\n" + `nothing refers to secret "crowd_gateway_certificate"`},
		{"twice", func(r *Resources) { r.Clusters = append(r.Clusters, r.Clusters[1]) }, `cluster "crowd_upstream" is there twice`},
		{"no name", func(r *Resources) { r.ExtensionConfigs = append(r.ExtensionConfigs, &corev3.TypedExtensionConfig{}) },
			"extension configuration without a name\n" +
				`extension configuration "": invalid TypedExtensionConfig.Name: value length must be at least 1 runes; ` +
				"invalid TypedExtensionConfig.TypedConfig: value is required"},
		{"a rule", func(r *Resources) { r.Clusters[1].LbPolicy = 99 },
			`cluster "crowd_upstream": invalid Cluster.LbPolicy: value must be one of the defined enum values`},
		{"a rule in what is packed", func(r *Resources) {
			manager(r, func(m *hcmv3.HttpConnectionManager) { m.StatPrefix = "" })
		}, `listener "crowd_gateway": invalid HttpConnectionManager.StatPrefix: value length must be at least 1 runes`},
		{"a type", func(r *Resources) { r.ExtensionConfigs[0].TypedConfig.Value = []byte("?") },
			`extension configuration "crowd": what is said to be envoy.extensions.filters.http.wasm.v3.Wasm is none`},
	} {
		t.Run(c.name, func(t *testing.T) {
			routes := route.Config{Routes: []route.Route{{Name: "leads", Match: route.Match{Path: "/leads"}, Policy: route.Policy{Topic: "leads"}}}}
			r, err := Build(Input{Routes: routes, Filter: Filter{Path: "/crowd.wasm"}, Gateway: &Gateway{
				TLS: &TLS{"/tls.crt", "/tls.key"}, Collectors: []Address{{"10.0.0.1", 9001}}, Upstream: &Address{"api", 80},
			}})
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(&r)
			if diff := cmp.Diff(c.want, errorText(r.Validate())); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if r := (Resources{Clusters: []*clusterv3.Cluster{nil}}); r.Validate() == nil {
		t.Error("a cluster that is nil passes")
	}
}
