package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"github.com/marceloboeira/crowd/e2e/bench/peer"
	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/xds/route"
)

// ground is what all contestants stand on.
type ground struct {
	envoy  string // paths
	crowd  string
	filter string
	self   string
	dir    string // for what is needed while this runs; on the disk that is measured
	kafka  *kafka.Broker
	topics int // made so far
}

// system is a contestant that runs, and nothing else does beside Kafka.
type system struct {
	*ground
	in        cell
	address   string         // for requests, host:port
	processes map[string]int // their ids, by name
	// arrived returns how many records there are; nil: nothing leaves the server.
	arrived func(context.Context) (int, error)
	stops   []func() error
}

// onStop adds something to be done at the end, before what was added earlier.
func (s *system) onStop(do func() error) { s.stops = append(s.stops, do) }

func (s *system) stop() error {
	var err error
	for len(s.stops) > 0 {
		last := len(s.stops) - 1
		err = errors.Join(err, s.stops[last]())
		s.stops = s.stops[:last]
	}
	return err
}

// start starts a contestant, which the caller must stop, also when this fails.
func (g *ground) start(ctx context.Context, c contestant, in cell) (*system, error) {
	s := &system{ground: g, in: in, processes: map[string]int{}}
	return s, c.start(ctx, s)
}

// newTopic gives the system a topic of its own, which counts for it; records make it.
func (s *system) newTopic() string {
	s.topics++
	topic := fmt.Sprintf("bench-%d", s.topics)
	s.processes[kafkaProcess] = s.kafka.PID()
	s.arrived = func(ctx context.Context) (int, error) {
		n, err := s.kafka.Count(ctx, topic)
		return int(n), err
	}
	s.onStop(func() error { s.kafka.DeleteTopic(topic); return nil })
	return topic
}

// startAnswering starts an Envoy that answers by itself.
func startAnswering(ctx context.Context, s *system) error {
	bootstrap, err := answeringEnvoy("")
	if err != nil {
		return err
	}
	return s.startEnvoy(ctx, s.envoy, bootstrap)
}

// startProcessor starts an Envoy that answers by itself and has a peer count bodies.
func startProcessor(ctx context.Context, s *system) error {
	address, err := s.startPeer(ctx, peer.Processor)
	if err != nil {
		return err
	}
	bootstrap, err := answeringEnvoy(address)
	if err != nil {
		return err
	}
	return s.startEnvoy(ctx, s.envoy, bootstrap)
}

// startServer returns what starts a Go server that writes to Kafka.
func startServer(name string) func(context.Context, *system) error {
	return func(ctx context.Context, s *system) (err error) {
		s.address, err = s.startPeer(ctx, name, "-kafka", s.kafka.Addr(), "-topic", s.newTopic())
		return err
	}
}

// startPeer returns its address. Where it does not write to Kafka, it counts itself.
func (s *system) startPeer(ctx context.Context, name string, args ...string) (string, error) {
	addresses, err := s.startProcess(ctx, backProcess, regexp.MustCompile(`^listening (\S+) (\S+)$`), s.self, append([]string{peerCommand, name}, args...)...)
	if err != nil {
		return "", err
	}
	if s.arrived == nil {
		s.arrived = func(ctx context.Context) (int, error) { return peerCount(ctx, addresses[1]) }
	}
	return addresses[0], nil
}

func peerCount(ctx context.Context, address string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/vars", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, fmt.Errorf("asking a peer for its count: %w", err)
	}
	defer response.Body.Close()
	var vars struct{ Counted int }
	if err := json.NewDecoder(response.Body).Decode(&vars); err != nil {
		return 0, fmt.Errorf("reading a peer's count: %w", err)
	}
	return vars.Counted, nil
}

// startCrowd returns what starts all of crowd with a route of such a level, with a spool or without.
func startCrowd(level string, spool bool) func(context.Context, *system) error {
	return func(ctx context.Context, s *system) error {
		dir, err := os.MkdirTemp(s.dir, "spool-")
		if err != nil {
			return err
		}
		s.onStop(func() error { return os.RemoveAll(dir) })
		topic := s.newTopic()
		args := []string{"collector", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--kafka", s.kafka.Addr(), "--spool"}
		if spool {
			args = append(args, dir)
		} else {
			args = append(args, "off")
		}
		collector, err := s.startProcess(ctx, backProcess, regexp.MustCompile(`collector listening.* address=(\S+)`), s.crowd, args...)
		if err != nil {
			return err
		}
		return s.startGateway(ctx, collector[0], s.routes(topic, level, spool))
	}
}

// startSink starts crowd's gateway with a peer in the collector's place.
func startSink(ctx context.Context, s *system) error {
	address, err := s.startPeer(ctx, peer.Sink)
	if err != nil {
		return err
	}
	return s.startGateway(ctx, address, s.routes("bench", "memory", true))
}

// routes returns a routes file with one route. The buffer has its default, unless what all clients send at a time asks for
// more, as an operator would size it.
func (s *system) routes(topic, level string, spool bool) string {
	const most = 256 << 20 // that crowd allows
	buffer := min(max(int(route.DefaultMaxBufferBytes), 4*s.in.Body*s.in.Connections), most)
	collectors := route.SpoolOff
	if spool {
		collectors = route.SpoolOn
	}
	return fmt.Sprintf(`uplink: {max_buffer_bytes: %d, spool: %q}
routes: [{name: bench, match: {path: %s, methods: [POST]}, topic: %s, ack: %s, max_body: 2MiB}]
`, buffer, collectors, path, topic, level)
}

// startGateway starts crowd's xDS server and an Envoy that it configures.
func (s *system) startGateway(ctx context.Context, collector, routes string) error {
	dir, err := os.MkdirTemp(s.dir, "routes-")
	if err != nil {
		return err
	}
	s.onStop(func() error { return os.RemoveAll(dir) })
	file := filepath.Join(dir, "routes.yaml")
	if err := os.WriteFile(file, []byte(routes), 0o600); err != nil {
		return err
	}
	server, err := s.startProcess(ctx, "xds", regexp.MustCompile(`xds listening.* address=(\S+)`), s.crowd, "xds", "--routes", file, "--state", "off",
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--filter", s.filter, "--gateway", "127.0.0.1:0", "--collector", collector)
	if err != nil {
		return err
	}
	bootstrap, err := envoy.GatewayBootstrap{NodeID: "bench", XDS: server, Admin: "127.0.0.1:0"}.JSON()
	if err != nil {
		return err
	}
	return s.startEnvoy(ctx, s.envoy, bootstrap)
}
