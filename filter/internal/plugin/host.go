package plugin

import (
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
)

// service and method name collectpb's rpc.
const (
	service = "crowd.collector.v1.Collector"
	method  = "Collect"
)

// host lets an uplink use Envoy's gRPC client.
type host struct {
	cluster string
}

func (h *host) Open() (uplink.Stream, error) {
	stream, err := abi.OpenStream(h.cluster, service, method)
	return uplink.Stream(stream), err
}

func (h *host) Send(s uplink.Stream, message []byte) error {
	return abi.SendMessage(uint32(s), message)
}

func (h *host) Cancel(s uplink.Stream) { abi.CancelStream(uint32(s)) }

func (h *host) Warn(message string) { proxywasm.LogWarn("crowd: " + message) }

func closeReason(status uint32, message string) string {
	if message == "" {
		return fmt.Sprintf("stream ended with gRPC status %d", status)
	}
	return fmt.Sprintf("stream ended with gRPC status %d: %s", status, message)
}
