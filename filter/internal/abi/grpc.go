// Package abi holds the proxy-wasm host calls and callbacks for gRPC streams, which the Go SDK lacks.
//
// Signatures are those of proxy-wasm ABI 0.2.1 as Envoy implements it. In a Wasm module the calls are real; a
// native build has none, and tests give a Host instead.
package abi

import "fmt"

// Handler gets the events of the streams that a plugin context has opened. Events may come during a call of
// OpenStream, SendMessage or CancelStream.
type Handler interface {
	// StreamMessage is called for each message received; message is the handler's.
	StreamMessage(stream uint32, message []byte)
	// StreamClosed is called once, unless OpenStream failed or the handler canceled the stream.
	StreamClosed(stream uint32, status uint32, message string)
}

// handlers is keyed by plugin context: the host names that context in every callback.
var handlers = map[uint32]Handler{}

// Handle registers the handler of a plugin context; nil ends that.
func Handle(pluginContext uint32, h Handler) {
	if h == nil {
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
		return "parse failure (no such cluster?)"
	case 10:
		return "internal failure (no healthy host in the cluster?)"
	}
	return fmt.Sprintf("status %d", status)
}

// OpenStream starts a bidirectional stream of the active plugin context to a cluster.
func OpenStream(cluster, service, method string) (uint32, error) {
	stream, status := grpcStream(cluster, service, method)
	if status != 0 {
		return 0, &StatusError{"proxy_grpc_stream to cluster " + cluster, status}
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
