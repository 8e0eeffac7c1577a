// Command filter is crowd's Envoy filter. It is built as a Wasm module in WASI reactor form:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o crowd.wasm ./filter
//	go run ./filter/trim crowd.wasm
//
// Trimming is part of the build: it puts the callbacks of package abi in the place of the SDK's.
package main

import (
	"runtime/debug"

	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/plugin"
)

// A reactor module has no main: the host calls its exports after initialization.
func main() {}

// memoryLimit has Go collect garbage before there is more, in bytes: it ends with the VM, and all that this holds, where it
// gets no more, which is at 1 GiB in Envoy.
const memoryLimit = 768 << 20

func init() {
	debug.SetMemoryLimit(memoryLimit)
	abi.Run(plugin.NewVM())
}
