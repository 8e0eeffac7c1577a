// Package exports takes from a built module what Envoy would call for nothing. The SDK exports every callback of
// proxy-wasm; Envoy calls those that it finds, for every request, whether there is anything behind them or not.
package exports

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Kept are the exports that Envoy has a use for, as the proxy-wasm ABI 0.2.1 and WASI name them.
var Kept = []string{
	"_initialize", "malloc", "memory", "proxy_abi_version_0_2_0",
	"proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick",
	"proxy_on_context_create", "proxy_on_done", "proxy_on_log", "proxy_on_delete",
	"proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers",
	"proxy_on_grpc_receive", "proxy_on_grpc_close",
}

// ErrModule is wrapped by every error of Trim.
var ErrModule = errors.New("not a module of the filter")

const (
	header        = "\x00asm\x01\x00\x00\x00" // magic and version 1
	exportSection = 7
)

// Trim returns a module (WebAssembly binary format, version 1) with its exports but for those Kept. It is an error if one of
// them is missing.
//
//	| header 8 bytes | section id | length LEB128 | content | section id | ... |
func Trim(module []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(module, []byte(header))
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin as WebAssembly of version 1", ErrModule)
	}
	trimmed := append(make([]byte, 0, len(module)), header...)
	found := false
	for len(rest) > 0 {
		id := rest[0]
		content, after, ok := cutBytes(rest[1:])
		if !ok {
			return nil, fmt.Errorf("%w: section %d at byte %d is cut off", ErrModule, id, len(module)-len(rest))
		}
		if id == exportSection {
			var err error
			if content, err = keep(content); err != nil {
				return nil, err
			}
			found = true
		}
		trimmed = append(trimmed, id)
		trimmed = binary.AppendUvarint(trimmed, uint64(len(content)))
		trimmed = append(trimmed, content...)
		rest = after
	}
	if !found {
		return nil, fmt.Errorf("%w: it has no exports", ErrModule)
	}
	return trimmed, nil
}

// keep returns an export section without those that are not Kept.
//
//	| count | name length | name | kind 1 byte | index | name length | ... |
func keep(section []byte) ([]byte, error) {
	count, rest, ok := cutNumber(section)
	var kept []byte
	var names []string
	for range count {
		entry := rest
		var name []byte
		if name, rest, ok = cutBytes(rest); !ok || len(rest) == 0 {
			break
		}
		if _, rest, ok = cutNumber(rest[1:]); !ok {
			break
		}
		if slices.Contains(Kept, string(name)) {
			kept = append(kept, entry[:len(entry)-len(rest)]...)
			names = append(names, string(name))
		}
	}
	if !ok || len(rest) > 0 {
		return nil, fmt.Errorf("%w: its export section is malformed", ErrModule)
	}
	for _, name := range Kept {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%w: it does not export %s", ErrModule, name)
		}
	}
	return append(binary.AppendUvarint(nil, uint64(len(names))), kept...), nil
}

// cutNumber cuts an unsigned LEB128 off.
func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

// cutBytes cuts bytes off that stand behind their number.
func cutBytes(b []byte) (taken, rest []byte, ok bool) {
	n, rest, ok := cutNumber(b)
	if !ok || n > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}
