// Package ingest takes batches of records from uplinks over gRPC, hands them to a sink, and acknowledges them
// when the sink has stored them.
//
// The acknowledgement is what lets an uplink forget its records, so it says two things and no more: stored in
// Kafka, or refused by name. Whatever else happens, a stream that ends above all, acknowledges nothing; the uplink
// then sends its batches again somewhere.
package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/internal/throttle"
	"github.com/marceloboeira/crowd/collector/record"
)

// Sink stores records; *produce.Producer is one, and describes both methods.
type Sink interface {
	Produce(items []produce.Item, redelivered bool, done func([]produce.Refusal))
	Connected() <-chan struct{}
}

// Config configures a Server.
type Config struct {
	// Name is how the collector calls itself towards uplinks.
	Name string
	// MaxBufferBytes bounds the batches received and not yet acknowledged, over all streams. It is exceeded by no
	// more than one message a stream.
	MaxBufferBytes int64
}

// Server is the gRPC server of a collector.
type Server struct {
	collectpb.UnimplementedCollectorServer
	name     string
	instance [16]byte // new for every start
	sink     Sink
	log      *slog.Logger
	trouble  *throttle.Logger
	metrics  *metrics
	budget   *budget
	ledger   *ledger
	grpc     *grpc.Server
	draining chan struct{} // closed when draining begins
}

// The transport's parameters.
const (
	// streamWindow and connectionWindow are HTTP/2's: what may be under way and unread, per stream and per
	// connection. gRPC widens a stream's for a message that is longer.
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
	// maxStreams is per connection. An Envoy worker has one connection, and on it a stream for each version of the
	// filter's configuration that is still in use.
	maxStreams = 1024
	// pingAfter is the silence after which the other side is asked whether it is there; pingTimeout how long it
	// may take to answer.
	pingAfter   = 30 * time.Second
	pingTimeout = 20 * time.Second
	// leastPing is how often the other side may ask. gRPC's own limit of five minutes would close the connections
	// of an Envoy that has connection_keepalive configured.
	leastPing = time.Second
)

// New returns a server that stores in sink.
func New(c Config, sink Sink, log *slog.Logger, registry prometheus.Registerer) *Server {
	b := newBudget(c.MaxBufferBytes)
	m := newMetrics(registry, b)
	s := &Server{
		name: c.Name, sink: sink, log: log, trouble: throttle.New(log), metrics: m, budget: b,
		ledger: newLedger(func(route string, level record.Level, answers uint64) {
			m.answered.WithLabelValues(m.routes.Value(route), level.String()).Add(float64(answers))
		}, time.Now),
		draining: make(chan struct{}),
	}
	_, _ = rand.Read(s.instance[:]) // never fails
	s.grpc = grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(record.MaxMessageBytes),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPing, PermitWithoutStream: true}),
	)
	collectpb.RegisterCollectorServer(s.grpc, s)
	return s
}

// Serve takes connections until Drain, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving uplinks: %w", err)
	}
	return nil
}

// Drain asks every uplink to go elsewhere, acknowledges what has been received, and ends. When ctx is done first
// it breaks the streams that are left and returns an error. It is called once.
func (s *Server) Drain(ctx context.Context) error {
	close(s.draining)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.grpc.GracefulStop()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		left := s.budget.total()
		s.grpc.Stop()
		<-ended
		return fmt.Errorf("draining: %d bytes were not acknowledged: %w", left, context.Cause(ctx))
	}
}

// Collect serves one stream; gRPC calls it.
func (s *Server) Collect(g grpc.BidiStreamingServer[collectpb.UplinkMessage, collectpb.CollectorMessage]) error {
	hello, err := s.hello(g)
	if err != nil {
		return err
	}
	if hello.Version > record.Version {
		return status.Errorf(codes.Unimplemented, "the uplink speaks version %d of the protocol, this collector %d",
			hello.Version, record.Version)
	}
	// Not a closed window: that would shed requests, while an uplink without a stream keeps them and tries elsewhere.
	select {
	case <-s.sink.Connected():
	default:
		return status.Error(codes.Unavailable, "kafka has not been reached yet")
	}
	st := newStream(s, g, hello.Uplink)
	defer st.end()
	log := s.log.With("node", hello.NodeID, "cluster", hello.NodeCluster, "uplink", fmt.Sprintf("%x", hello.Uplink))
	log.Info("stream opened")
	err = st.run(g.Context())
	log.Info("stream ended", "reason", status.Code(err))
	if status.Code(err) == codes.InvalidArgument {
		s.trouble.Warn("stream broke the protocol", "node", hello.NodeID, "error", err)
	}
	return err
}

// hello receives the first message.
func (s *Server) hello(g grpc.ServerStream) (*record.Hello, error) {
	type result struct {
		hello *record.Hello
		err   error
	}
	received := make(chan result, 1)
	go func() { // ends at the latest when Collect has returned: that cancels RecvMsg
		var f frame
		if err := g.RecvMsg(&f); err != nil {
			received <- result{err: err}
			return
		}
		m, err := record.ParseUplinkMessage(f.raw)
		if err == nil && m.Hello == nil {
			err = errors.New("the first message must be a hello")
		}
		if err != nil {
			err = status.Error(codes.InvalidArgument, err.Error())
		}
		received <- result{m.Hello, err}
	}()
	select {
	case r := <-received:
		select {
		case <-s.draining:
		default:
			return r.hello, r.err
		}
	case <-s.draining:
	case <-g.Context().Done():
		return nil, status.FromContextError(g.Context().Err()).Err()
	}
	return nil, status.Error(codes.Unavailable, "the collector is draining")
}
