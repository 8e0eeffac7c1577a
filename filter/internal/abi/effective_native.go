//go:build !wasip1

package abi

import "github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

// Become is for requests alone: a native build has one plugin context, whose calls need no name.
func Become(context uint32) error {
	if context == 0 || handlers[context] != nil {
		return nil
	}
	return proxywasm.SetEffectiveContext(context)
}

// As does something in the name of another context.
func As(context uint32, do func() error) error {
	if err := Become(context); err != nil {
		return err
	}
	return do()
}
