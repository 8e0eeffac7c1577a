//go:build wasip1

package abi

import (
	"unsafe"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

// Callbacks of the contexts, which the SDK has as well. It looks them up in maps, of which a request changes two twice and
// reads two six times; here those begun lately are in a table by the last bits of their ids, which Envoy counts up. Names
// begin with crowd_ where the SDK's begin with proxy_, and package exports puts these in place of those.
//
// proxy_on_log and proxy_on_delete are missing, as proxy_on_done says what they say.
//
// Only callbacks of streams may come within a host call (see nested).

var (
	vm      types.VMContext
	plugins = map[uint32]types.PluginContext{}

	latest struct { // plugin context that a request has been begun for
		id     uint32
		plugin types.PluginContext
	}

	recent [256]place
	others = map[uint32]types.HttpContext{} // that have not ended, and had to leave their places in recent
)

// place is where a request begun lately is found.
type place struct {
	id      uint32
	request types.HttpContext // nil: it has ended
}

func placeOf(id uint32) *place { return &recent[id%uint32(len(recent))] }

// Run has the host's callbacks reach the contexts that v begins.
func Run(v types.VMContext) { vm = v }

// forget ends the callbacks of a plugin context.
func forget(id uint32) {
	delete(plugins, id)
	latest.id, latest.plugin = 0, nil
}

// requestOf returns the request of a context; nil: it has ended, or belongs to a plugin context that has.
func requestOf(id uint32) types.HttpContext {
	if p := placeOf(id); id == p.id {
		return p.request
	}
	return others[id]
}

//go:wasmexport crowd_on_vm_start
func onVMStart(_ uint32, configurationSize int32) bool {
	return bool(vm.OnVMStart(int(configurationSize)))
}

//go:wasmexport crowd_on_configure
func onConfigure(id uint32, configurationSize int32) bool {
	effective = 0
	started := plugins[id].OnPluginStart(int(configurationSize))
	if !started {
		forget(id)
	}
	return bool(started)
}

//go:wasmexport crowd_on_tick
func onTick(id uint32) {
	effective = 0
	if p := plugins[id]; p != nil {
		p.OnTick()
	}
}

//go:wasmexport crowd_on_queue_ready
func onQueueReady(id, queue uint32) {
	effective = 0
	proxyDequeueSharedQueue(queue, unsafe.Pointer(&given.data), &given.size)
	if p := plugins[id]; p != nil {
		p.OnQueueReady(queue)
	}
}

//go:wasmexport crowd_on_context_create
func onContextCreate(id, parent uint32) {
	if parent == 0 {
		plugins[id] = vm.NewPluginContext(id)
		return
	}
	if parent != latest.id {
		latest.id, latest.plugin = parent, plugins[parent]
	}
	p := placeOf(id)
	if p.request != nil {
		others[p.id] = p.request
	}
	p.id, p.request = id, nil
	if latest.plugin != nil {
		p.request = latest.plugin.NewHttpContext(id)
	}
}

//go:wasmexport crowd_on_request_headers
func onRequestHeaders(id uint32, headers int32, endOfStream bool) types.Action {
	effective = 0
	if r := requestOf(id); r != nil {
		return r.OnHttpRequestHeaders(int(headers), endOfStream)
	}
	return types.ActionContinue
}

//go:wasmexport crowd_on_request_body
func onRequestBody(id uint32, size int32, endOfStream bool) types.Action {
	effective = 0
	if r := requestOf(id); r != nil {
		return r.OnHttpRequestBody(int(size), endOfStream)
	}
	return types.ActionContinue
}

//go:wasmexport crowd_on_request_trailers
func onRequestTrailers(id uint32, trailers int32) types.Action {
	effective = 0
	if r := requestOf(id); r != nil {
		return r.OnHttpRequestTrailers(int(trailers))
	}
	return types.ActionContinue
}

//go:wasmexport crowd_on_done
func onDone(id uint32) bool {
	effective = 0
	if r := requestOf(id); r != nil {
		if p := placeOf(id); id == p.id {
			p.request = nil
		} else {
			delete(others, id)
		}
		r.OnHttpStreamDone()
		return true
	}
	if p := plugins[id]; p != nil {
		return p.OnPluginDone()
	}
	return true
}
