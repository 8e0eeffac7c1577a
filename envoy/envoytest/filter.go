package envoytest

import (
	"bytes"
	"encoding/binary"
)

// What WebAssembly's binary format calls things (WebAssembly Core Specification, 5).
const (
	i32         = 0x7f
	noResult    = 0x40
	unreachable = 0x00
	ifTrue      = 0x04
	localGet    = 0x20
	i32Const    = 0x41
	end         = 0x0b
)

// EmptyFilter is the smallest module that Envoy takes for a filter:
//
//	(module
//	  (memory (export "memory") 1)
//	  (func (export "proxy_abi_version_0_2_1"))
//	  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
//	  (func (export "proxy_on_context_create") (param i32 i32)))
func EmptyFilter() []byte { return filter() }

// TouchyFilter is an EmptyFilter that breaks at the first request that gets to it, whatever that is. A request's context has
// a parent, and a plugin's has none:
//
//	(func (export "proxy_on_context_create") (param i32 i32) (if (local.get 1) (then unreachable)))
func TouchyFilter() []byte { return filter(localGet, 1, ifTrue, noResult, unreachable, end) }

// filter has the given instructions in proxy_on_context_create.
func filter(onContextCreate ...byte) []byte {
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		return append([]byte{id, byte(len(content))}, content...)
	}
	body := func(instructions ...byte) []byte { // without local variables
		return append([]byte{byte(len(instructions) + 2), 0}, append(instructions, end)...)
	}
	return bytes.Join([][]byte{
		[]byte("\x00asm"), binary.LittleEndian.AppendUint32(nil, 1),
		section(1, []byte{3, 0x60, 0, 0, 0x60, 1, i32, 1, i32, 0x60, 2, i32, i32, 0}), // types: () -> (), (i32) -> i32, (i32, i32) -> ()
		section(3, []byte{3, 0, 1, 2}), // functions by type
		section(5, []byte{1, 0, 1}),    // one memory of one page
		section(7, []byte{4}, // exports: 2 is a memory, 0 a function
			name("memory"), []byte{2, 0},
			name("proxy_abi_version_0_2_1"), []byte{0, 0},
			name("proxy_on_memory_allocate"), []byte{0, 1},
			name("proxy_on_context_create"), []byte{0, 2}),
		section(10, []byte{3}, body(), body(i32Const, 0x80, 0x08), body(onContextCreate...)),
	}, nil)
}
