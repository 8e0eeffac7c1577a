// Package collector takes the records of many uplinks and stores them in Kafka.
//
//	uplinks --gRPC--> internal/ingest --> internal/produce --> Kafka
//	        <--acks--                 <-- stored, refused --
//
// Nothing is acknowledged before Kafka has it, in its topic or, where that will never take it, in the dead-letter
// topic; and nothing is dropped without being named in the acknowledgement; what a collector holds when it dies, the uplinks still have.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/ingest"
	"github.com/marceloboeira/crowd/collector/internal/produce"
)

// Collector is one collector process. New makes it, Run runs it, once.
type Collector struct {
	config   Config
	log      *slog.Logger
	registry *prometheus.Registry
	uplinks  net.Listener
	admin    net.Listener
	ready    chan struct{}
}

// New validates the configuration and binds the ports, so that their addresses are known (give port 0 for any).
// Kafka need not be reachable. The admin port shows the registry, which may hold other metrics, but no other
// Collector's.
func New(c Config, log *slog.Logger, registry *prometheus.Registry) (*Collector, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	uplinks, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening for uplinks: %w", err)
	}
	admin, err := net.Listen("tcp", c.Admin)
	if err != nil {
		_ = uplinks.Close()
		return nil, fmt.Errorf("listening for admin requests: %w", err)
	}
	return &Collector{config: c, log: log, registry: registry, uplinks: uplinks, admin: admin,
		ready: make(chan struct{})}, nil
}

// Addr returns the address for uplinks.
func (c *Collector) Addr() net.Addr { return c.uplinks.Addr() }

// AdminAddr returns the address of the admin server.
func (c *Collector) AdminAddr() net.Addr { return c.admin.Addr() }

// Ready is closed when Kafka has been reached for the first time.
func (c *Collector) Ready() <-chan struct{} { return c.ready }

// Run serves until ctx is done. Then it sends the uplinks elsewhere, stores and acknowledges what it has, for up
// to the drain timeout, and returns; an error if something was left or a server failed.
//
// Until Kafka has been reached the collector is not ready and takes no streams; it keeps trying.
func (c *Collector) Run(ctx context.Context) error {
	producer, err := produce.New(c.config.produce(), c.log, c.registry)
	if err != nil {
		return err
	}
	server := ingest.New(ingest.Config{Name: c.config.Name, MaxBufferBytes: c.config.MaxBufferBytes}, producer, c.log,
		c.registry)
	admin := newAdmin(c.registry, producer.Connected(), ctx.Done())

	go func() {
		select {
		case <-producer.Connected():
			close(c.ready)
		case <-ctx.Done():
		}
	}()
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(c.uplinks) }()
	go func() { failed <- admin.serve(c.admin) }()
	c.log.Info("collector listening", "name", c.config.Name, "address", c.Addr().String(), "admin", c.AdminAddr().String(),
		"kafka", c.config.Kafka.Brokers)

	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	c.log.Info("draining")
	drain, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), c.config.DrainTimeout,
		fmt.Errorf("not finished within %v", c.config.DrainTimeout))
	defer cancel()
	err = errors.Join(err, server.Drain(drain), producer.Close(drain), admin.close())
	for ; running > 0; running-- {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		c.log.Error("collector ended", "error", err)
	} else {
		c.log.Info("collector ended")
	}
	return err
}
