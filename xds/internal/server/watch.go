package server

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
)

// typeNames are the types that are served.
var typeNames = map[string]string{
	resource.ListenerType:        "lds",
	resource.RouteType:           "rds",
	resource.ClusterType:         "cds",
	resource.EndpointType:        "eds",
	resource.ExtensionConfigType: "ecds",
	resource.SecretType:          "sds",
}

// typeName is bounded, because it becomes a label and Envoys may ask for anything.
func typeName(typeURL string) string {
	if name, ok := typeNames[typeURL]; ok {
		return name
	}
	return "other"
}

// watch sees every message between Envoys and a Server: it is go-control-plane's callbacks. They are called on the
// stream's goroutine; a request's before go-control-plane deals with it, so that a node has its snapshot by then.
type watch struct{ *Server }

// streamKey is needed because both variants of the protocol count their streams from 1.
type streamKey struct {
	delta bool
	id    int64
}

// request is what both variants of the protocol have in common, and what they do not.
type request struct {
	node      *corev3.Node // nil in all but the first of a stream
	typeURL   string
	nonce     string
	rejection *statuspb.Status

	delta bool
	// version and names are the state of the world's.
	version string
	names   []string
	// subscribe, unsubscribe and initial are delta's.
	subscribe, unsubscribe []string
	initial                map[string]string
}

func (w watch) OnStreamOpen(_ context.Context, id int64, typeURL string) error {
	w.opened(streamKey{id: id}, typeURL)
	return nil
}

func (w watch) OnStreamClosed(id int64, _ *corev3.Node) { w.closed(streamKey{id: id}) }

// OnStreamRequest makes a rejection count as an answer. An Envoy that rejects a version names the one it had before,
// which go-control-plane takes for a reason to send the current one, which the Envoy rejects, as fast as both can.
// With the version it answered in its place, nothing is sent until there is another one.
func (w watch) OnStreamRequest(id int64, r *discoveryv3.DiscoveryRequest) error {
	node, answered := w.requested(streamKey{id: id}, request{
		node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(), rejection: r.GetErrorDetail(),
		version: r.GetVersionInfo(), names: r.GetResourceNames(),
	})
	r.Node, r.ErrorDetail = node, nil // go-control-plane keeps the request
	if answered != "" {
		r.VersionInfo = answered
	}
	if _, served := typeNames[r.GetTypeUrl()]; !served {
		// Any version but "", which is the cache's of such a type, would be answered with nothing, and answers to more
		// types than there are would fill go-control-plane's channel with its cache locked.
		r.VersionInfo = ""
	}
	return nil
}

func (w watch) OnStreamResponse(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
	w.responded(streamKey{id: id}, r.GetTypeUrl(), response{nonce: r.GetNonce(), version: r.GetVersionInfo()})
}

func (w watch) OnDeltaStreamOpen(_ context.Context, id int64, typeURL string) error {
	w.opened(streamKey{delta: true, id: id}, typeURL)
	return nil
}

func (w watch) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	w.closed(streamKey{delta: true, id: id})
}

// OnStreamDeltaRequest has no version to put right: what was sent counts as known here, rejected or not.
func (w watch) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	r.Node, _ = w.requested(streamKey{delta: true, id: id}, request{
		node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(), rejection: r.GetErrorDetail(), delta: true,
		subscribe: r.GetResourceNamesSubscribe(), unsubscribe: r.GetResourceNamesUnsubscribe(), initial: r.GetInitialResourceVersions(),
	})
	r.ErrorDetail = nil
	return nil
}

func (w watch) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	updated := make(map[string]string, len(r.GetResources()))
	for _, one := range r.GetResources() {
		updated[one.GetName()] = one.GetVersion()
	}
	w.responded(streamKey{delta: true, id: id}, r.GetTypeUrl(), response{
		nonce: r.GetNonce(), version: r.GetSystemVersionInfo(), updated: updated, removed: r.GetRemovedResources(),
	})
}

// The REST variant is not served.

func (w watch) OnFetchRequest(context.Context, *discoveryv3.DiscoveryRequest) error { return nil }

func (w watch) OnFetchResponse(*discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {}
