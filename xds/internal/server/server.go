// Package server hands resources to Envoys over xDS.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryservice "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionservice "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
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
)

// Options are the facts of one server.
type Options struct {
	// Name tells this server from others in Status.
	Name string
	// Group returns the name of a node's group, and "" for a node that no group takes. It is called under locks, must
	// not block, and must always say the same of the same node.
	Group func(*corev3.Node) string
	// Rollout holds for every group.
	Rollout rollout.Policy
	// Good is called with every version that a rollout finished with, of one group after another and without locks.
	// Default: nobody is told.
	Good func(group, version string)
}

// ID makes Options a cache.NodeHash.
func (o Options) ID(node *corev3.Node) string { return o.Group(node) }

// Server hands the resources of groups to their nodes. It is safe for concurrent use.
type Server struct {
	options Options
	cache   cache.SnapshotCache
	watch   *watch
	log     *slog.Logger
}

// New makes a server that has nothing to serve yet: an Envoy that asks waits.
func New(options Options, logger *slog.Logger, reg prometheus.Registerer) *Server {
	return &Server{
		options: options,
		// ADS: resources that refer to each other go out in the order in which Envoy can use them.
		cache: cache.NewSnapshotCache(true, options, libraryLog(logger)),
		watch: newWatch(logger, reg),
		log:   logger,
	}
}

// Restore says what a group is known to be good with, which its nodes get until more is offered. It must come before
// the group's first Offer. The version is a hash of all the resources.
func (s *Server) Restore(group string, r resources.Resources) (version string, err error) {
	return s.Offer(group, r)
}

// Offer begins the rollout of a group's resources, unless they are what it has. The version is a hash of them all.
func (s *Server) Offer(group string, r resources.Resources) (version string, err error) {
	snapshot, version, err := snapshotOf(r)
	if err != nil {
		return "", fmt.Errorf("serve resources: %w", err)
	}
	if err := s.cache.SetSnapshot(context.Background(), group, snapshot); err != nil {
		return "", fmt.Errorf("serve resources: %w", err)
	}
	return version, nil
}

// Status is what Status returns.
type Status struct{}

// Status returns what every node has and is to have.
func (s *Server) Status() Status { return Status{} }

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
	xds := xdsserver.NewServer(streams, s.cache, s.watch, sotw.WithOrderedADS())
	discoveryservice.RegisterAggregatedDiscoveryServiceServer(grpcServer, xds)
	listenerservice.RegisterListenerDiscoveryServiceServer(grpcServer, xds)
	routeservice.RegisterRouteDiscoveryServiceServer(grpcServer, xds)
	clusterservice.RegisterClusterDiscoveryServiceServer(grpcServer, xds)
	endpointservice.RegisterEndpointDiscoveryServiceServer(grpcServer, xds)
	extensionservice.RegisterExtensionConfigDiscoveryServiceServer(grpcServer, xds)

	defer grpcServer.Stop()
	defer context.AfterFunc(ctx, func() {
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
