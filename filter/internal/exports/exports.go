// Package exports takes from a built module what Envoy would call for nothing. The SDK exports every callback of
// proxy-wasm; Envoy calls those that it finds, for every request, whether there is anything behind them or not. And it puts
// the module's own callbacks in the place of those that the SDK has exported by the same name.
package exports

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Kept are the exports that Envoy has a use for, as the proxy-wasm ABI 0.2.1 and WASI name them.
var Kept = []string{
	"_initialize", "malloc", "memory", "proxy_abi_version_0_2_0",
	"proxy_on_vm_start", "proxy_on_configure", "proxy_on_tick", "proxy_on_queue_ready",
	"proxy_on_context_create", "proxy_on_done",
	"proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers",
	"proxy_on_grpc_receive", "proxy_on_grpc_close",
}

// ownPrefix begins the names of callbacks that replace those of the SDK, in which proxy_ stands instead.
const ownPrefix = "crowd_"

// ErrModule is wrapped by every error of Trim.
var ErrModule = errors.New("not a module of the filter")

const (
	header        = "\x00asm\x01\x00\x00\x00" // magic and version 1
	exportSection = 7
)

// Trim returns a module (WebAssembly binary format, version 1) with the exports that are Kept, and no others. It is an error
// if one of them is missing.
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

// keep returns an export section with those that are Kept.
//
//	| count | name length | name | kind 1 byte | index | name length | ... |
func keep(section []byte) ([]byte, error) {
	count, rest, ok := cutNumber(section)
	found := map[string][]byte{} // kind and index
	for range count {
		var name []byte
		if name, rest, ok = cutBytes(rest); !ok || len(rest) == 0 {
			break
		}
		what := rest
		if _, rest, ok = cutNumber(rest[1:]); !ok {
			break
		}
		found[string(name)] = what[:len(what)-len(rest)]
	}
	if !ok || len(rest) > 0 {
		return nil, fmt.Errorf("%w: its export section is malformed", ErrModule)
	}
	kept := binary.AppendUvarint(nil, uint64(len(Kept)))
	for _, name := range Kept {
		what := found[name]
		if own := found[strings.Replace(name, "proxy_", ownPrefix, 1)]; own != nil {
			what = own
		}
		if what == nil {
			return nil, fmt.Errorf("%w: it does not export %s", ErrModule, name)
		}
		kept = binary.AppendUvarint(kept, uint64(len(name)))
		kept = append(append(kept, name...), what...)
	}
	return kept, nil
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
