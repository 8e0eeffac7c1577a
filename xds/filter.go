package xds

import (
	"fmt"
	"io"
	"os"
)

// wasmMagic is how every Wasm module begins (WebAssembly Core Specification, 5.5.16).
const wasmMagic = "\x00asm"

// CheckFilter returns an error unless a file is a Wasm module: Envoys would take any other one, and answer every request
// with 500. That the module is crowd's is not checked.
func CheckFilter(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w; run `make build` to make bin/crowd.wasm", err)
	}
	defer file.Close()
	magic := make([]byte, len(wasmMagic))
	if _, err := io.ReadFull(file, magic); err != nil || string(magic) != wasmMagic {
		return fmt.Errorf("%s is not a Wasm module; run `make build` and pass bin/crowd.wasm", path)
	}
	return nil
}
