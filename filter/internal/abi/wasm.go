//go:build wasip1

package abi

import "unsafe"

//go:wasmimport env proxy_grpc_stream
func proxyGrpcStream(service *byte, serviceSize int32, name *byte, nameSize int32, method *byte, methodSize int32,
	metadata *byte, metadataSize int32, token *uint32) uint32

//go:wasmimport env proxy_grpc_send
func proxyGrpcSend(token uint32, message *byte, messageSize int32, endStream int32) uint32

//go:wasmimport env proxy_grpc_cancel
func proxyGrpcCancel(token uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func proxyGetBufferBytes(buffer uint32, start, length int32, data unsafe.Pointer, size *int32) uint32

//go:wasmimport env proxy_get_status
func proxyGetStatus(code *uint32, message unsafe.Pointer, size *int32) uint32

// grpcReceiveBuffer is BufferType GrpcReceiveBuffer.
const grpcReceiveBuffer = 5

// noMetadata is an empty header map: its count, zero.
var noMetadata [4]byte

func grpcStream(grpcService, service, method string) (token, status uint32) {
	status = proxyGrpcStream(unsafe.StringData(grpcService), int32(len(grpcService)), unsafe.StringData(service),
		int32(len(service)), unsafe.StringData(method), int32(len(method)), &noMetadata[0], int32(len(noMetadata)), &token)
	return token, status
}

func grpcSend(token uint32, message []byte) uint32 {
	return proxyGrpcSend(token, unsafe.SliceData(message), int32(len(message)), 0)
}

func grpcCancel(token uint32) { proxyGrpcCancel(token) }

//go:wasmexport proxy_on_grpc_receive
func onGrpcReceive(pluginContext, token uint32, size int32) {
	defer nested()()
	h := handlers[pluginContext]
	if h == nil {
		return
	}
	var data *byte
	var length int32
	if proxyGetBufferBytes(grpcReceiveBuffer, 0, size, unsafe.Pointer(&data), &length) != 0 {
		return
	}
	h.StreamMessage(token, unsafe.Slice(data, length))
}

//go:wasmexport proxy_on_grpc_close
func onGrpcClose(pluginContext, token, status uint32) {
	defer nested()()
	h := handlers[pluginContext]
	if h == nil {
		return
	}
	var code uint32
	var data *byte
	var length int32
	message := ""
	if proxyGetStatus(&code, unsafe.Pointer(&data), &length) == 0 {
		message = unsafe.String(data, length)
	}
	h.StreamClosed(token, status, message)
}
