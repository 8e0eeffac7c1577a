package xds

import (
	"bytes"
	"fmt"
	"os"
)

// wasmMagic is how every Wasm module begins (WebAssembly Core Specification, 5.5.16).
const wasmMagic = "\x00asm"

// readFilter returns a crowd.wasm. Any other file would be taken by Envoys, and make them answer every request with 500.
func readFilter(path string) ([]byte, error) {
	code, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--filter-inline: %w; run `make build` to make bin/crowd.wasm", err)
	}
	if !bytes.HasPrefix(code, []byte(wasmMagic)) {
		return nil, fmt.Errorf("--filter-inline: %s is not a Wasm module; run `make build` and pass bin/crowd.wasm", path)
	}
	return code, nil
}
