package nodegroup

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestTheFirstGroupThatMatchesTakesANode(t *testing.T) {
	groups, err := Parse("groups.yaml", []byte(`
groups:
  - {name: whole-id, match: {id: {exact: gateway}}, routes: a}
  - {name: id-prefix, match: {id: {prefix: gateway-}}, routes: a}
  - {name: id-regex, match: {id: {safe_regex: 'edge-[0-9]|\Qedge.'}}, routes: a}
  - {name: nameless, match: {id: {exact: ""}}, routes: a}
  - {name: cluster, match: {cluster: {exact: shop}}, routes: a}
  - {name: both, match: {cluster: {prefix: web}, metadata: [{path: [zone], value: {exact: eu}}]}, routes: a}
  - {name: deep, match: {metadata: [{path: [labels, app], value: {exact: x}}, {path: [labels, tier], value: {prefix: g}}]}, routes: a}
`))
	if err != nil {
		t.Fatal(err)
	}
	metadata := func(fields map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	labels := func(app, tier any) *structpb.Struct {
		return metadata(map[string]any{"labels": map[string]any{"app": app, "tier": tier}})
	}
	for _, c := range []struct {
		node *corev3.Node
		want string
	}{
		{&corev3.Node{Id: "gateway"}, "whole-id"},
		{&corev3.Node{Id: "gateway", Cluster: "shop"}, "whole-id"},
		{&corev3.Node{Id: "gateway-1"}, "id-prefix"},
		{&corev3.Node{Id: "a gateway-1"}, ""},
		{&corev3.Node{Id: "edge-1"}, "id-regex"},
		{&corev3.Node{Id: "edge."}, "id-regex"},
		{&corev3.Node{Id: "edge-12"}, ""},
		{&corev3.Node{Id: "an edge-1"}, ""},
		{&corev3.Node{}, "nameless"},
		{nil, "nameless"},
		{&corev3.Node{Id: "x", Cluster: "shop"}, "cluster"},
		{&corev3.Node{Id: "x", Cluster: "shops"}, ""},
		{&corev3.Node{Id: "x", Cluster: "web-1", Metadata: metadata(map[string]any{"zone": "eu"})}, "both"},
		{&corev3.Node{Id: "x", Cluster: "web-1", Metadata: metadata(map[string]any{"zone": "us"})}, ""},
		{&corev3.Node{Id: "x", Cluster: "web-1"}, ""},
		{&corev3.Node{Id: "x", Metadata: labels("x", "gold")}, "deep"},
		{&corev3.Node{Id: "x", Metadata: labels("x", "silver")}, ""},
		{&corev3.Node{Id: "x", Metadata: labels("x", 1)}, ""},
		{&corev3.Node{Id: "x", Metadata: metadata(map[string]any{"labels": "x"})}, ""},
	} {
		if got := groups.Of(c.node); got != c.want {
			t.Errorf("%v: group %q, want %q", c.node, got, c.want)
		}
	}
}

func TestAGroupWithoutAMatchTakesEveryNode(t *testing.T) {
	groups := Groups{{Name: "default"}}
	for _, node := range []*corev3.Node{nil, {}, {Id: "x", Cluster: "y"}} {
		if got := groups.Of(node); got != "default" {
			t.Errorf("%v: group %q", node, got)
		}
	}
}
