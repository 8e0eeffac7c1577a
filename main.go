// Command crowd takes HTTP requests off the clients' hands: see README.md.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/marceloboeira/crowd/collector"
	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/tail"
	"github.com/marceloboeira/crowd/examples/quickstart"
	"github.com/marceloboeira/crowd/replay"
	"github.com/marceloboeira/crowd/xds"
	"github.com/marceloboeira/crowd/xds/route"
	"github.com/marceloboeira/crowd/xds/route/routefile"
	"github.com/marceloboeira/crowd/xds/route/schema"
)

// version is set when building.
var version = "unknown"

const usage = `crowd answers HTTP requests inside Envoy and stores them in Kafka.

  crowd dev                  everything on this machine, to try it
  crowd collector            takes records from Envoys and produces them to Kafka
  crowd xds                  hands routes to Envoys
  crowd xds status           says which Envoy has which version, and what was rejected and why
  crowd replay               gives what is in Kafka to an HTTP API, at a pace that it can stand
  crowd routes check FILE…   says everything that is wrong with routes files
  crowd routes explain       says which route a request takes, and why
  crowd routes diff A B      says what is different for requests with B in the place of A
  crowd routes schema        prints the JSON Schema of routes files, for editors
  crowd spool dump DIR       lists what a collector that does not run has not delivered
  crowd spool verify DIR     reads all of it, and says what is wrong with it
  crowd tail TOPIC           prints what lands in a topic
  crowd version

crowd COMMAND --help lists a command's flags.
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// untilSignal returns the context of a command that ends in order when it is told to. Any other command is ended by a
// signal as any program is.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the program at once
	return ctx, stop
}

// errUsage is a command line that cannot be understood, and about which everything has been said.
var errUsage = errors.New("usage")

// errDiffers is not an error, but the status that diff(1) ends with.
var errDiffers = errors.New("differs")

// run returns the exit status: 0, 1 for what went wrong, 2 for a command line that cannot be understood. Of routes diff:
// 0 for no difference, 1 for some, 2 for what went wrong.
func run(args []string, stdout, stderr io.Writer) int {
	err := command(args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, errDiffers):
		return 1
	}
	fmt.Fprintln(stderr, "crowd:", err)
	return 1
}

func command(args []string, stdout, stderr io.Writer) error {
	name, rest := "", args
	if len(args) > 0 {
		name, rest = args[0], args[1:]
	}
	switch name {
	case "dev":
		return runDev(rest, stdout, stderr)
	case "collector":
		return runCollector(rest, stderr)
	case "xds":
		return runXDS(rest, stdout, stderr)
	case "replay":
		return runReplay(rest, stdout, stderr)
	case "routes":
		return runRoutes(rest, stdout, stderr)
	case "spool":
		return runSpool(rest, stdout, stderr)
	case "tail":
		return runTail(rest, stdout, stderr)
	case "version", "--version":
		fmt.Fprintln(stdout, "crowd", version)
		return nil
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return nil
	case "":
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	fmt.Fprintf(stderr, "crowd: there is no command %q\n\n%s", name, usage)
	return errUsage
}

// flags are one command's.
type flags struct {
	*flag.FlagSet
	stderr io.Writer
}

func newFlags(name, arguments string, stderr io.Writer) flags {
	f := flags{flag.NewFlagSet(name, flag.ContinueOnError), stderr}
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: crowd %s [flags] %s\n\n", name, arguments)
		f.PrintDefaults()
	}
	return f
}

// parse takes flags and arguments in any order and returns the arguments, of which there must be between least
// and most, which want says in words.
func (f flags) parse(args []string, least, most int, want string) ([]string, error) {
	var positional []string
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, errUsage // the flag package has said what
		}
		if f.NArg() == 0 {
			break
		}
		positional = append(positional, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(positional) < least || len(positional) > most {
		fmt.Fprintf(f.stderr, "crowd %s: want %s", f.Name(), want)
		if len(positional) > 0 {
			fmt.Fprintf(f.stderr, ", not %q", strings.Join(positional, " "))
		}
		fmt.Fprint(f.stderr, "\n\n")
		f.Usage()
		return nil, errUsage
	}
	return positional, nil
}

// list is a flag of values separated by commas, which may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	for value := range strings.SplitSeq(s, ",") {
		*l = append(*l, strings.TrimSpace(value))
	}
	return nil
}

// percent is a flag such as 10%.
type percent int

func (p *percent) String() string { return strconv.Itoa(int(*p)) + "%" }

func (p *percent) Set(s string) error {
	digits, sign := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(digits, 10, 7)
	if !sign || err != nil || n > 100 {
		return errors.New("want a whole number from 0% to 100%, such as 10%")
	}
	*p = percent(n)
	return nil
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// kafkaFlags are those of every command that talks to Kafka.
func kafkaFlags(f flags, c *kafka.Config) {
	f.Var((*list)(&c.Brokers), "kafka", "Kafka's bootstrap servers, `host:port`, separated by commas")
	f.StringVar(&c.PropertiesFile, "kafka-config", "",
		"a client properties `file` with Kafka's names (security.protocol, sasl.mechanism, …)")
}

// errNoKafka names the flag, of which package kafka knows nothing.
var errNoKafka = errors.New("no broker given: pass Kafka's bootstrap servers with --kafka host:port")

func runCollector(args []string, stderr io.Writer) error {
	f := newFlags("collector", "", stderr)
	var cfg collector.Config
	kafkaFlags(f, &cfg.Kafka)
	f.StringVar(&cfg.Listen, "listen", collector.DefaultListen, "`address` for Envoys' streams")
	f.StringVar(&cfg.Admin, "admin", collector.DefaultAdmin, "`address` for /metrics, /healthz and /readyz")
	f.StringVar(&cfg.Name, "name", "", "the collector's name in logs (default the host's)")
	f.StringVar(&cfg.Compression, "compression", "", "Kafka's compression.type: none, gzip, snappy, lz4 or zstd (default lz4)")
	f.DurationVar(&cfg.DrainTimeout, "drain-timeout", collector.DefaultDrainTimeout, "how long to wait for Kafka after SIGTERM")
	f.StringVar(&cfg.DeadLetterTopic, "dead-letter-topic", collector.DefaultDeadLetterTopic,
		"the `topic` for records that their own will never take; off: they are counted, and stay aside in the spool if there is one")
	buffer := route.Size(collector.DefaultMaxBufferBytes)
	f.TextVar(&buffer, "max-buffer-bytes", buffer, "what may be in memory without being acknowledged, for example `256MiB`; a quarter more for the spool")
	f.StringVar(&cfg.Spool, "spool", collector.DefaultSpool,
		"`directory` to keep records in until Kafka has them; off: none, and no level disk")
	spoolMax, spoolFree := route.Size(collector.DefaultSpoolMaxBytes), route.Size(collector.DefaultSpoolMinFree)
	f.TextVar(&spoolMax, "spool-max-bytes", spoolMax, "what may be in the spool, for example `10GiB`; its directory takes up to a half more")
	f.TextVar(&spoolFree, "spool-min-free", spoolFree, "what the spool leaves free on its disk, for example `1GiB`")
	if _, err := f.parse(args, 0, 0, "flags alone"); err != nil {
		return err
	}
	if len(cfg.Kafka.Brokers) == 0 {
		return errNoKafka
	}
	cfg.MaxBufferBytes, cfg.SpoolMaxBytes, cfg.SpoolMinFree = int64(buffer), int64(spoolMax), int64(spoolFree)
	c, err := collector.New(cfg, newLog(stderr, slog.LevelInfo), newRegistry())
	if err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	return c.Run(ctx)
}

func runXDS(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "status" {
		return showXDSStatus(args[1:], stdout, stderr)
	}
	f := newFlags("xds", "", stderr)
	var cfg xds.Config
	f.StringVar(&cfg.Routes, "routes", "", "the routes, a `file` or a directory of files, for all Envoys; changes are followed")
	f.StringVar(&cfg.Groups, "groups", "", "in place of --routes, the groups `file`, which says which Envoys get which routes")
	f.StringVar(&cfg.State, "state", xds.DefaultState, "`directory` to keep the last good routes in, for starts with broken ones; off: none")
	f.StringVar(&cfg.Listen, "listen", xds.DefaultListen, "`address` for Envoys")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "a PEM `file` with this server's certificate for Envoys; changes are followed (default: no TLS)")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "a PEM `file` with its key")
	f.StringVar(&cfg.TLSClientCA, "tls-client-ca", "", "a PEM `file` with those whose certificates Envoys must show (default: they need none)")
	f.Var((*list)(&cfg.TLSAllowSAN), "tls-allow-san",
		"`names` of which an Envoy's certificate must have one, DNS or URI (SPIFFE), with one * in front or at the end, separated by commas (default: any)")
	f.StringVar(&cfg.Admin, "admin", xds.DefaultAdmin, "`address` for /metrics, /healthz, /readyz and /status")
	f.StringVar(&cfg.Name, "name", "", "the server's name in its status (default the host's)")
	f.Var((*percent)(&cfg.CanaryPercent), "canary", "the `share` of connected Envoys that get a change first, for example 10% (default all at once)")
	f.DurationVar(&cfg.CanaryHold, "canary-hold", xds.DefaultCanaryHold, "how long the canaries must have done well before the others get a change")
	f.StringVar(&cfg.Filter, "filter", "", "crowd.wasm's `path` as Envoys see it")
	f.StringVar(&cfg.FilterInline, "filter-inline", "", "a crowd.wasm `file` to send to Envoys with the configuration, for trying out")
	f.StringVar(&cfg.Gateway, "gateway", "", "configure whole Envoys as gateways that listen on this `address`; without it, only the filter")
	f.StringVar(&cfg.GatewayTLSCert, "gateway-tls-cert", "", "the gateway's certificate, a PEM `path` as Envoys see it, which follow it; with --gateway")
	f.StringVar(&cfg.GatewayTLSKey, "gateway-tls-key", "", "its key, a PEM `path` in the same directory as Envoys see it")
	f.Var((*list)(&cfg.Collectors), "collector", "the collectors' `host:port` as Envoys see them, separated by commas; with --gateway")
	f.StringVar(&cfg.Upstream, "upstream", "", "`host:port` for requests that no route takes (default: 404); with --gateway")
	if _, err := f.parse(args, 0, 0, "flags alone"); err != nil {
		return err
	}
	s, err := xds.New(cfg, newLog(stderr, slog.LevelInfo), newRegistry())
	if err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	return s.Run(ctx)
}

func showXDSStatus(args []string, stdout, stderr io.Writer) error {
	f := newFlags("xds status", "", stderr)
	var servers list
	f.Var(&servers, "admin", "the servers' admin `host:port`, separated by commas (default 127.0.0.1"+xds.DefaultAdmin+")")
	asJSON := f.Bool("json", false, "what each server says, as an array")
	if _, err := f.parse(args, 0, 0, "flags alone"); err != nil {
		return err
	}
	if len(servers) == 0 {
		servers = list{"127.0.0.1" + xds.DefaultAdmin}
	}
	all, silent := []xds.Status{}, 0
	for _, server := range servers {
		status, err := xds.FetchStatus(context.Background(), server)
		if err != nil {
			fmt.Fprintln(stderr, "crowd:", err)
			silent++
			continue
		}
		all = append(all, status)
	}
	var err error
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(all)
	} else if len(all) > 0 {
		err = xds.WriteStatus(stdout, all, time.Now())
	}
	if err == nil && silent > 0 {
		err = fmt.Errorf("%d of %d servers did not answer", silent, len(servers))
	}
	return err
}

func runReplay(args []string, stdout, stderr io.Writer) error {
	f := newFlags("replay", "", stderr)
	define := func(f *flag.FlagSet, c *replay.Config) (file *string, dryRun *bool) {
		c.AddFlags(f)
		return f.String("config", "", "a `file` with the flags' names, and more; its limits are followed. Flags go first"),
			f.Bool("dry-run", false, "print what would be sent, and touch nothing")
	}
	file, dryRun := define(f.FlagSet, new(replay.Config)) // only to see whether they are right, and find the file
	if _, err := f.parse(args, 0, 0, "flags alone"); err != nil {
		return err
	}
	source := replay.Source{File: *file, Flags: func(c *replay.Config) {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		define(f, c)
		_ = f.Parse(args) // it has been right before
	}}
	cfg, err := source.Load()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	if *dryRun {
		return replay.DryRun(ctx, cfg, stdout, newLog(stderr, slog.LevelInfo))
	}
	options := replay.Options{Registry: newRegistry(), Source: source}
	if options.Terminal = replay.NewTerminal(stderr); options.Terminal != nil {
		defer options.Terminal.Close()
		stderr = options.Terminal
	}
	options.Log = newLog(stderr, slog.LevelInfo)
	r, err := replay.New(cfg, options)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

func runTail(args []string, stdout, stderr io.Writer) error {
	f := newFlags("tail", "TOPIC", stderr)
	cfg := tail.Config{Out: stdout}
	kafkaFlags(f, &cfg.Kafka)
	f.BoolVar(&cfg.FromStart, "from-start", false, "begin with the oldest record instead of the next one")
	f.BoolVar(&cfg.JSON, "json", false, "one JSON object a line")
	f.IntVar(&cfg.Count, "count", 0, "end after this many records")
	topics, err := f.parse(args, 1, 1, "one TOPIC")
	if err != nil {
		return err
	}
	if len(cfg.Kafka.Brokers) == 0 {
		return errNoKafka
	}
	cfg.Topics = topics
	ctx, stop := untilSignal()
	defer stop()
	return tail.Run(ctx, cfg)
}

func runDev(args []string, stdout, stderr io.Writer) error {
	f := newFlags("dev", "", stderr)
	cfg := quickstart.Config{Out: stdout, Log: newLog(stderr, slog.LevelWarn)}
	f.StringVar(&cfg.Listen, "listen", quickstart.DefaultListen, "the gateway's `host:port`")
	f.StringVar(&cfg.Routes, "routes", "", "a routes `file`; changes are followed (default "+quickstart.RoutesFile+", or else your own copy of it)")
	f.StringVar(&cfg.Filter, "filter", "", "crowd.wasm's `path` (default beside this program)")
	f.StringVar(&cfg.Envoy, "envoy", "", "an Envoy's `path` (default the one on PATH, or one that is installed)")
	f.Var((*list)(&cfg.Kafka), "kafka", "a real Kafka's bootstrap servers, `host:port` (default an embedded one)")
	f.IntVar(&cfg.Concurrency, "concurrency", 0, "Envoy's worker threads (default one for each CPU)")
	f.BoolVar(&cfg.Quiet, "quiet", false, "do not print records")
	if _, err := f.parse(args, 0, 0, "flags alone"); err != nil {
		return err
	}
	// Writing fails then, which ends everything in order, where the signal would end this process and so Envoy.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := untilSignal()
	defer stop()
	return quickstart.Run(ctx, cfg)
}

func runRoutes(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "check":
			return checkRoutes(args[1:], stdout, stderr)
		case "explain":
			return explainRoutes(args[1:], stdout, stderr)
		case "diff":
			return diffRoutes(args[1:], stdout, stderr)
		case "schema":
			_, err := stdout.Write(schema.JSON)
			return err
		}
	}
	fmt.Fprint(stderr, "usage: crowd routes check FILE…\n       crowd routes explain 'METHOD URL' [flags]\n"+
		"       crowd routes diff A B\n       crowd routes schema\n")
	return errUsage
}

// diffRoutes ends as diff(1) does.
func diffRoutes(args []string, stdout, stderr io.Writer) error {
	f := newFlags("routes diff", "A B", stderr)
	paths, err := f.parse(args, 2, 2, "two files or directories, A and B")
	if err != nil {
		return err
	}
	var documents []route.Config
	for _, path := range paths {
		config, err := routefile.Load(path)
		if err != nil {
			fmt.Fprintln(stderr, "crowd:", err)
			return errUsage
		}
		documents = append(documents, config)
	}
	changes := route.Diff(documents[0], documents[1])
	for _, c := range changes {
		name := "route " + c.Route + ": "
		if c.Route == "" {
			name = ""
		}
		switch c.Kind {
		case route.Added:
			fmt.Fprintf(stdout, "+ %sadded in place %s\n", name, c.After)
		case route.Removed:
			fmt.Fprintf(stdout, "- %sremoved from place %s\n", name, c.Before)
		case route.Moved:
			fmt.Fprintf(stdout, "~ %stried in place %s instead of %s\n", name, c.After, c.Before)
		default:
			fmt.Fprintf(stdout, "~ %s%s: %s → %s\n", name, c.Field, cmp.Or(c.Before, "nothing"), cmp.Or(c.After, "nothing"))
		}
	}
	if len(changes) > 0 {
		return errDiffers
	}
	return nil
}

func checkRoutes(args []string, stdout, stderr io.Writer) error {
	f := newFlags("routes check", "FILE…", stderr)
	files, err := f.parse(args, 1, math.MaxInt, "at least one FILE")
	if err != nil {
		return err
	}
	bad := 0
	for _, file := range files {
		text, err := routefile.Read(file)
		var config route.Config
		var warnings []routefile.Problem
		if err == nil {
			config, warnings, err = routefile.Check(text...)
		}
		if err != nil {
			bad++
			fmt.Fprintln(stderr, err)
			continue
		}
		for _, w := range warnings {
			fmt.Fprintf(stderr, "%v (warning)\n", w)
		}
		fmt.Fprintf(stdout, "%s: %d routes, valid\n", file, len(config.Routes))
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d files are not valid", bad, len(files))
	}
	return nil
}

func explainRoutes(args []string, stdout, stderr io.Writer) error {
	f := newFlags("routes explain", "'METHOD URL'", stderr)
	file := f.String("routes", quickstart.RoutesFile, "the routes `file`")
	var headers [][2]string
	host := ""
	f.Func("H", "a `'name: value'` header, as Envoy shows it to the filter (accept and others that come more than once are one, with commas); may be given several times", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New("want 'name: value'")
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "host" { // Envoy has it as the authority alone, as HTTP/2 does
			host = value
			return nil
		}
		headers = append(headers, [2]string{name, value})
		return nil
	})
	request, err := f.parse(args, 1, 1, "one 'METHOD URL'")
	if err != nil {
		return err
	}
	r, err := parseRequest(request[0])
	if err != nil {
		return err
	}
	r.Authority, r.Headers = cmp.Or(host, r.Authority), headers
	config, err := routefile.Load(*file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; pass the routes file with --routes", err)
	}
	if err != nil {
		return err
	}
	table, err := route.Compile(config)
	if err != nil {
		return err
	}
	if clean := route.NormalizedPath(r.Path); clean != r.Path {
		fmt.Fprintf(stdout, "note: crowd's gateway, as any Envoy with normalize_path, makes the path %s, which may match otherwise\n", clean)
	}
	who := "it"
	for _, step := range table.Explain(&r) {
		mark := " "
		if step.Matched {
			mark = "✓"
		}
		fmt.Fprintf(stdout, "%s %s: %s\n", mark, step.Route, step.Reason)
		if step.Takes() {
			return nil
		}
		if step.Matched {
			who = "what is left"
		}
	}
	fmt.Fprintf(stdout, "no route takes %s: it goes on untouched\n", who)
	return nil
}

// parseRequest reads "METHOD URL", such as clients could send it: the path is as it was given, for a client may send it so, and
// routes are compared with nothing else.
func parseRequest(s string) (route.Request, error) {
	method, target, _ := strings.Cut(strings.TrimSpace(s), " ")
	target, _, _ = strings.Cut(strings.TrimSpace(target), "#")
	scheme, rest, _ := strings.Cut(target, "://")
	authority, path := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, path = rest[:end], rest[end:]
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	base, err := url.Parse(scheme + "://" + authority)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" ||
		strings.ContainsFunc(method+path, func(r rune) bool { return r == ' ' || !unicode.IsGraphic(r) }) {
		return route.Request{}, fmt.Errorf("request %q: want a method and a URL, such as 'POST https://shop.example/leads'", s)
	}
	return route.Request{Method: method, Authority: base.Host, Path: path}, nil
}

func runSpool(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "dump":
			return dumpSpool(args[1:], stdout, stderr)
		case "verify":
			return verifySpool(args[1:], stdout, stderr)
		}
	}
	fmt.Fprint(stderr, "usage: crowd spool dump [flags] DIR\n       crowd spool verify DIR\n")
	return errUsage
}

func dumpSpool(args []string, stdout, stderr io.Writer) error {
	f := newFlags("spool dump", "DIR", stderr)
	var d collector.SpoolDump
	f.BoolVar(&d.JSON, "json", false, "one JSON object a line")
	f.BoolVar(&d.SetAside, "set-aside", false, "list what was set aside, because nothing took it or it cannot be read")
	dir, err := f.parse(args, 1, 1, "one DIR")
	if err != nil {
		return err
	}
	return collector.DumpSpool(dir[0], stdout, d, newLog(stderr, slog.LevelWarn))
}

func verifySpool(args []string, stdout, stderr io.Writer) error {
	f := newFlags("spool verify", "DIR", stderr)
	dir, err := f.parse(args, 1, 1, "one DIR")
	if err != nil {
		return err
	}
	return collector.VerifySpool(dir[0], stdout, newLog(stderr, slog.LevelWarn))
}
