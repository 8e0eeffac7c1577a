// Package quickstart runs the whole of crowd on one machine, for `crowd dev`: an embedded Kafka unless there is a
// real one, a collector, the xDS server, and an Envoy that it configures.
package quickstart

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sync/errgroup"

	"github.com/marceloboeira/crowd/collector"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/tail"
	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/xds"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// DefaultListen is the gateway's address unless told otherwise.
const DefaultListen = "127.0.0.1:8080"

// RoutesFile is the routes file unless told otherwise, as seen from the top of the source tree. Elsewhere a copy
// of it is used.
const RoutesFile = "examples/quickstart/routes.yaml"

//go:embed routes.yaml
var routes []byte

const (
	kafkaTimeout = 15 * time.Second
	startTimeout = time.Minute // for Envoy to have its configuration
	stopTimeout  = 30 * time.Second
	partitions   = 4 // of the embedded Kafka's topics
)

// Config says what to run.
type Config struct {
	// Listen is the gateway's host:port; default DefaultListen.
	Listen string
	// Routes is the routes file; default RoutesFile, or a copy of it where that does not exist.
	Routes string
	// Filter is crowd.wasm; default the one beside the program, or in ../lib/crowd.
	Filter string
	// Envoy is an Envoy's path; default see envoy.Find.
	Envoy string
	// Kafka are a real Kafka's bootstrap servers; default an embedded one.
	Kafka []string
	// Concurrency is the number of Envoy's workers; default one for each CPU.
	Concurrency int
	// Quiet leaves the records out.
	Quiet bool
	// Out takes what people should see. Required.
	Out io.Writer
	// Log takes warnings. Required.
	Log *slog.Logger
}

// Run starts everything, says "ready", prints each record as it lands in Kafka until ctx ends, and then ends
// everything that it started, Envoy first and drained. Errors are sentences that say what to do.
func Run(ctx context.Context, cfg Config) error {
	cfg.Listen = cmp.Or(cfg.Listen, DefaultListen)
	if err := listenable(cfg.Listen); err != nil {
		return err
	}
	filter, err := findFilter(cfg.Filter)
	if err != nil {
		return err
	}
	file, err := routesFile(cfg.Routes)
	if err != nil {
		return err
	}
	document, err := routefile.Load(file)
	if err != nil {
		return err
	}
	var topics []string
	for _, r := range document.Routes {
		topics = append(topics, r.Topic)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)

	binary, err := envoy.Find(ctx, cfg.Envoy, "", func(msg string, args ...any) {
		fmt.Fprintln(cfg.Out, append([]any{msg}, args...)...)
	})
	if err != nil {
		return err
	}
	brokers := cfg.Kafka
	if len(brokers) == 0 {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(),
			kfake.DefaultNumPartitions(partitions), kfake.SeedTopics(partitions, topics...))
		if err != nil {
			return fmt.Errorf("starting the embedded Kafka: %w", err)
		}
		defer cluster.Close()
		brokers = cluster.ListenAddrs()
	}
	s := &services{config: cfg, kafka: kafka.Config{Brokers: brokers}, topics: topics}
	return s.run(ctx, binary, filter, file)
}

// services are what runs in this process; Envoy is a child of it.
type services struct {
	config Config
	kafka  kafka.Config
	topics []string
}

func (s *services) run(ctx context.Context, binary, filter, routes string) (err error) {
	// Not ctx: the services outlive Envoy, which has something to hand over when it ends.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	group, serving := errgroup.WithContext(serving)
	defer func() {
		end()
		if e := group.Wait(); !errors.Is(e, context.Canceled) {
			err = errors.Join(err, e)
		}
	}()

	c, err := collector.New(collector.Config{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Name: "dev", Kafka: s.kafka,
	}, s.config.Log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	group.Go(func() error { return c.Run(serving) })
	x, err := xds.New(xds.Config{
		Routes: routes, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Filter: filter,
		Gateway: s.config.Listen, Collectors: []string{c.Addr().String()},
	}, s.config.Log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	group.Go(func() error { return x.Run(serving) })
	if !s.config.Quiet {
		group.Go(func() error {
			return tail.Run(serving, tail.Config{Kafka: s.kafka, Topics: s.topics, Wait: true, Out: s.config.Out})
		})
	}

	bootstrap, err := envoy.GatewayBootstrap{NodeID: "dev", XDS: x.Addr().String(), Admin: "127.0.0.1:0"}.JSON()
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(serving, startTimeout)
	defer cancel()
	stopStarting := context.AfterFunc(ctx, cancel)
	defer stopStarting()
	e, err := envoy.Start(starting, envoy.ProcessConfig{
		Path: binary, Bootstrap: bootstrap, Concurrency: s.config.Concurrency, Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, e.Stop(stopping))
	}()
	address, err := s.ready(starting, e, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil // ended while it started
		}
		return err
	}
	stopStarting()
	fmt.Fprintf(s.config.Out, `crowd listens on http://%[1]s
  routes   %[2]s (changes are followed)
  Kafka    %[3]v
  Envoy    http://%[4]s (admin)
try
  curl -i -d '{"email":"ada@example.com"}' http://%[1]s/leads
ready
`, address, routes, s.kafka.Brokers, e.Admin())

	select {
	case <-ctx.Done():
	case <-serving.Done():
		return context.Cause(serving)
	case <-e.Exited():
		return e.Err()
	}
	return nil
}

// ready waits until a request would be answered and its record would reach Kafka.
func (s *services) ready(ctx context.Context, e *envoy.Process, c *collector.Collector) (address string, err error) {
	select {
	case <-c.Ready():
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(kafkaTimeout):
		return "", fmt.Errorf("no Kafka at %v within %v: is it running, and is that the address it advertises?",
			s.kafka.Brokers, kafkaTimeout)
	}
	if err := e.Ready(ctx); err != nil {
		return "", err
	}
	return e.ListenerAddr(ctx, xds.GatewayListener)
}

// listenable tells early, and in words, what Envoy would say late.
func listenable(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; stop what uses it or choose another address with --listen host:port",
			address, errors.Unwrap(err))
	}
	return l.Close()
}

// findFilter looks where `make build` and `make install` put the module.
func findFilter(given string) (string, error) {
	if given != "" {
		return existing(given)
	}
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for crowd.wasm: %w; pass its path with --filter", err)
	}
	dir := filepath.Dir(program)
	for _, path := range []string{filepath.Join(dir, "crowd.wasm"), filepath.Join(dir, "..", "lib", "crowd", "crowd.wasm")} {
		if found, err := existing(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("there is no crowd.wasm beside %s: run `make build`, or pass its path with --filter", program)
}

// existing returns a file's absolute path, for Envoy may run elsewhere.
func existing(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// routesFile returns the path of the routes file. The copy stays, so that it can be edited.
func routesFile(given string) (string, error) {
	if given != "" {
		return existing(given)
	}
	if found, err := existing(RoutesFile); err == nil {
		return found, nil
	}
	dir, err := os.MkdirTemp("", "crowd-dev-")
	if err != nil {
		return "", fmt.Errorf("making a routes file: %w", err)
	}
	path := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(path, routes, 0o600); err != nil {
		return "", fmt.Errorf("making a routes file: %w", err)
	}
	return path, nil
}
