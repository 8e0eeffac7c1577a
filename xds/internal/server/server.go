// Package server hands resources to Envoys over xDS.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryservice "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionservice "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

const (
	// pingInterval and pingTimeout find Envoys that went without a word.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
	// minPingInterval is how often an Envoy may ask whether this server is still there.
	minPingInterval = 5 * time.Second
	// stopGrace bounds the end of a server with an Envoy that takes nothing more.
	stopGrace = 5 * time.Second
	// settleTime is how long after one subscription of a starting Envoy the next may come: it waits for clusters before
	// it asks for listeners, at most Envoy's default initial_fetch_timeout (api/envoy/config/core/v3/config_source.proto).
	settleTime = 15 * time.Second
)

// Options are the facts of one server.
type Options struct {
	// Name tells this server from others in Status.
	Name string
	// Group returns the name of a node's group, without a slash, and "" for a node that no group takes. It is called
	// for every stream, from several goroutines at once and under locks; it must not block.
	Group func(*corev3.Node) string
	// Rollout holds for every group.
	Rollout rollout.Policy
	// Good is called with every version that a rollout finished with, one after another and without locks; Serve does
	// not return before it has. Default: nobody is told.
	Good func(group, version string)
}

// Server hands the resources of groups to their nodes, as rollouts allow. It is safe for concurrent use.
//
// Its lock is taken before go-control-plane's: nothing may call it from within the cache. The other way round is safe,
// as a new snapshot goes into channels that have room for one response to each watch.
type Server struct {
	options Options
	log     *slog.Logger
	metrics metrics
	// cache has a snapshot for each node that is connected and is to have one, by nodeKey.
	cache cache.SnapshotCache

	mu      sync.Mutex
	groups  map[string]*group
	nodes   map[nodeKey]*node
	streams map[streamKey]*stream
	// settling are nodes with a new subscription, in the order of the time at which it counts as the last.
	settling []settling
	// gone is what there was to say of nodes that went, oldest first.
	gone []NodeStatus
	// timer wakes up for the next deadline.
	timer *time.Timer
	// finished are versions that Good is yet to be told of; telling, whether somebody is at it.
	finished []finished
	telling  bool
	told     sync.WaitGroup
	// stopped keeps a rollout from taking the end of this process for that of the nodes.
	stopped bool
}

type settling struct {
	node *node
	at   time.Time
}

type finished struct{ group, version string }

// New makes a server that has nothing to serve yet: an Envoy that asks waits.
func New(options Options, logger *slog.Logger, reg prometheus.Registerer) *Server {
	s := &Server{
		options: options,
		log:     logger,
		metrics: newMetrics(reg),
		// ADS: resources that refer to each other go out in the order in which Envoy can use them.
		cache:   cache.NewSnapshotCache(true, cache.IDHash{}, libraryLog(logger)),
		groups:  map[string]*group{},
		nodes:   map[nodeKey]*node{},
		streams: map[streamKey]*stream{},
	}
	s.mu.Lock() // as s.timer is not there for wake before
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(0, s.wake)
	return s
}

// Restore says what a group is known to be good with, which its nodes get until more is offered. It must come before
// the group's first Offer. The version is a hash of all the resources.
func (s *Server) Restore(group string, r resources.Resources) (version string, err error) {
	snapshot, err := snapshotOf(r)
	if err != nil {
		return "", fmt.Errorf("serve resources: %w", err)
	}
	defer s.lock()()
	g := s.group(group)
	g.snapshots[snapshot.version] = snapshot
	g.rollout.Restore(snapshot.version)
	g.state = g.rollout.State() // nobody has to be told that it is good
	s.metrics.enter(group, g.state.Stage)
	s.drive(g, time.Now())
	return snapshot.version, nil
}

// Offer begins the rollout of a group's resources, in the place of one that is under way. What is good already ends
// that; what is being rolled out, or was just rejected, changes nothing. The version is a hash of all the resources.
func (s *Server) Offer(group string, r resources.Resources) (version string, err error) {
	snapshot, err := snapshotOf(r)
	if err != nil {
		return "", fmt.Errorf("serve resources: %w", err)
	}
	defer s.lock()()
	g, now := s.group(group), time.Now()
	before := g.rollout.State().Candidate
	if _, known := g.snapshots[snapshot.version]; !known {
		g.snapshots[snapshot.version] = snapshot
	}
	g.rollout.Offer(snapshot.version, now)
	state := g.rollout.State()
	if before != "" && state.Candidate != before {
		s.metrics.rollouts.WithLabelValues(group, resultReplaced).Inc()
	}
	if state.Rejection != nil && state.Rejection.Version == snapshot.version {
		s.log.Warn("not rolled out again what was rejected; offer something else first", "group", group,
			"version", snapshot.version, "node", state.Rejection.Node, "reason", state.Rejection.Reason)
	}
	s.drive(g, now)
	return snapshot.version, nil
}

// Serve answers on listener, which it closes, until ctx ends or accepting fails. A Server serves once.
func (s *Server) Serve(ctx context.Context, listener net.Listener, creds credentials.TransportCredentials) error {
	// Streams end only when told to; a graceful stop alone would wait for them for ever.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	grpcServer := grpc.NewServer(
		grpc.Creds(creds),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
	)
	xds := xdsserver.NewServer(streams, s.cache, watch{s}, sotw.WithOrderedADS())
	discoveryservice.RegisterAggregatedDiscoveryServiceServer(grpcServer, xds)
	listenerservice.RegisterListenerDiscoveryServiceServer(grpcServer, xds)
	routeservice.RegisterRouteDiscoveryServiceServer(grpcServer, xds)
	clusterservice.RegisterClusterDiscoveryServiceServer(grpcServer, xds)
	endpointservice.RegisterEndpointDiscoveryServiceServer(grpcServer, xds)
	extensionservice.RegisterExtensionConfigDiscoveryServiceServer(grpcServer, xds)
	secretservice.RegisterSecretDiscoveryServiceServer(grpcServer, xds)

	defer s.told.Wait()
	defer s.stop()
	defer grpcServer.Stop()
	defer context.AfterFunc(ctx, func() {
		s.stop()
		endStreams()
		defer time.AfterFunc(stopGrace, grpcServer.Stop).Stop()
		grpcServer.GracefulStop()
	})()
	err := grpcServer.Serve(listener) // waits for the graceful stop
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve xDS on %s: %w", listener.Addr(), err)
}

func (s *Server) stop() {
	defer s.lock()()
	s.stopped = true
}

// libraryLog hands on what go-control-plane says. Its informational lines are about single watches.
func libraryLog(logger *slog.Logger) log.Logger {
	at := func(level slog.Level) func(string, ...any) {
		return func(format string, args ...any) {
			if logger.Enabled(context.Background(), level) {
				logger.Log(context.Background(), level, fmt.Sprintf(format, args...))
			}
		}
	}
	return log.LoggerFuncs{
		DebugFunc: at(slog.LevelDebug),
		InfoFunc:  at(slog.LevelDebug),
		WarnFunc:  at(slog.LevelWarn),
		ErrorFunc: at(slog.LevelError),
	}
}
