// Command trim rewrites a built crowd.wasm without the exports that Envoy would call for nothing:
//
//	go run ./filter/trim crowd.wasm
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/marceloboeira/crowd/filter/internal/exports"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "trim:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: trim crowd.wasm")
	}
	module, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	trimmed, err := exports.Trim(module)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], trimmed, 0o644)
}
