// Package xds is crowd's control plane: it follows a routes file and hands what it says to Envoys over xDS.
//
// An Envoy that crowd configures whole gets listener, routes, clusters and endpoints; one whose listener is somebody
// else's asks for the filter alone, over ECDS, and gets only that, from the same server.
package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/internal/server"
	"github.com/marceloboeira/crowd/xds/internal/source"
	"github.com/marceloboeira/crowd/xds/route"
)

// defaultGroup takes every node.
const defaultGroup = "default"

// Server follows one routes file and serves Envoys.
type Server struct {
	log      *slog.Logger
	registry *prometheus.Registry
	source   *source.Source
	server   *server.Server
	filter   resources.Filter
	gateway  *resources.Gateway
	served   func(route.Config)

	envoys, admin net.Listener
}

// New reads the files that cfg names and binds the ports; Run goes on from there. It fails when cfg, or anything in
// the routes file, is not valid: the error says all that is wrong. Metrics go to registry, where no other Server's may
// be.
func New(cfg Config, log *slog.Logger, registry *prometheus.Registry) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	s := &Server{
		log:      log,
		registry: registry,
		server: server.New(server.Options{
			Name:    cfg.name(),
			Group:   func(*corev3.Node) string { return defaultGroup },
			Rollout: rollout.Policy{CanaryPercent: cfg.CanaryPercent, Hold: cfg.CanaryHold},
		}, log, registry),
		filter: resources.Filter{Path: cfg.Filter},
		served: cfg.Served,
	}
	if s.served == nil {
		s.served = func(route.Config) {}
	}
	s.gateway, _ = cfg.gateway() // valid, as checked
	if cfg.FilterInline != "" {
		if err := CheckFilter(cfg.FilterInline); err != nil {
			return nil, fmt.Errorf("xds: --filter-inline: %w", err)
		}
		code, err := os.ReadFile(cfg.FilterInline)
		if err != nil {
			return nil, fmt.Errorf("xds: --filter-inline: %w", err)
		}
		s.filter.Code = code
	}

	var err error
	if s.source, err = source.New(defaultGroup, cfg.Routes, log, source.NewMetrics(registry)); err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	first, err := s.source.First()
	if err == nil {
		err = s.publish(first)
	}
	if err == nil {
		err = s.bind(cfg)
	}
	if err != nil {
		s.source.Close()
		return nil, fmt.Errorf("xds: %w", err)
	}
	s.served(first)
	return s, nil
}

func (s *Server) bind(cfg Config) error {
	var err error
	if s.envoys, err = net.Listen("tcp", cfg.listen()); err != nil {
		return fmt.Errorf("listen for Envoys: %w", err)
	}
	if s.admin, err = net.Listen("tcp", cfg.admin()); err != nil {
		s.envoys.Close()
		return fmt.Errorf("listen for admin requests: %w", err)
	}
	return nil
}

// Addr is where Envoys reach the server.
func (s *Server) Addr() net.Addr { return s.envoys.Addr() }

// AdminAddr is where /metrics, /healthz, /readyz and /status are.
func (s *Server) AdminAddr() net.Addr { return s.admin.Addr() }

// Status returns what every node has and is to have.
func (s *Server) Status() Status { return s.server.Status() }

// Run serves, and follows the routes file, until ctx ends, which is no error. Envoys keep what they have.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("xds listening", "address", s.Addr().String(), "admin", s.AdminAddr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.server.Serve(ctx, s.envoys, insecure.NewCredentials()) })
	group.Go(func() error { return serveAdmin(ctx, s.admin, s.registry, s.Status) })
	group.Go(func() error {
		s.source.Run(ctx, func(routes route.Config) error {
			err := s.publish(routes)
			if err == nil {
				s.served(routes)
			}
			return err
		})
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("xds: %w", err)
	}
	return nil
}

func (s *Server) publish(routes route.Config) error {
	r, err := resources.Build(resources.Input{Routes: routes, Filter: s.filter, Gateway: s.gateway})
	if err != nil {
		return err
	}
	_, err = s.server.Offer(defaultGroup, r)
	return err
}
