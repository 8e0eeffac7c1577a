package e2e

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3" // what the filter's configuration is
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// What follows serves the filter any configuration, also those that crowd's xDS server never would.

// extension is the filter as an extension of Envoy's.
func (s *stack) extension(document string) map[string]any {
	s.t.Helper()
	return map[string]any{"name": "crowd", "typed_config": filterConfig(s.t, document)}
}

// startWithFile starts an Envoy that reads the filter's configuration from a file, and returns what writes it.
func (s *stack) startWithFile() (serve func(document string)) {
	s.t.Helper()
	file, version := filepath.Join(s.t.TempDir(), "filter.json"), 0
	serve = func(document string) {
		s.t.Helper()
		extension := s.extension(document)
		extension["@type"] = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
		version++
		text, err := json.Marshal(map[string]any{"version_info": strconv.Itoa(version), "resources": []any{extension}})
		if err != nil {
			s.t.Fatal(err)
		}
		replaceFile(s.t, file, string(text))
	}
	serve(`{"routes": []}`)
	s.start(withFilter(s.t, s.bootstrap("127.0.0.1:1"), func(filter map[string]any) {
		filter["configDiscovery"].(map[string]any)["configSource"] = map[string]any{
			"pathConfigSource": map[string]any{"path": file},
		}
	}))
	return serve
}

// startWithStream does the same with an xDS server.
func (s *stack) startWithStream() (serve func(document string)) {
	s.t.Helper()
	server := &extensionServer{versions: make(chan *discoveryv3.DiscoveryResponse, 100)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	grpcServer := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, server)
	go func() { _ = grpcServer.Serve(listener) }()
	s.t.Cleanup(grpcServer.Stop)
	version := 0
	serve = func(document string) {
		s.t.Helper()
		text, err := json.Marshal(s.extension(document))
		if err != nil {
			s.t.Fatal(err)
		}
		var extension corev3.TypedExtensionConfig
		if err := protojson.Unmarshal(text, &extension); err != nil {
			s.t.Fatal(err)
		}
		packed, err := anypb.New(&extension)
		if err != nil {
			s.t.Fatal(err)
		}
		version++
		server.versions <- &discoveryv3.DiscoveryResponse{
			VersionInfo: strconv.Itoa(version), Nonce: strconv.Itoa(version), TypeUrl: resource.ExtensionConfigType,
			Resources: []*anypb.Any{packed},
		}
	}
	serve(`{"routes": []}`)
	s.start(s.bootstrap(listener.Addr().String()))
	return serve
}

// extensionServer is an xDS server that sends each version once, whatever Envoy makes of it.
type extensionServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	versions chan *discoveryv3.DiscoveryResponse
}

func (e *extensionServer) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	if _, err := stream.Recv(); err != nil { // nobody asks for anything else
		return err
	}
	for {
		select {
		case version := <-e.versions:
			if err := stream.Send(version); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}
