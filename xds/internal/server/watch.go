package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
)

// watch sees every message between Envoys and this server: it logs, counts, and keeps a rejected version from being
// sent again and again.
type watch struct {
	log       *slog.Logger
	nodes     prometheus.Gauge
	responses *prometheus.CounterVec
	nacks     *prometheus.CounterVec

	mu      sync.Mutex
	streams map[streamKey]*stream
	open    map[string]int // streams by node id
}

// streamKey is needed because both variants of the protocol count their streams from 1.
type streamKey struct {
	delta bool
	id    int64
}

type stream struct {
	// node is nil until the first request, which alone has to carry it.
	node *corev3.Node
	// sent is the latest response of each type.
	sent map[string]response
}

type response struct{ nonce, version string }

func newWatch(log *slog.Logger, reg prometheus.Registerer) *watch {
	metrics := promauto.With(reg)
	w := &watch{
		log: log,
		nodes: metrics.NewGauge(prometheus.GaugeOpts{
			Name: "crowd_xds_connected_nodes",
			Help: "Envoys with an open stream, told apart by their node id.",
		}),
		responses: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_responses_total",
			Help: "Versions sent to Envoys, by type of resource.",
		}, []string{"type"}),
		nacks: metrics.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_nacks_total",
			Help: "Versions that an Envoy rejected, by type of resource; the log says which Envoy and why.",
		}, []string{"type"}),
		streams: map[streamKey]*stream{},
		open:    map[string]int{},
	}
	for _, name := range typeNames {
		w.responses.WithLabelValues(name)
		w.nacks.WithLabelValues(name)
	}
	return w
}

var typeNames = map[string]string{
	resource.ListenerType:        "lds",
	resource.RouteType:           "rds",
	resource.ClusterType:         "cds",
	resource.EndpointType:        "eds",
	resource.ExtensionConfigType: "ecds",
}

// typeName is bounded, because it becomes a label and Envoys may ask for anything.
func typeName(typeURL string) string {
	if name, ok := typeNames[typeURL]; ok {
		return name
	}
	return "other"
}

func (w *watch) opened(key streamKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[key] = &stream{sent: map[string]response{}}
}

func (w *watch) closed(key streamKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	node := w.streams[key].node
	delete(w.streams, key)
	if node == nil {
		return
	}
	w.open[node.GetId()]--
	if w.open[node.GetId()] == 0 {
		delete(w.open, node.GetId())
	}
	w.nodes.Set(float64(len(w.open)))
	w.log.Info("envoy disconnected", "node", node.GetId())
}

// requested notes what a request says of its sender and of the response it answers, and returns the version of
// that response, or "" where it answers none or an earlier one.
func (w *watch) requested(key streamKey, node *corev3.Node, typeURL, nonce string, rejection *statuspb.Status) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[key]
	if s.node == nil && node != nil {
		s.node = node
		w.open[node.GetId()]++
		w.nodes.Set(float64(len(w.open)))
		v := node.GetUserAgentBuildVersion().GetVersion()
		w.log.Info("envoy connected", "node", node.GetId(), "cluster", node.GetCluster(),
			"version", fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch()))
	}
	answered := s.sent[typeURL]
	if nonce == "" || answered.nonce != nonce {
		answered = response{}
	}
	if rejection != nil {
		w.nacks.WithLabelValues(typeName(typeURL)).Inc()
		w.log.Error("envoy rejected configuration and keeps what it had", "node", s.node.GetId(),
			"type", typeName(typeURL), "version", answered.version, "reason", rejection.GetMessage())
	}
	return answered.version
}

func (w *watch) responded(key streamKey, typeURL string, sent response) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[key].sent[typeURL] = sent
	w.responses.WithLabelValues(typeName(typeURL)).Inc()
	w.log.Debug("sent", "node", w.streams[key].node.GetId(), "type", typeName(typeURL), "version", sent.version)
}

// The methods below are go-control-plane's callbacks.

func (w *watch) OnStreamOpen(_ context.Context, id int64, _ string) error {
	w.opened(streamKey{id: id})
	return nil
}

func (w *watch) OnStreamClosed(id int64, _ *corev3.Node) { w.closed(streamKey{id: id}) }

// OnStreamRequest makes a rejection count as an answer. An Envoy that rejects a version names the one it had before,
// which go-control-plane takes for a reason to send the current one, which the Envoy rejects, as fast as both can.
// With the version it answered in its place, nothing is sent until there is another one.
func (w *watch) OnStreamRequest(id int64, r *discoveryv3.DiscoveryRequest) error {
	answered := w.requested(streamKey{id: id}, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	if answered != "" {
		r.VersionInfo = answered
	}
	return nil
}

func (w *watch) OnStreamResponse(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
	w.responded(streamKey{id: id}, r.GetTypeUrl(), response{r.GetNonce(), r.GetVersionInfo()})
}

func (w *watch) OnDeltaStreamOpen(_ context.Context, id int64, _ string) error {
	w.opened(streamKey{delta: true, id: id})
	return nil
}

func (w *watch) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	w.closed(streamKey{delta: true, id: id})
}

// OnStreamDeltaRequest only observes: what was sent counts as known here, rejected or not.
func (w *watch) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	w.requested(streamKey{delta: true, id: id}, r.GetNode(), r.GetTypeUrl(), r.GetResponseNonce(), r.GetErrorDetail())
	return nil
}

func (w *watch) OnStreamDeltaResponse(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
	w.responded(streamKey{delta: true, id: id}, r.GetTypeUrl(), response{r.GetNonce(), r.GetSystemVersionInfo()})
}

// The REST variant is not served.

func (w *watch) OnFetchRequest(context.Context, *discoveryv3.DiscoveryRequest) error { return nil }

func (w *watch) OnFetchResponse(*discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {}
