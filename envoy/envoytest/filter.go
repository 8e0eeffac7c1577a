package envoytest

import (
	"bytes"
	"encoding/binary"
)

// EmptyFilter is the smallest module that Envoy takes for a filter:
//
//	(module
//	  (memory (export "memory") 1)
//	  (func (export "proxy_abi_version_0_2_1"))
//	  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024)))
func EmptyFilter() []byte {
	name := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, parts ...[]byte) []byte {
		content := bytes.Join(parts, nil)
		return append([]byte{id, byte(len(content))}, content...)
	}
	const i32, end = 0x7f, 0x0b
	return bytes.Join([][]byte{
		[]byte("\x00asm"), binary.LittleEndian.AppendUint32(nil, 1),
		section(1, []byte{2, 0x60, 0, 0, 0x60, 1, i32, 1, i32}), // types: () -> (), (i32) -> i32
		section(3, []byte{2, 0, 1}),                             // functions by type
		section(5, []byte{1, 0, 1}),                             // one memory of one page
		section(7, []byte{3}, // exports: 2 is a memory, 0 a function
			name("memory"), []byte{2, 0},
			name("proxy_abi_version_0_2_1"), []byte{0, 0},
			name("proxy_on_memory_allocate"), []byte{0, 1}),
		section(10, []byte{2, 2, 0, end, 5, 0, 0x41, 0x80, 0x08, end}), // bodies: nothing, i32.const 1024
	}, nil)
}
