package peer

import (
	"errors"
	"io"
	"net"

	processorv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
)

func serveProcessor(l net.Listener, _ Config) error {
	s := grpc.NewServer(grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connectionWindow))
	processorv3.RegisterExternalProcessorServer(s, processor{})
	return s.Serve(l)
}

type processor struct {
	processorv3.UnimplementedExternalProcessorServer
}

// Process counts a request when it is whole. In observability mode Envoy takes no answers.
func (processor) Process(stream processorv3.ExternalProcessor_ProcessServer) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.GetRequestBody().GetEndOfStream() || m.GetRequestHeaders().GetEndOfStream() {
			counted.Add(1)
		}
	}
}
