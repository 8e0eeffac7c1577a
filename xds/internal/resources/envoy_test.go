package resources

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/marceloboeira/crowd/envoy/envoytest"
)

// TestEnvoyTakesThem has the real Envoy validate what every case in testdata comes to.
//
// With --mode validate Envoy asks nobody for resources, not even files: it looks only at what stands in the bootstrap
// itself. So each resource goes where the reference to it is.
func TestEnvoyTakesThem(t *testing.T) {
	path := envoytest.Path(t)
	files := writeFiles(t)
	for _, c := range cases(t) {
		given, _, _ := strings.Cut(c.text, divider)
		in, err := parseInput(t, given)
		if err != nil {
			continue // of which nothing comes
		}
		if len(in.Filter.Code) > 0 {
			in.Filter.Code = envoytest.EmptyFilter()
		}
		r, err := Build(in)
		if err != nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if out, err := validate(t, path, files.Replace(static(t, r))); err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// It does look at each: with something wrong in one of them, it refuses the whole.
func TestEnvoyLooksAtEach(t *testing.T) {
	path := envoytest.Path(t)
	files := writeFiles(t)
	for _, c := range []struct{ wrong, is, becomes, want string }{
		{"nothing", `"node":`, `"node":`, ""},
		{"Listener", `"0.0.0.0"`, `"nowhere"`, "malformed IP address"},
		{"RouteConfiguration", `"cluster":"crowd_upstream"`, `"cluster":"nowhere"`, "unknown cluster 'nowhere'"},
		{"Cluster", `"STRICT_DNS"`, `"ORIGINAL_DST"`, "ORIGINAL_DST"},
		{"ClusterLoadAssignment", `"10.0.0.1"`, `"nowhere"`, "malformed IP address"},
		{"TypedExtensionConfig", `"envoy.wasm.runtime.v8"`, `"nowhere"`, "Unable to create Wasm plugin"},
		{"the filter's code", "/etc/crowd/crowd.wasm", "/etc/crowd/tls/tls.crt", "Unable to create Wasm plugin"},
		{"Secret", "/etc/crowd/tls/tls.key", "/etc/crowd/crowd.wasm", "private key"},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			t.Parallel()
			r, err := Build(Input{Filter: Filter{Path: "/etc/crowd/crowd.wasm"}, Gateway: &Gateway{
				TLS:        &TLS{"/etc/crowd/tls/tls.crt", "/etc/crowd/tls/tls.key"},
				Collectors: []Address{{"10.0.0.1", 9001}}, Upstream: &Address{"api", 80},
			}})
			if err != nil {
				t.Fatal(err)
			}
			bootstrap := static(t, r)
			if !strings.Contains(bootstrap, c.is) {
				t.Fatalf("no %s in\n%s", c.is, bootstrap)
			}
			out, err := validate(t, path, files.Replace(strings.ReplaceAll(bootstrap, c.is, c.becomes)))
			if (err == nil) != (c.want == "") || !strings.Contains(out, c.want) {
				t.Errorf("%v, want one about %q:\n%s", err, c.want, out)
			}
		})
	}
}

func validate(t *testing.T, path, bootstrap string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, []byte(bootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "--mode", "validate", "--config-path", file).CombinedOutput()
	return string(out), err
}

// static is a bootstrap, as JSON, of an Envoy that has r without asking for it. Where the filter is alone, a listener
// stands around it.
func static(t *testing.T, r Resources) string {
	t.Helper()
	if len(r.Listeners) == 0 {
		around, err := Build(Input{Filter: Filter{Path: "/etc/crowd/crowd.wasm"}, Gateway: &Gateway{
			Collectors: []Address{{"10.0.0.1", 9001}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		around.ExtensionConfigs = r.ExtensionConfigs
		r = around
	}
	b := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "test", Cluster: "test"},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Secrets: r.Secrets},
	}
	for _, l := range r.Listeners {
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, staticListener(t, r, l))
	}
	for _, c := range r.Clusters {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, staticCluster(t, r, c))
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	// protojson puts a space after colons or not, as it likes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

func staticListener(t *testing.T, r Resources, l *listenerv3.Listener) *listenerv3.Listener {
	t.Helper()
	l = proto.CloneOf(l)
	chain := l.GetFilterChains()[0]
	edit(t, chain.GetFilters()[0].GetTypedConfig(), func(m *hcmv3.HttpConnectionManager) {
		for _, rc := range r.Routes {
			if rc.GetName() == m.GetRds().GetRouteConfigName() {
				m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc}
			}
		}
		for _, f := range m.GetHttpFilters() {
			for _, x := range r.ExtensionConfigs {
				if f.GetConfigDiscovery() != nil && f.GetName() == x.GetName() {
					f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: x.GetTypedConfig()}
				}
			}
		}
	})
	if socket := chain.GetTransportSocket(); socket != nil {
		edit(t, socket.GetTypedConfig(), func(m *tlsv3.DownstreamTlsContext) {
			for _, s := range m.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
				s.SdsConfig = nil // a secret without a source is looked for among the static ones
			}
		})
	}
	return l
}

func staticCluster(t *testing.T, r Resources, c *clusterv3.Cluster) *clusterv3.Cluster {
	t.Helper()
	c = proto.CloneOf(c)
	for _, e := range r.Endpoints {
		if c.GetType() == clusterv3.Cluster_EDS && c.GetName() == e.GetClusterName() {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			c.EdsClusterConfig, c.LoadAssignment = nil, e
		}
	}
	return c
}

// edit changes the message in packed.
func edit[M any, P interface {
	*M
	proto.Message
}](t *testing.T, packed *anypb.Any, change func(P)) {
	t.Helper()
	m := P(new(M))
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
}

// writeFiles writes the files that the cases name, and returns what puts their real paths in the names' place.
func writeFiles(t *testing.T) *strings.Replacer {
	t.Helper()
	dir := t.TempDir()
	cert, key := envoytest.NewCA(t).Issue(t, "test")
	for name, content := range map[string][]byte{"crowd.wasm": envoytest.EmptyFilter(), "tls/tls.crt": cert, "tls/tls.key": key} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("/etc/crowd", dir)
}
