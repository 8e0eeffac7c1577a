// Command bench measures crowd beside what else takes HTTP requests off clients' hands: real Envoys, a real Kafka, and small
// servers in Go. `make bench` builds what it needs and runs it.
//
// Contestants run one at a time, for a few seconds each, in rounds, so that whatever else happens on the machine happens to
// all of them. It writes a table, all measurements and a plot, and fails where a request was answered whose record,
// promised by that answer, did not arrive.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/marceloboeira/crowd/e2e/bench/peer"
	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// version is set by the linker.
var version = "unknown"

// peerCommand is the first argument of a run of this program as a peer.
const peerCommand = "peer"

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 && args[0] == peerCommand {
		f := flag.NewFlagSet(peerCommand, flag.ContinueOnError)
		var c peer.Config
		f.StringVar(&c.Kafka, "kafka", "", "`host:port`")
		f.StringVar(&c.Topic, "topic", "", "where records go")
		if err := f.Parse(args[2:]); err != nil {
			return err
		}
		return peer.Run(args[1], c, os.Stdout)
	}
	o := options{bodies: numbers{512}, connections: numbers{64}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Var(&o.bodies, "bodies", "the bodies' `bytes`, separated by commas")
	f.Var(&o.connections, "connections", "how many clients there are at a time: `numbers`, separated by commas")
	f.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	f.DurationVar(&o.duration, "duration", 4*time.Second, "how long a contestant is measured in each round")
	only := f.String("only", "", "the contestants' `names`, separated by commas: "+strings.Join(names(contestants), ", ")+" (default all)")
	f.StringVar(&o.out, "out", "bin/bench", "the `directory` for bench.md, bench.json and bench.svg")
	f.StringVar(&o.build, "build", "bin", "the `directory` with crowd and crowd.wasm; data of Kafka and spools are below it while this runs")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.contestants = contestants
	if *only != "" {
		o.contestants = nil
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.Index(names(contestants), name)
			if i < 0 {
				return fmt.Errorf("there is no contestant %q", name)
			}
			o.contestants = append(o.contestants, contestants[i])
		}
	}
	if f.NArg() > 0 || o.rounds < 1 || o.duration <= 0 {
		return errors.New("want flags alone, and at least one round of some duration")
	}
	if slices.Contains(o.connections, 0) {
		return errors.New("-connections: want at least one at a time")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runtime.GOMAXPROCS(1) // this process is the load: on one thread it takes least from the contestants
	h := &host{ctx: ctx}
	return h.run(func() error { return o.run(ctx, h) })
}

func names(all []contestant) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	return names
}

// numbers is a flag of whole numbers, separated by commas.
type numbers []int

func (n *numbers) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*n)), " ", ","), "[]")
}

func (n *numbers) Set(s string) error {
	*n = nil
	for text := range strings.SplitSeq(s, ",") {
		number, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		*n = append(*n, int(number))
	}
	return nil
}

type options struct {
	bodies, connections numbers
	rounds              int
	duration            time.Duration
	contestants         []contestant
	out, build          string
}

func (o options) run(ctx context.Context, h *host) error {
	g, err := o.ground(ctx, h)
	if err != nil {
		return err
	}
	if err := g.warmKafka(ctx); err != nil {
		return fmt.Errorf("warming up Kafka: %w", err)
	}
	report := newReport(o)
	for round := range o.rounds {
		for _, body := range o.bodies {
			for _, connections := range o.connections {
				for i := range o.contestants {
					c := o.contestants[(i+round)%len(o.contestants)] // nobody always comes after the same
					m, err := g.measure(ctx, c, cell{body, connections}, o.duration)
					m.Round = round
					if err != nil {
						return fmt.Errorf("round %d, %s: %w", round, c.name, err)
					}
					report.Measurements = append(report.Measurements, m)
					fmt.Fprintf(os.Stderr, "round %d: %7d bytes, %3d connections: %-15s %8.0f/s, p99 %7.2f ms, %6.1f µs\n",
						round, body, connections, c.name, m.Rate, m.P99, m.server())
				}
			}
		}
	}
	return report.write(o.out, os.Stdout)
}

// ground starts Kafka and finds the rest.
func (o options) ground(ctx context.Context, h *host) (*ground, error) {
	g := &ground{crowd: filepath.Join(o.build, "crowd"), filter: filepath.Join(o.build, "crowd.wasm")}
	for _, file := range []*string{&g.crowd, &g.filter} {
		absolute, err := filepath.Abs(*file)
		if err == nil {
			_, err = os.Stat(absolute)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: run `make build` first", err)
		}
		*file = absolute
	}
	var err error
	if g.self, err = os.Executable(); err != nil {
		return nil, err
	}
	g.envoy, err = envoy.Find(ctx, os.Getenv("CROWD_ENVOY"), "", func(message string, args ...any) {
		fmt.Fprintln(os.Stderr, append([]any{message}, args...)...)
	})
	if err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp(o.build, "bench-"); err != nil {
		return nil, err
	}
	h.Cleanup(func() { _ = os.RemoveAll(g.dir) })
	data := filepath.Join(g.dir, "kafka")
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	g.kafka = kafka.Start(h, kafka.Config{Dir: data, Properties: map[string]string{
		"message.max.bytes": "4194304", "log.segment.delete.delay.ms": "0",
	}})
	return g, nil
}
