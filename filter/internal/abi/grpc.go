// Package abi holds the proxy-wasm host calls and callbacks that the Go SDK lacks, which are those for gRPC streams, and
// those that every request needs.
//
// Signatures are those of proxy-wasm ABI 0.2.1 as Envoy implements it. In a Wasm module the calls are real; a
// native build has none, and tests give a Host instead.
package abi

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Handler gets the events of the streams that a plugin context has opened. Events may come during a call of
// OpenStream (for a stream that nobody knows yet) or SendMessage.
type Handler interface {
	// StreamMessage is called for each message received; message is the handler's.
	StreamMessage(stream uint32, message []byte)
	// StreamClosed is called once, unless the handler canceled the stream.
	StreamClosed(stream uint32, status uint32, message string)
}

// handlers is keyed by plugin context: the host names that context in every callback.
var handlers = map[uint32]Handler{}

// Handle registers the handler of a plugin context; nil ends that, and all its callbacks.
func Handle(pluginContext uint32, h Handler) {
	if h == nil {
		forget(pluginContext)
		delete(handlers, pluginContext)
		return
	}
	handlers[pluginContext] = h
}

// StatusError is a host call's refusal: a proxy-wasm status (WasmResult) other than OK.
type StatusError struct {
	Call   string
	Status uint32
}

// Error names the call and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %s", e.Call, statusName(e.Status))
}

// statusName spells the statuses that gRPC calls return (WasmResult of proxy-wasm ABI 0.2.1).
func statusName(status uint32) string {
	switch status {
	case 1:
		return "not found"
	case 2:
		return "bad argument"
	case 4:
		return "parse failure"
	case 10:
		return "internal failure (no such cluster, or no healthy host in it?)"
	}
	return fmt.Sprintf("status %d", status)
}

// EnvoyGRPC returns the service that OpenStream takes for a cluster: a serialized envoy.config.core.v3.GrpcService
// with an envoy_grpc. Envoy also takes the bare name of a cluster, but only after it has tried to read it as such a
// message, and some names ("ingestion") are one, without a target, on which Envoy aborts.
func EnvoyGRPC(cluster string) string {
	envoyGRPC := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), cluster)
	return string(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), envoyGRPC))
}

// OpenStream starts a bidirectional stream of the effective plugin context to a service (see EnvoyGRPC).
func OpenStream(grpcService, service, method string) (uint32, error) {
	stream, status := grpcStream(grpcService, service, method)
	if status != 0 {
		return 0, &StatusError{"proxy_grpc_stream", status}
	}
	return stream, nil
}

// SendMessage writes a message, which the host copies.
func SendMessage(stream uint32, message []byte) error {
	if status := grpcSend(stream, message); status != 0 {
		return &StatusError{"proxy_grpc_send", status}
	}
	return nil
}

// CancelStream resets a stream; no StreamClosed follows. A stream that is gone already is no error.
func CancelStream(stream uint32) { grpcCancel(stream) }
