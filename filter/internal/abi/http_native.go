//go:build !wasip1

package abi

import (
	"bytes"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// RequestHeaders returns the request's headers in AppendHeaderMap's form.
func RequestHeaders() ([]byte, error) {
	headers, err := proxywasm.GetHttpRequestHeaders()
	return AppendHeaderMap(nil, headers), err
}

// RequestBody returns the chunk of n bytes that the host shows.
func RequestBody(n int) ([]byte, error) { return proxywasm.GetHttpRequestBody(0, n) }

// Hold reports that nothing is lent.
func Hold() bool { return false }

// TakeBack does nothing.
func TakeBack() {}

// Full reports that nothing is held.
func Full() bool { return false }

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
	pairs, err := ReadHeaderMap(nil, bytes.Clone(headers))
	if err != nil {
		return err
	}
	return proxywasm.SendHttpResponse(status, pairs, bytes.Clone(body), -1)
}

// Now is time.Now.
func Now() time.Time { return time.Now() }
