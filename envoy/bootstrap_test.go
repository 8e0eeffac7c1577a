package envoy

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"
)

// A rendered bootstrap is the file with the values replaced, and nothing else.
func TestBootstrapJSON(t *testing.T) {
	tests := []struct {
		name     string
		rendered interface{ JSON() ([]byte, error) }
		file     []byte
		replaced []string
	}{
		{"gateway as it is", GatewayBootstrap{}, gatewayYAML, nil},
		{"gateway", GatewayBootstrap{NodeID: "n1", XDS: []string{"xds:1"}, Admin: "[::1]:0"}, gatewayYAML, []string{
			"id: crowd-gateway", "id: n1",
			"{address: 127.0.0.1, port_value: 18000}", "{address: xds, port_value: 1}",
			"{address: 127.0.0.1, port_value: 9901}", "{address: '::1', port_value: 0}",
		}},
		{"gateway with several xDS servers", GatewayBootstrap{XDS: []string{"xds-0:1", "xds-1:2"}}, gatewayYAML, []string{
			`              - endpoint:
                  address:
                    socket_address: {address: 127.0.0.1, port_value: 18000}`,
			`              - endpoint: {address: {socket_address: {address: xds-0, port_value: 1}}}
              - endpoint: {address: {socket_address: {address: xds-1, port_value: 2}}}`,
		}},
		{"filter as it is", FilterBootstrap{}, filterYAML, nil},
		{
			"filter",
			FilterBootstrap{NodeID: "n2", XDS: []string{"xds:1"}, Admin: "10.0.0.1:2", Listen: "10.0.0.2:3", Collector: "c:4", Backend: "b:5"},
			filterYAML,
			[]string{
				"id: crowd-filter", "id: n2",
				"{address: 127.0.0.1, port_value: 18000}", "{address: xds, port_value: 1}",
				"{address: 127.0.0.1, port_value: 9901}", "{address: 10.0.0.1, port_value: 2}",
				"{address: 0.0.0.0, port_value: 8080}", "{address: 10.0.0.2, port_value: 3}",
				"{address: 127.0.0.1, port_value: 9001}", "{address: c, port_value: 4}",
				"{address: 127.0.0.1, port_value: 8000}", "{address: b, port_value: 5}",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := tt.rendered.JSON()
			if err != nil {
				t.Fatal(err)
			}
			got := &bootstrapv3.Bootstrap{}
			if err := protojson.Unmarshal(text, got); err != nil {
				t.Fatal(err)
			}
			want := newEditor([]byte(strings.NewReplacer(tt.replaced...).Replace(string(tt.file)))).bootstrap
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestBootstrapAddress(t *testing.T) {
	for address, want := range map[string]string{
		"nowhere": `bootstrap: crowd_xds: address nowhere: missing port`,
		"a:http":  `bootstrap: crowd_xds: port of "a:http": `,
		"a:65536": `bootstrap: crowd_xds: port of "a:65536": `,
	} {
		if _, err := (GatewayBootstrap{XDS: []string{address}}).JSON(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}
