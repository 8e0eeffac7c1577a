package plugin

import (
	"errors"
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

// host lets an uplink use Envoy's gRPC client. A stream belongs to the plugin context that opened it, and only in
// that context's name will Envoy take its messages, whichever callback is running.
type host struct {
	link *link
}

var errEnded = errors.New("the stream has ended")

func (h *host) Open() (uplink.Stream, error) {
	owner := h.link.opener()
	var stream uint32
	h.link.vm.opening = h.link
	err := abi.As(owner.id, func() (err error) {
		stream, err = abi.OpenStream(abi.EnvoyGRPC(h.link.cluster), service, method)
		return err
	})
	stillborn := h.link.vm.stillborn
	h.link.vm.opening, h.link.vm.stillborn = nil, 0
	if err != nil {
		return 0, fmt.Errorf("cluster %s: %w", h.link.cluster, err)
	}
	if uplink.Stream(stream) != stillborn {
		h.link.owners[uplink.Stream(stream)] = owner
	}
	return uplink.Stream(stream), nil
}

func (h *host) Send(s uplink.Stream, message []byte) error {
	owner := h.link.owners[s]
	if owner == nil {
		return errEnded
	}
	return abi.As(owner.id, func() error { return abi.SendMessage(uint32(s), message) })
}

func (h *host) Cancel(s uplink.Stream) {
	owner := h.link.owners[s]
	if owner == nil {
		return
	}
	delete(h.link.owners, s)
	// An error means that the context is gone, and its streams with it.
	_ = abi.As(owner.id, func() error {
		abi.CancelStream(uint32(s))
		return nil
	})
}

func (h *host) Warn(message string) { proxywasm.LogWarn("crowd: " + message) }

func closeReason(status uint32, message string) string {
	if message == "" {
		return fmt.Sprintf("stream ended with gRPC status %d", status)
	}
	return fmt.Sprintf("stream ended with gRPC status %d: %s", status, message)
}
