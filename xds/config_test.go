package xds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/internal/nodegroup"
	"github.com/marceloboeira/crowd/xds/internal/resources"
)

func TestValidate(t *testing.T) {
	valid := Config{Routes: "routes.yaml", Filter: "/crowd.wasm", Gateway: ":10000", Collectors: []string{"collector:9001"}}
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"valid", func(*Config) {}, ""},
		{"filter only", func(c *Config) { c.Gateway, c.Collectors = "", nil }, ""},
		{"nothing", func(c *Config) { *c = Config{} }, "routes: either routes, a file or directory, or a groups file is required\n" +
			"filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"},
		{"routes and groups", func(c *Config) { c.Groups = "groups.yaml" },
			"routes: either routes, a file or directory, or a groups file is required"},
		{"groups", func(c *Config) { c.Routes, c.Groups = "", "groups.yaml" }, ""},
		{"groups that say the rest", func(c *Config) { *c = Config{Groups: "groups.yaml", Collectors: []string{"collector:9001"}} }, ""},
		{"both filters", func(c *Config) { c.FilterInline = "crowd.wasm" },
			"filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"},
		{"own addresses", func(c *Config) { c.Listen, c.Admin = "18000", "a:b" }, `listen: address "18000": want host:port` + "\n" +
			`admin: address "a:b": port "b" is not a number from 0 to 65535`},
		{"clusters without a gateway", func(c *Config) { c.Gateway = "" }, "gateway: collectors, upstream and TLS mean nothing " +
			"without the gateway's address; where the listener is somebody else's, so are they"},
		{"no collectors", func(c *Config) { c.Collectors = nil }, "collectors: a gateway needs at least one"},
		{"gateway by name", func(c *Config) { c.Gateway = "localhost:80" },
			`gateway: address "localhost:80": a listener needs an IP address, such as 127.0.0.1 or 0.0.0.0`},
		{"TLS", func(c *Config) { c.TLSCert, c.TLSKey, c.TLSClientCA, c.TLSAllowSAN = "a", "b", "c", []string{"edge-*"} }, ""},
		{"half of TLS", func(c *Config) { c.TLSKey, c.TLSAllowSAN = "b", []string{"a*b"} }, "tls: a certificate needs its key, and a key its certificate\n" +
			"tls: allowed SANs mean nothing without a client CA\n" +
			`tls: "a*b" is not a SAN (allowed: a DNS name or URI, with one * in front or at the end)`},
		{"gateway with TLS", func(c *Config) { c.GatewayTLSCert, c.GatewayTLSKey = "/tls/tls.crt", "/tls/tls.key" }, ""},
		{"gateway with half of TLS", func(c *Config) { c.GatewayTLSCert = "/tls/tls.crt" },
			"gateway TLS: a certificate needs its key, and a key its certificate"},
		{"canaries", func(c *Config) { c.CanaryPercent, c.CanaryHold = 101, -1 },
			"canary: 101% is not a share from 0% to 100%\ncanary-hold: -1ns is negative"},
		{"everything at once", func(c *Config) { c.Gateway, c.Collectors, c.Upstream = ":http", []string{":9001", "c"}, "api:0" },
			`gateway: address ":http": port "http" is not a number from 0 to 65535` + "\n" +
				`collectors: address ":9001": host and port are required` + "\n" +
				`collectors: address "c": want host:port` + "\n" +
				`upstream: address "api:0": host and port are required`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := valid
			tt.edit(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What a group says of its own is in the place of what the flags say, field by field.
func TestDeployments(t *testing.T) {
	address := func(s string) resources.Address {
		a, err := resources.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	upstream := address("api:80")
	shop := resources.Gateway{
		Listen: address(":8443"), TLS: &resources.TLS{Cert: "/tls/tls.crt", Key: "/tls/tls.key"},
		Collectors: []resources.Address{address("collector:9001")}, Upstream: &upstream,
	}
	own := shop
	own.Listen, own.Collectors = address("10.0.0.1:443"), []resources.Address{address("eu-1:9001"), address("eu-2:9001")}
	flags := Config{
		Groups: "groups.yaml", Filter: "/crowd.wasm", Gateway: ":8443", GatewayTLSCert: "/tls/tls.crt", GatewayTLSKey: "/tls/tls.key",
		Collectors: []string{"collector:9001"}, Upstream: "api:80",
	}
	none := flags
	none.Filter, none.Gateway = "", ""
	for _, c := range []struct {
		name    string
		flags   Config
		group   nodegroup.Group
		filter  string
		gateway *resources.Gateway
		err     string
	}{
		{"nothing of its own", flags, nodegroup.Group{}, "/crowd.wasm", &shop, ""},
		{"much of its own", flags, nodegroup.Group{
			Filter: "/next.wasm", Gateway: "10.0.0.1:443", Collectors: []string{"eu-2:9001", "eu-1:9001"},
		}, "/next.wasm", &own, ""},
		{"no gateway, whatever the flags say of gateways", none, nodegroup.Group{Filter: "/crowd.wasm"}, "/crowd.wasm", nil, ""},
		{"a gateway for this one alone", none, nodegroup.Group{Filter: "/crowd.wasm", Gateway: ":8443"}, "/crowd.wasm", &shop, ""},
		{"no filter", none, nodegroup.Group{}, "", nil,
			"filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"},
		{"an upstream of its own without a gateway", none, nodegroup.Group{Filter: "/crowd.wasm", Upstream: "x:1"}, "/crowd.wasm", nil,
			"gateway: collectors, upstream and TLS mean nothing without the gateway's address; where the listener is somebody else's, so are they"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := c.flags.deployment(c.group)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c.err, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if kept, err := (deployment{}).as(d.settings()); c.err == "" && (err != nil || !cmp.Equal(kept.gateway, d.gateway) || kept.filter.Path != c.filter) {
				t.Errorf("kept as %s, restored as %+v, %v", d.settings(), kept, err)
			}
			if diff := cmp.Diff(c.gateway, d.gateway); d.filter.Path != c.filter || diff != "" {
				t.Errorf("filter %q, gateway (-want +got):\n%s", d.filter.Path, diff)
			}
		})
	}
}

func TestWhatTheFlagsSayOfGatewaysIsForSomeGroup(t *testing.T) {
	flags := Config{Groups: "groups.yaml", Filter: "/crowd.wasm", GatewayTLSCert: "/tls/tls.crt", GatewayTLSKey: "/tls/tls.key"}
	groups := nodegroup.Groups{{Name: "mesh"}, {Name: "edge"}}
	want := "collectors, upstream and TLS mean nothing where no group has a gateway's address"
	if _, err := flags.deployments(groups); err == nil || err.Error() != want {
		t.Errorf("without a gateway: %v", err)
	}
	groups[1].Gateway, groups[1].Collectors = ":8443", []string{"collector:9001"}
	if _, err := flags.deployments(groups); err != nil {
		t.Errorf("with one: %v", err)
	}
}

func TestEveryGroupsMistakesAreSaidAtOnce(t *testing.T) {
	dir := t.TempDir()
	groups := filepath.Join(dir, "groups.yaml")
	write(t, groups, "groups:\n  - {name: one, match: {id: {exact: one}}, routes: one.yaml, upstream: a:1}\n  - {name: two, routes: two.yaml}\n")
	_, err := New(Config{Groups: groups, State: NoState}, discard(), newRegistry())
	for _, want := range []string{"group one: filter: ", "\ngateway: collectors, ", "\ngroup two: filter: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	write(t, filepath.Join(dir, "one.yaml"), "routes: {}\n")
	write(t, groups, strings.ReplaceAll(read(t, groups), ", upstream: a:1", ""))
	_, err = New(Config{Groups: groups, State: NoState, Filter: "/crowd.wasm"}, discard(), newRegistry())
	for _, want := range []string{filepath.Join(dir, "one.yaml") + ":1:", "two.yaml: no such file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
