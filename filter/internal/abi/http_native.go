//go:build !wasip1

package abi

import (
	"bytes"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// RequestHeaders appends the request's headers to dst.
func RequestHeaders(dst [][2]string) ([][2]string, error) {
	headers, err := proxywasm.GetHttpRequestHeaders()
	return append(dst, headers...), err
}

// RequestBody returns the chunk of n bytes that the host shows.
func RequestBody(n int) ([]byte, error) { return proxywasm.GetHttpRequestBody(0, n) }

// SourceAddress returns the attribute source.address, "" where there is none.
func SourceAddress() string {
	address, err := proxywasm.GetProperty([]string{"source", "address"})
	if err != nil {
		return ""
	}
	return string(address)
}

// Answer has the host answer the request. Headers are in AppendHeaderMap's form. The SDK's emulator keeps what it is given.
func Answer(status uint32, headers, body []byte) error {
	pairs, ok := parseHeaderMap(nil, bytes.Clone(headers))
	if !ok {
		return errHeaderMap
	}
	return proxywasm.SendHttpResponse(status, pairs, bytes.Clone(body), -1)
}

// Now is time.Now.
func Now() time.Time { return time.Now() }
