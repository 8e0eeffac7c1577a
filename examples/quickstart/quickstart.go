// Package quickstart runs the whole of crowd on one machine, for `crowd dev`: an embedded Kafka unless there is a
// real one, a collector, the xDS server, and an Envoy that it configures.
package quickstart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/marceloboeira/crowd/collector"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/tail"
	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/xds"
	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
)

// DefaultListen is the gateway's address unless told otherwise.
const DefaultListen = "127.0.0.1:8080"

const (
	kafkaTimeout = 15 * time.Second
	startTimeout = time.Minute // for Envoy to have its configuration
	stopTimeout  = 30 * time.Second

	// What the spool may take of somebody's machine, and leaves.
	spoolMaxBytes = 1 << 30
	spoolMinFree  = 256 << 20
)

// Config says what to run.
type Config struct {
	// Listen is the gateway's host:port; default DefaultListen. Without a host: all interfaces.
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
	// Out takes what people should see, from several goroutines, whole lines at once. An error of it ends Run. Required.
	Out io.Writer
	// Log takes warnings. Required.
	Log *slog.Logger
}

// Run starts everything, says "ready", prints each record as it lands in Kafka and each change of the routes until ctx
// ends, and then ends everything that it started, Envoy first and drained. When ctx ends before it has said "ready", it
// returns nil. Errors are sentences that say what to do.
func Run(ctx context.Context, cfg Config) error {
	s, err := prepare(ctx, cfg)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if len(cfg.Kafka) == 0 {
		cluster, err := embeddedKafka(kafkaPort, s.topics)
		if err != nil {
			return err
		}
		defer cluster.Close()
		s.kafka.Brokers = cluster.ListenAddrs()
	}
	return s.run(ctx)
}

// services are what runs in this process; Envoy is a child of it.
type services struct {
	config Config
	listen string // the gateway's address, by IP
	filter string
	routes string
	envoy  string
	kafka  kafka.Config
	topics []string // that the routes have at first
	served *documents
}

// prepare checks what can be checked before anything runs, and finds the files that are to be run.
func prepare(ctx context.Context, cfg Config) (*services, error) {
	if cfg.Concurrency < 0 {
		return nil, fmt.Errorf("--concurrency %d: want the number of Envoy's worker threads, or 0 for one for each CPU", cfg.Concurrency)
	}
	s := &services{config: cfg, kafka: kafka.Config{Brokers: cfg.Kafka}, served: newDocuments()}
	var err error
	if s.listen, err = listenable(ctx, cmp.Or(cfg.Listen, DefaultListen)); err != nil {
		return nil, err
	}
	if s.filter, err = findFilter(cfg.Filter); err != nil {
		return nil, err
	}
	if s.routes, err = routesFile(cfg.Routes); err != nil {
		return nil, err
	}
	document, err := routefile.Load(s.routes)
	if err != nil {
		return nil, err
	}
	s.topics = document.Topics()
	s.envoy, err = envoy.Find(ctx, cfg.Envoy, "", func(msg string, args ...any) {
		fmt.Fprintln(cfg.Out, append([]any{msg}, args...)...)
	})
	return s, err
}

func (s *services) run(ctx context.Context) (err error) {
	// Not ctx: the services outlive Envoy, which has something to hand over when it ends. So they outlive the printers
	// too, which may fail on their own.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	group, serving := errgroup.WithContext(serving)
	printers, printing := errgroup.WithContext(serving)
	dir, err := os.MkdirTemp("", "crowd-spool-")
	if err != nil {
		end()
		return fmt.Errorf("a directory for the spool: %w", err)
	}
	var c *collector.Collector
	defer func() {
		end()
		for _, e := range []error{printers.Wait(), group.Wait()} {
			if !errors.Is(e, context.Canceled) {
				err = errors.Join(err, e)
			}
		}
		if c == nil || !c.Left() { // otherwise the collector has said what is there
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()

	c, err = collector.New(collector.Config{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Name: "dev", Kafka: s.kafka,
		Spool: dir, SpoolMaxBytes: spoolMaxBytes, SpoolMinFree: spoolMinFree,
	}, s.config.Log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	group.Go(func() error { return c.Run(serving) })
	x, err := xds.New(xds.Config{
		Routes: s.routes, State: xds.NoState, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Filter: s.filter,
		Gateway: s.listen, Collectors: []string{c.Addr().String()},
		Served: func(_ string, document route.Config) { s.served.add(document) },
	}, s.config.Log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	group.Go(func() error { return x.Run(serving) })
	topics := make(chan []string)
	printers.Go(func() error { return s.printChanges(printing, topics) })
	if !s.config.Quiet {
		printers.Go(func() error {
			return tail.Run(printing, tail.Config{
				Kafka: s.kafka, Topics: s.topics, More: topics, Wait: true, Out: s.config.Out,
				FromStart: len(s.config.Kafka) == 0, // the embedded one is empty: no record comes too early to be printed
			})
		})
	}

	bootstrap, err := envoy.GatewayBootstrap{NodeID: "dev", XDS: []string{x.Addr().String()}, Admin: "127.0.0.1:0"}.JSON()
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(printing, startTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	// unlessEnded passes on why the start failed, unless that was meant to end, or a service or a printer has failed,
	// which their groups say.
	unlessEnded := func(err error) error {
		if ctx.Err() != nil || printing.Err() != nil {
			return nil
		}
		return err
	}
	e, err := envoy.Start(starting, envoy.ProcessConfig{
		Path: s.envoy, Bootstrap: bootstrap, Concurrency: s.config.Concurrency, Log: os.Stderr,
	})
	if err != nil {
		return unlessEnded(err)
	}
	defer func() {
		if e.Err() != nil {
			return // it ended by itself, and whoever noticed has said so
		}
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, e.Stop(stopping))
	}()
	address, err := s.ready(starting, e, c)
	if err != nil {
		return unlessEnded(err)
	}
	if err := s.printBanner(address, e.Admin()); err != nil {
		return err
	}

	select {
	case <-ctx.Done():
	case <-printing.Done(): // or serving, with which it ends
	case <-e.Exited():
	}
	return e.Err()
}

// ready waits until a request would be answered and its record would reach Kafka.
func (s *services) ready(ctx context.Context, e *envoy.Process, c *collector.Collector) (address string, err error) {
	select {
	case <-c.Connected():
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

func (s *services) printBanner(gateway, admin string) error {
	brokers := strings.Join(s.kafka.Brokers, ",")
	banner := fmt.Sprintf(`crowd listens on http://%s
  routes   %s (changes are followed)
  Kafka    %s
  Envoy    http://%s (admin)
try
  curl -i -d '{"email":"ada@example.com"}' http://%s/leads
`, gateway, s.routes, brokers, admin, reachable(gateway))
	if len(s.topics) > 0 {
		banner += fmt.Sprintf("  %s tail %s --from-start --kafka %s\n", os.Args[0], s.topics[0], brokers)
	}
	if _, err := io.WriteString(s.config.Out, banner+"ready\n"); err != nil {
		return fmt.Errorf("printing where crowd listens: %w", err)
	}
	return nil
}

// printChanges prints a line for each change of the routes, and hands on the topics of all documents to be read, until
// ctx is done or printing fails.
func (s *services) printChanges(ctx context.Context, topics chan<- []string) error {
	for changes := 0; ; {
		served, err := s.served.next(ctx)
		if err != nil {
			return err
		}
		for _, document := range served {
			if changes++; changes > 1 { // the first is what it starts with
				if _, err := fmt.Fprintf(s.config.Out, "routes changed: %d routes\n", len(document.Routes)); err != nil {
					return fmt.Errorf("printing a change of the routes: %w", err)
				}
			}
			if s.config.Quiet {
				continue
			}
			select {
			case topics <- document.Topics():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
