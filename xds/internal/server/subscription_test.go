package server

import (
	"fmt"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/route"
)

// What a subscription must have said for a version to count as acknowledged.
func TestHas(t *testing.T) {
	gateway, err := snapshotOf(build(t, "one", true))
	if err != nil {
		t.Fatal(err)
	}
	filter, err := snapshotOf(build(t, "one", false))
	if err != nil {
		t.Fatal(err)
	}
	const filters, clusters = resource.ExtensionConfigType, resource.ClusterType
	version := func(s *snapshot, typeURL, name string) map[string]string {
		return map[string]string{name: s.GetVersionMap(typeURL)[name]}
	}
	tests := []struct {
		name    string
		request request
		then    func(*subscription)
		wanted  *snapshot
		want    bool
	}{
		{"nothing yet", request{typeURL: filters}, nil, filter, false},
		{"said at the start", request{typeURL: filters, version: filter.GetVersion(filters)}, nil, filter, true},
		{"sent", request{typeURL: filters}, func(b *subscription) { b.sent(response{nonce: "1", version: filter.GetVersion(filters)}) }, filter, false},
		{"asks for what there is not", request{typeURL: filters, names: []string{"other"}}, nil, filter, true},
		{"asks for more than there is", request{typeURL: filters, names: []string{"other", resources.FilterName}}, nil, filter, false},
		{"names what it will be sent", request{typeURL: clusters, names: []string{route.DefaultCluster}}, nil, gateway, false},
		{"delta: nothing yet", request{typeURL: filters, delta: true}, nil, filter, false},
		{"delta: said at the start", request{typeURL: filters, delta: true, initial: version(filter, filters, resources.FilterName)}, nil, filter, true},
		{"delta: said another at the start", request{typeURL: filters, delta: true, initial: map[string]string{resources.FilterName: "x"}}, nil, filter, false},
		{"delta: asks for what there is not", request{typeURL: filters, delta: true, subscribe: []string{"other"}}, nil, filter, true},
		{"delta: has what is no more", request{typeURL: clusters, delta: true, initial: version(gateway, clusters, route.DefaultCluster)}, nil, filter, false},
		{"delta: asks no more for what is no more", request{
			typeURL: clusters, delta: true, subscribe: []string{route.DefaultCluster}, initial: version(gateway, clusters, route.DefaultCluster),
		}, func(b *subscription) {
			b.update(request{delta: true, unsubscribe: []string{route.DefaultCluster}})
		}, filter, true},
		{"delta: acknowledges a removal", request{typeURL: clusters, delta: true, initial: version(gateway, clusters, route.DefaultCluster)}, func(b *subscription) {
			b.sent(response{nonce: "1", removed: []string{route.DefaultCluster}})
			r, _ := b.answered("1")
			b.accept(r, false)
		}, filter, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newSubscription(tt.request)
			if tt.then != nil {
				tt.then(b)
			}
			if got := b.has(tt.wanted); got != tt.want {
				t.Errorf("has %t, want %t", got, tt.want)
			}
		})
	}
}

// A stale request changes nothing of what is asked for, as in go-control-plane.
func TestStaleRequests(t *testing.T) {
	b := newSubscription(request{typeURL: resource.ExtensionConfigType, names: []string{"a"}})
	b.update(request{names: []string{"b"}}) // nothing sent yet
	b.sent(response{nonce: "1"})
	b.update(request{names: []string{"c"}})
	b.update(request{names: []string{"d"}, nonce: "0"})
	if !b.subscribed("b") || b.subscribed("c") || b.subscribed("d") {
		t.Errorf("asks for %v", b.names.SubscribedResources())
	}
	b.update(request{names: []string{"e"}, nonce: "1"})
	if !b.subscribed("e") {
		t.Errorf("asks for %v", b.names.SubscribedResources())
	}
}

func TestAnswers(t *testing.T) {
	b := newSubscription(request{typeURL: resource.ExtensionConfigType})
	for i := range maxUnanswered + 2 {
		b.sent(response{nonce: fmt.Sprint(i), version: fmt.Sprint("v", i)})
	}
	for _, tt := range []struct{ nonce, version string }{{"", ""}, {"0", ""}, {"5", "v5"}, {"5", ""}, {"4", ""}, {"6", "v6"}} {
		got, ok := b.answered(tt.nonce)
		if got.version != tt.version || ok != (tt.version != "") {
			t.Errorf("nonce %q answers %q, want %q", tt.nonce, got.version, tt.version)
		}
	}
}

// Over a delta stream, what is acknowledged may be other resources of the version that was rejected.
func TestWhatSettlesARejection(t *testing.T) {
	for _, tt := range []struct {
		delta, news, sameVersion, settles bool
	}{
		{false, false, true, true},
		{false, false, false, true},
		{false, true, false, false},
		{true, false, true, false},
		{true, false, false, true},
		{true, true, false, false},
	} {
		b := newSubscription(request{typeURL: resource.ExtensionConfigType, delta: tt.delta})
		b.reject(response{version: "v1"}, &rollout.Rejection{})
		accepted := response{version: "v2"}
		if tt.sameVersion {
			accepted.version = "v1"
		}
		b.accept(accepted, tt.news)
		if (b.rejection == nil) != tt.settles {
			t.Errorf("%+v: rejection %v", tt, b.rejection)
		}
	}
}
