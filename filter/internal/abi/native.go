//go:build !wasip1

package abi

// Host stands for the proxy in a native build, where tests set it.
type Host interface {
	OpenStream(grpcService, service, method string) (stream, status uint32)
	SendMessage(stream uint32, message []byte) (status uint32)
	CancelStream(stream uint32)
}

var host Host

// SetHost makes h answer the calls of this package.
func SetHost(h Host) { host = h }

// Receive delivers a message to a plugin context's handler, as the proxy would.
func Receive(pluginContext, stream uint32, message []byte) {
	if h := handlers[pluginContext]; h != nil {
		h.StreamMessage(stream, message)
	}
}

// CloseStream tells a plugin context's handler that a stream has ended, as the proxy would.
func CloseStream(pluginContext, stream, status uint32, message string) {
	if h := handlers[pluginContext]; h != nil {
		h.StreamClosed(stream, status, message)
	}
}

func grpcStream(grpcService, service, method string) (stream, status uint32) {
	return host.OpenStream(grpcService, service, method)
}

func grpcSend(stream uint32, message []byte) uint32 { return host.SendMessage(stream, message) }

func grpcCancel(stream uint32) { host.CancelStream(stream) }
