// Package ingest takes batches of records from uplinks over gRPC, has them stored, and acknowledges them.
//
//	         +-- routes with ack memory or disk --> Spool --> Deliver --+
//	batch ---+                                        |                 +--> Sink (Kafka)
//	         +-- routes with ack kafka ---------------|-----------------+
//	<-- ack, level disk ------------------------------+                 |
//	<-- ack, level kafka -----------------------------------------------+
//
// Without a spool all batches go to the sink. The acknowledgement is what lets an uplink forget its records, so it
// says two things and no more: stored, or refused by name. Whatever else happens, a stream that ends above all,
// acknowledges nothing; the uplink then sends its batches again somewhere. A batch that comes again is recognised by
// its number, and stored and counted once.
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
	"github.com/marceloboeira/crowd/collector/internal/spool"
	"github.com/marceloboeira/crowd/collector/internal/throttle"
	"github.com/marceloboeira/crowd/collector/record"
)

// Sink stores records; *produce.Producer is one, and describes both methods.
type Sink interface {
	Produce(b produce.Batch, done func([]produce.Refusal))
	Connected() <-chan struct{}
}

// Spool stores batches on disk until Kafka has them; *spool.Spool is one, and describes the methods.
type Spool interface {
	Append(e spool.Entry, stored func(error))
	Room() (free int64, closed []string)
	Watch(changed func())
	Left(visit func(id record.UplinkID, sequence uint64))
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
	spool    Spool // nil: there is none
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

// New returns a server that stores in sink, by way of sp, which may be nil. The caller has the spool call Deliver.
func New(c Config, sink Sink, sp Spool, log *slog.Logger, registry prometheus.Registerer) *Server {
	b := newBudget(c.MaxBufferBytes)
	s := &Server{
		name: c.Name, sink: sink, spool: sp, log: log, trouble: throttle.New(log), budget: b,
		metrics: newMetrics(registry, b, sp), ledger: newLedger(time.Now), draining: make(chan struct{}),
	}
	if sp != nil {
		sp.Left(s.ledger.restore)
		sp.Watch(b.wakeAll)
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
// it breaks the streams that are left, and returns an error if anything was not acknowledged. It is called once.
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
		if left == 0 {
			return nil
		}
		return fmt.Errorf("draining: %d bytes were not acknowledged: %w", left, context.Cause(ctx))
	}
}

// Stop breaks all streams. What was not acknowledged stays so.
func (s *Server) Stop() { s.grpc.Stop() }

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
	if s.spool == nil {
		// Not a closed window: that would shed requests, while an uplink without a stream keeps them and tries elsewhere.
		select {
		case <-s.sink.Connected():
		default:
			return status.Error(codes.Unavailable, "kafka has not been reached yet")
		}
	}
	st := newStream(s, g, hello.Uplink)
	defer st.end()
	log := s.log.With("node", hello.NodeID, "cluster", hello.NodeCluster, "uplink", fmt.Sprintf("%x", hello.Uplink))
	log.Debug("stream opened")
	err = st.run(g.Context())
	switch code := status.Code(err); code {
	case codes.OK, codes.Canceled:
		log.Debug("stream ended", "reason", code) // uplinks look for collectors that are new, and leave again
	case codes.InvalidArgument:
		s.trouble.Warn("stream broke the protocol", "node", hello.NodeID, "error", err)
	default:
		log.Info("stream ended", "error", err)
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
