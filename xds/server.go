// Package xds is crowd's control plane: it follows files of routes and hands what they say to Envoys over xDS.
//
// An Envoy that crowd configures whole gets listener, routes, clusters and endpoints; one whose listener is somebody
// else's asks for the filter alone, over ECDS, and gets only that, from the same server.
package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/marceloboeira/crowd/xds/internal/nodegroup"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
	"github.com/marceloboeira/crowd/xds/internal/server"
	"github.com/marceloboeira/crowd/xds/internal/servertls"
	"github.com/marceloboeira/crowd/xds/internal/source"
	"github.com/marceloboeira/crowd/xds/internal/state"
	"github.com/marceloboeira/crowd/xds/route"
)

// Server follows the routes of groups of Envoys and serves them.
type Server struct {
	log      *slog.Logger
	registry *prometheus.Registry
	server   *server.Server
	groups   map[string]*group
	tls      credentials.TransportCredentials
	state    *state.Store // nil where none is kept

	envoys, admin net.Listener
}

// New reads the files that cfg names and binds the ports; Run goes on from there. It fails when cfg, the groups file,
// or anything in the routes of a group that has no last good ones, is not valid: the error says all that is wrong.
// Metrics go to registry, where no other Server's may be.
func New(cfg Config, log *slog.Logger, registry *prometheus.Registry) (*Server, error) {
	s, err := newServer(cfg, log, registry)
	if err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	return s, nil
}

func newServer(cfg Config, log *slog.Logger, registry *prometheus.Registry) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	groups, err := cfg.groups()
	if err != nil {
		return nil, err
	}
	deployments, err := cfg.deployments(groups)
	if err != nil {
		return nil, err
	}
	s := &Server{log: log, registry: registry, groups: map[string]*group{}, tls: insecure.NewCredentials()}
	if cfg.tls().Enabled() {
		if s.tls, err = servertls.New(cfg.tls(), log, registry); err != nil {
			return nil, err
		}
	}
	s.server = server.New(server.Options{
		Name:    cfg.name(),
		Group:   groups.Of,
		Rollout: rollout.Policy{CanaryPercent: cfg.CanaryPercent, Hold: cfg.CanaryHold},
		Good:    func(group, version string) { s.groups[group].keep(version) },
	}, log, registry)
	if err = s.bind(cfg); err != nil {
		return nil, err
	}
	if err = s.start(cfg, groups, deployments); err != nil {
		s.envoys.Close()
		s.admin.Close()
		for _, g := range s.groups {
			g.source.Close()
		}
		s.closeState()
		return nil, err
	}
	return s, nil
}

// start begins with what each group has at first.
func (s *Server) start(cfg Config, groups nodegroup.Groups, deployments []deployment) error {
	if cfg.state() != NoState {
		var err error
		if s.state, err = state.Open(cfg.state(), s.log); err != nil {
			return fmt.Errorf("%w; pass another one with --state, or --state %s", err, NoState)
		}
	}
	served := cfg.Served
	if served == nil {
		served = func(string, route.Config) {}
	}
	metrics := source.NewMetrics(s.registry)
	var errs []error
	for i, described := range groups {
		routes, err := source.New(described.Name, described.Routes, s.log, metrics)
		if err != nil {
			return err
		}
		g := &group{
			name: described.Name, deployment: deployments[i], source: routes,
			server: s.server, state: s.state, served: served, log: s.log,
		}
		s.groups[g.name] = g
		errs = append(errs, g.start())
	}
	return errors.Join(errs...)
}

func (s *Server) closeState() {
	if s.state == nil {
		return
	}
	if err := s.state.Close(); err != nil {
		s.log.Warn("the state directory was not given free", "error", err)
	}
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

// Run serves, and follows the routes, until ctx ends, which is no error. Envoys keep what they have.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeState()
	s.log.Info("xds listening", "address", s.Addr().String(), "admin", s.AdminAddr().String())
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return s.server.Serve(ctx, s.envoys, s.tls) })
	running.Go(func() error { return serveAdmin(ctx, s.admin, s.registry, s.Status) })
	for _, g := range s.groups {
		running.Go(func() error {
			g.run(ctx)
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		return fmt.Errorf("xds: %w", err)
	}
	return nil
}
