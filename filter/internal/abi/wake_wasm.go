//go:build wasip1

package abi

import "unsafe"

//go:wasmimport env proxy_register_shared_queue
func proxyRegisterSharedQueue(name *byte, nameSize int32, queue *uint32) uint32

//go:wasmimport env proxy_enqueue_shared_queue
func proxyEnqueueSharedQueue(queue uint32, value *byte, valueSize int32) uint32

//go:wasmimport env proxy_dequeue_shared_queue
func proxyDequeueSharedQueue(queue uint32, data unsafe.Pointer, size *int32) uint32

// bell is the shared queue by which the module wakes itself up: Envoy reports what is put into a queue to the context that
// has registered it, as a callback that it posts to that context's own worker.
var bell uint32

// Register has Wake call OnQueueReady of the plugin context in whose name this call is made, and of no other one. The queue's
// name must be the VM's alone.
func Register(queue string) error {
	if status := proxyRegisterSharedQueue(unsafe.StringData(queue), int32(len(queue)), &bell); status != 0 {
		return &StatusError{"proxy_register_shared_queue", status}
	}
	return nil
}

// Wake has the host call OnQueueReady once it has seen to what its event loop has before it, and reports whether it will.
// Envoy (DispatcherImpl::post) does so in the same iteration of the loop.
func Wake() bool { return bell != 0 && proxyEnqueueSharedQueue(bell, nil, 0) == 0 }
