package envoy

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	// What the bootstraps hold besides.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

//go:embed bootstrap-gateway.yaml
var gatewayYAML []byte

//go:embed bootstrap-filter.yaml
var filterYAML []byte

// The names in the bootstraps.
const (
	xdsCluster       = "crowd_xds"
	collectorCluster = "crowd_collector"
	backendCluster   = "backend"
)

// FilterListener is the name of the listener in bootstrap-filter.yaml.
const FilterListener = "ingress"

// GatewayBootstrap is bootstrap-gateway.yaml with other values; an empty field leaves the file's. Addresses are
// host:port.
type GatewayBootstrap struct {
	NodeID string
	// XDS are crowd's xDS servers: Envoy talks to one of them, and goes to another when it is gone.
	XDS []string
	// Admin is where Envoy's admin interface listens, by IP; port 0 lets the system choose.
	Admin string
}

// JSON returns the bootstrap for Process. It fails where an address is not one.
func (g GatewayBootstrap) JSON() ([]byte, error) {
	e := newEditor(gatewayYAML)
	e.node(g.NodeID)
	e.admin(g.Admin)
	e.endpoints(xdsCluster, g.XDS...)
	return e.json()
}

// FilterBootstrap is bootstrap-filter.yaml with other values; an empty field leaves the file's. Addresses are
// host:port.
type FilterBootstrap struct {
	NodeID string
	// XDS are crowd's xDS servers: Envoy talks to one of them, and goes to another when it is gone.
	XDS []string
	// Admin is where Envoy's admin interface listens, by IP; port 0 lets the system choose.
	Admin string
	// Listen is where FilterListener listens, by IP; port 0 lets the system choose.
	Listen string
	// Collector takes the records.
	Collector string
	// Backend takes the requests that the filter lets pass.
	Backend string
}

// JSON returns the bootstrap for Process. It fails where an address is not one.
func (f FilterBootstrap) JSON() ([]byte, error) {
	e := newEditor(filterYAML)
	e.node(f.NodeID)
	e.admin(f.Admin)
	e.endpoints(xdsCluster, f.XDS...)
	e.endpoints(collectorCluster, f.Collector)
	e.endpoints(backendCluster, f.Backend)
	e.listener(f.Listen)
	return e.json()
}

// editor changes single values of a bootstrap, and keeps the first error.
type editor struct {
	bootstrap *bootstrapv3.Bootstrap
	err       error
}

func newEditor(text []byte) *editor {
	e := &editor{bootstrap: &bootstrapv3.Bootstrap{}}
	var doc any
	if err := yaml.Load(text, &doc); err != nil {
		panic("BUG: embedded bootstrap: " + err.Error())
	}
	asJSON, err := json.Marshal(doc)
	if err == nil {
		err = protojson.Unmarshal(asJSON, e.bootstrap)
	}
	if err != nil {
		panic("BUG: embedded bootstrap: " + err.Error())
	}
	return e
}

func (e *editor) node(id string) {
	if id != "" {
		e.bootstrap.Node.Id = id
	}
}

func (e *editor) admin(address string) {
	e.set("admin", e.bootstrap.GetAdmin().GetAddress(), address)
}

func (e *editor) listener(address string) {
	e.set("listener", e.bootstrap.GetStaticResources().GetListeners()[0].GetAddress(), address)
}

// endpoints sets those of a cluster, which are like the only one in the file; empty ones are passed over.
func (e *editor) endpoints(cluster string, addresses ...string) {
	addresses = slices.DeleteFunc(slices.Clone(addresses), func(a string) bool { return a == "" })
	if len(addresses) == 0 {
		return
	}
	for _, c := range e.bootstrap.GetStaticResources().GetClusters() {
		if c.GetName() != cluster {
			continue
		}
		locality := c.GetLoadAssignment().GetEndpoints()[0]
		only := locality.GetLbEndpoints()[0]
		locality.LbEndpoints = nil
		for _, address := range addresses {
			endpoint := proto.CloneOf(only)
			e.set(cluster, endpoint.GetEndpoint().GetAddress(), address)
			locality.LbEndpoints = append(locality.LbEndpoints, endpoint)
		}
		return
	}
	panic(fmt.Sprintf("BUG: embedded bootstrap without cluster %q", cluster))
}

func (e *editor) set(what string, to *corev3.Address, address string) {
	if address == "" || e.err != nil {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		e.err = fmt.Errorf("bootstrap: %s: %w", what, err)
		return
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		e.err = fmt.Errorf("bootstrap: %s: port of %q: %w", what, address, err)
		return
	}
	to.GetSocketAddress().Address = host
	to.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
}

func (e *editor) json() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	text, err := protojson.Marshal(e.bootstrap)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return text, nil
}
