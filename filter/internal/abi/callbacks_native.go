//go:build !wasip1

package abi

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

// Run has the SDK's emulator reach the contexts that v begins.
func Run(v types.VMContext) { proxywasm.SetVMContext(v) }

// forget ends the callbacks of a plugin context, which the SDK sees to.
func forget(uint32) {}
