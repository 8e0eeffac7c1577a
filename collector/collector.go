// Package collector takes the records of many uplinks and stores them in Kafka.
//
//	uplinks --gRPC--> internal/ingest --ack kafka----------------------------> internal/produce --> Kafka
//	        <--acks--                 --ack memory, disk--> internal/spool -->
//
// What routes ask to be in Kafka is acknowledged when Kafka has it, in its topic or, where that will never take it, in
// the dead-letter topic. Everything else is acknowledged when it is synced to disk, or as the former where there is no
// spool. Nothing is dropped without being named in the acknowledgement. What a collector holds in memory when it dies,
// the uplinks still have; what it has on disk goes to Kafka after the next start.
package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/admin"
	"github.com/marceloboeira/crowd/collector/internal/ingest"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/spool"
)

// Collector is one collector process. New makes it, Run runs it, once.
type Collector struct {
	config    Config
	log       *slog.Logger
	registry  *prometheus.Registry
	uplinks   net.Listener
	admin     net.Listener
	files     vfs.FS // the spool's; nil is the machine's
	connected chan struct{}
	left      bool
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
		connected: make(chan struct{})}, nil
}

// Addr returns the address for uplinks.
func (c *Collector) Addr() net.Addr { return c.uplinks.Addr() }

// AdminAddr returns the address of the admin server.
func (c *Collector) AdminAddr() net.Addr { return c.admin.Addr() }

// Connected is closed when Kafka has been reached for the first time.
func (c *Collector) Connected() <-chan struct{} { return c.connected }

// Left says, when Run has returned, whether there may be something in the spool that Kafka has not got.
func (c *Collector) Left() bool { return c.left }

// Run serves until ctx is done. Then it sends the uplinks elsewhere, acknowledges what it has, has Kafka take what it
// can, for up to the drain timeout, and returns. It returns an error if something could not be acknowledged or a server
// failed; what is left in the spool is no error, but a warning in the log. When the spool fails, Run ends in the same
// way, but for the uplinks, which get no acknowledgements any more, and returns that error.
//
// Without a spool the collector is not ready and takes no streams until Kafka has been reached; it keeps trying. With one,
// it is not and does not until that has been read.
func (c *Collector) Run(ctx context.Context) error {
	err := c.run(ctx)
	if err != nil {
		c.log.Error("collector ended", "error", err)
	} else {
		c.log.Info("collector ended")
	}
	return err
}

func (c *Collector) run(ctx context.Context) error {
	producer, err := produce.New(c.config.produce(), c.log, c.registry)
	if err != nil {
		panic("BUG: a configuration that is valid is not: " + err.Error())
	}
	var sp *spool.Spool
	opened := make(chan struct{})                          // closed when streams are taken, with the spool, if there is to be one
	admin := admin.New(c.registry, func() (bool, string) { // ready when it takes streams, until it drains or its spool fails
		switch {
		case closed(ctx.Done()):
			return false, "draining"
		case c.config.Spool == NoSpool && !closed(producer.Connected()):
			return false, "kafka has not been reached yet"
		case !closed(opened):
			return false, "the spool is being read"
		case sp != nil && closed(sp.Failed()):
			return false, "the spool has failed"
		}
		return true, "ready"
	})
	failed := make(chan error, 2)
	go func() { failed <- admin.Serve(c.admin) }() // at once: a large spool without an index takes a while to read, in which it is alive
	sp, err = c.openSpool()
	if err != nil {
		return errors.Join(err, c.uplinks.Close(), producer.Close(ctx), admin.Close(), <-failed)
	}
	go func() {
		select {
		case <-producer.Connected():
			close(c.connected)
		case <-ctx.Done():
		}
	}()

	settings := ingest.Config{Name: c.config.Name, MaxBufferBytes: c.config.MaxBufferBytes}
	var server *ingest.Server
	var spoolFailed <-chan struct{}
	unwritten := make([]byte, unwrittenBytes(c.config.MaxBufferBytes, debug.SetMemoryLimit(-1)))
	defer runtime.KeepAlive(unwritten)
	if sp == nil {
		server = ingest.New(settings, producer, nil, c.log, c.registry)
	} else {
		server = ingest.New(settings, producer, sp, c.log, c.registry)
		sp.Deliver(server.Deliver)
		spoolFailed = sp.Failed()
	}
	close(opened)
	go func() { failed <- server.Serve(c.uplinks) }()
	c.log.Info("collector listening", "name", c.config.Name, "address", c.Addr().String(), "admin", c.AdminAddr().String(),
		"kafka", c.config.Kafka.Brokers, "spool", c.config.Spool)

	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	case <-spoolFailed:
	}
	c.log.Info("draining")
	drain, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), c.config.DrainTimeout,
		fmt.Errorf("not finished within %v", c.config.DrainTimeout))
	defer cancel()
	if closed(spoolFailed) {
		server.Stop()
	} else {
		err = errors.Join(err, server.Drain(drain))
	}
	err = errors.Join(err, c.finish(drain, producer, sp), admin.Close())
	for ; running > 0; running-- {
		err = errors.Join(err, <-failed)
	}
	return err
}

// unwrittenBytes returns how much a collector allocates and never writes to, where it may buffer so many bytes and Go has such
// a memory limit. Records come and go: without a spool, and with one that has little to do since routes ask for level kafka,
// what lives is a few MiB, and Go would collect after as many have been allocated, dozens of times a second. What is never written
// to takes no memory, but counts for when to collect, and for the limit. More than 32 MiB would save nothing more.
func unwrittenBytes(maxBuffer, limit int64) int64 { return min(maxBuffer/4, 32<<20, limit/8) }

// openSpool returns nil where there is to be none.
func (c *Collector) openSpool() (*spool.Spool, error) {
	if c.config.Spool == NoSpool {
		return nil, nil
	}
	config := c.config.spool()
	config.FS = c.files
	sp, err := spool.Open(config, c.log, c.registry)
	if err != nil {
		return nil, fmt.Errorf("%w; pass another directory with --spool, or --spool off for a collector without level disk",
			err)
	}
	c.left = true
	return sp, nil
}

// finish ends what is behind the server, which has ended: it has Kafka take what is there until ctx is done.
func (c *Collector) finish(ctx context.Context, producer *produce.Producer, sp *spool.Spool) error {
	if sp == nil {
		return producer.Close(ctx)
	}
	if closed(sp.Failed()) {
		_ = producer.Close(ctx) // what it leaves is in the spool, or with the uplinks
		_, err := sp.Close(ctx)
		return err
	}
	left, err := sp.Close(ctx)
	produced := producer.Close(ctx)
	if err != nil {
		return err
	}
	if left > 0 {
		c.log.Warn("kafka has not taken all of the spool; the rest stays there for the next start", "batches", left,
			"spool", c.config.Spool)
		return nil
	}
	c.left = false
	return produced
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
