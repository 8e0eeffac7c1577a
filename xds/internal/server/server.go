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
	"google.golang.org/grpc/keepalive"

	"github.com/marceloboeira/crowd/xds/internal/resources"
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

// group is the one snapshot that every Envoy reads from. One that subscribes to the filter only gets only that.
const group = "crowd"

type oneGroup struct{}

func (oneGroup) ID(*corev3.Node) string { return group }

// Server serves what was last Set. It is safe for concurrent use.
type Server struct {
	cache cache.SnapshotCache
	watch *watch
	log   *slog.Logger
}

// New makes a server that has nothing to serve yet: an Envoy that asks waits.
func New(logger *slog.Logger, reg prometheus.Registerer) *Server {
	return &Server{
		// ADS: resources that refer to each other go out in the order in which Envoy can use them.
		cache: cache.NewSnapshotCache(true, oneGroup{}, libraryLog(logger)),
		watch: newWatch(logger, reg),
		log:   logger,
	}
}

// Set replaces what is served. Envoys get the types of which anything changed.
func (s *Server) Set(r resources.Resources) error {
	snapshot, err := snapshotOf(r)
	if err != nil {
		return fmt.Errorf("serve resources: %w", err)
	}
	if err := s.cache.SetSnapshot(context.Background(), group, snapshot); err != nil {
		return fmt.Errorf("serve resources: %w", err)
	}
	return nil
}

// Serve answers on listener, which it closes, until ctx ends or accepting fails.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	// Streams end only when told to; a graceful stop alone would wait for them for ever.
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	grpcServer := grpc.NewServer(
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
