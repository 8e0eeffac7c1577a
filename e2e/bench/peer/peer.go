// Package peer has the small servers that crowd is measured with and against. Each runs as a process of its own, so that
// what it uses can be told apart.
package peer

import (
	"expvar"
	"fmt"
	"io"
	"net"
	"net/http"
)

// The peers, by name.
const (
	// Sink is in a collector's place: it acknowledges everything at once and counts records.
	Sink = "sink"
	// Processor is in ext_proc's: it counts bodies.
	Processor = "processor"
	// Async answers POSTs when sarama has taken them over, without knowing what becomes of them.
	Async = "async"
	// Sync answers POSTs when Kafka has acknowledged them.
	Sync = "sync"
)

// HTTP/2's windows of the peers that speak gRPC, which are a collector's.
const (
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

// counted is what a peer has got: whole records or bodies.
var counted = expvar.NewInt("counted")

// Config says where a peer finds what it needs.
type Config struct {
	Kafka string // host:port; of Async and Sync
	Topic string
}

// Run serves as the named peer until the process ends. On out it says where: a line with the addresses of the server and of
// /debug/vars, which has "counted".
func Run(name string, c Config, out io.Writer) error {
	serve, ok := map[string]func(net.Listener, Config) error{
		Sink: serveSink, Processor: serveProcessor, Async: serveAsync, Sync: serveSync,
	}[name]
	if !ok {
		return fmt.Errorf("there is no peer %q", name)
	}
	var listeners []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		listeners = append(listeners, l)
	}
	failed := make(chan error, len(listeners))
	go func() { failed <- serve(listeners[0], c) }()
	go func() { failed <- http.Serve(listeners[1], http.DefaultServeMux) }()
	if _, err := fmt.Fprintf(out, "listening %s %s\n", listeners[0].Addr(), listeners[1].Addr()); err != nil {
		return err
	}
	return <-failed
}
