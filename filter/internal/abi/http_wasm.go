//go:build wasip1

package abi

import (
	"time"
	"unsafe"
)

//go:wasmimport env proxy_get_header_map_pairs
func proxyGetHeaderMapPairs(headerMap uint32, data unsafe.Pointer, size *int32) uint32

//go:wasmimport env proxy_get_property
func proxyGetProperty(path *byte, pathSize int32, data unsafe.Pointer, size *int32) uint32

//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(status uint32, details *byte, detailsSize int32, body *byte, bodySize int32, headers *byte,
	headersSize int32, grpcStatus int32) uint32

//go:wasmimport wasi_snapshot_preview1 clock_time_get
func clockTimeGet(clock uint32, precision uint64, nanoseconds *uint64) uint32

const (
	requestHeaders = 0  // MapType HttpRequestHeaders
	requestBody    = 0  // BufferType HttpRequestBody
	noGRPCStatus   = -1 // the answer is none to a gRPC request
	realtime       = 0  // WASI's clockid
)

const (
	// chunkBytes is more than Envoy shows of a body at a time: it reads 16 KiB from a connection.
	chunkBytes = 20 << 10
	// lendable bytes are for the requests of one iteration of the event loop. Their number is small beside that of the
	// connections, and most have much less than a chunk.
	lendable = 256 << 10
)

var (
	request [lendable]byte
	held    int // bytes of request
	last    int // and those that the last call has lent
	source  [64]byte
	lending []byte // where the host's next allocation is; nil: in memory of its own
)

// Hold keeps what RequestHeaders or RequestBody has lent last until TakeBack, and reports whether there is anything to take
// back: what did not fit is the caller's already.
func Hold() bool {
	holds := last > 0
	held, last = held+last, 0
	return holds
}

// TakeBack ends everything that is held.
func TakeBack() { held, last = 0, 0 }

// Full reports that so much is held that the next chunk of a body may need to be allocated.
func Full() bool { return held > lendable-chunkBytes }

// lent notes what a call has put into memory that Hold and TakeBack are about, if it did.
func lent(memory []byte) {
	last = 0
	if len(memory) <= lendable-held {
		last = len(memory)
	}
}

// malloc is what the host allocates with; it prefers this export to the SDK's proxy_on_memory_allocate.
//
//go:wasmexport malloc
func malloc(size uint32) unsafe.Pointer {
	memory := lending
	if int(size) > len(memory) {
		memory = make([]byte, size)
	}
	return unsafe.Pointer(unsafe.SliceData(memory))
}

// given is where the host says what it has given. Variables of a function would escape to the heap with their addresses.
var given struct {
	data *byte
	size int32
}

// taken returns what a host call has put into the memory that was lent to it. A host that has nothing to give may say
// nothing of it, and what it gave the call before is not that.
func taken() []byte {
	memory := unsafe.Slice(given.data, given.size)
	given.data, given.size, lending = nil, 0, nil
	return memory
}

// RequestHeaders returns the request's headers, pseudo-headers first, in AppendHeaderMap's form. They are lent until the next
// call of RequestHeaders or RequestBody.
func RequestHeaders() ([]byte, error) {
	lending = request[held:]
	status := proxyGetHeaderMapPairs(requestHeaders, unsafe.Pointer(&given.data), &given.size)
	raw := taken()
	lent(raw)
	if status != 0 {
		return nil, &StatusError{"proxy_get_header_map_pairs", status}
	}
	return raw, nil
}

// RequestBody returns the chunk of n bytes that the host shows, lent until the next call of RequestHeaders or RequestBody.
func RequestBody(n int) ([]byte, error) {
	lending = request[held:]
	status := proxyGetBufferBytes(requestBody, 0, int32(n), unsafe.Pointer(&given.data), &given.size)
	chunk := taken()
	lent(chunk)
	if status != 0 {
		return nil, &StatusError{"proxy_get_buffer_bytes", status}
	}
	return chunk, nil
}

// sourceAddress is the path of an attribute, its parts separated by NUL.
const sourceAddress = "source\x00address"

// SourceAddress returns the attribute source.address, "" where there is none, lent until the next call.
func SourceAddress() string {
	lending = source[:]
	status := proxyGetProperty(unsafe.StringData(sourceAddress), int32(len(sourceAddress)), unsafe.Pointer(&given.data), &given.size)
	address := taken()
	if status != 0 {
		return ""
	}
	return text(address)
}

// Answer has the host answer the request of the effective context. Headers are in AppendHeaderMap's form.
func Answer(status uint32, headers, body []byte) error {
	if s := proxySendLocalResponse(status, nil, 0, unsafe.SliceData(body), int32(len(body)), unsafe.SliceData(headers),
		int32(len(headers)), noGRPCStatus); s != 0 {
		return &StatusError{"proxy_send_local_response", s}
	}
	return nil
}

// nanoseconds is what the clock has said.
var nanoseconds uint64

// Now is time.Now without a reading of the monotonic clock, which would be a second host call.
func Now() time.Time {
	if clockTimeGet(realtime, 0, &nanoseconds) != 0 {
		return time.Now()
	}
	return time.Unix(0, int64(nanoseconds))
}
