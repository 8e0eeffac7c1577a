package abi

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

// The calls for what every request needs. The SDK has most of them, and has the host put what it gives into memory that is
// allocated for each call. These have it put into memory that is always the same, warm and no work for the garbage
// collector; what does not fit is allocated.
//
//	RequestHeaders() (raw, error)           lent until the next call of RequestHeaders or RequestBody, see ReadHeaderMap
//	RequestBody(n) (chunk, error)           lent likewise
//	Hold() bool                             what they have lent last is lent until TakeBack, if it is not the caller's
//	TakeBack()                              ends everything that is held
//	Full() bool                             reports that so much is held that the next chunk of a body may need to be allocated
//	SourceAddress() (address)               lent until its next call
//	Answer(status, headers, body) error     the host copies
//	Now() time

var errHeaderMap = errors.New("a header map that is malformed")

// AppendHeaderMap appends headers in the form in which they pass between a module and its host (proxy-wasm ABI 0.2.1):
//
//	| count uint32 | name length uint32 | value length uint32 | ... | name | 0 | value | 0 | ... |
//
// All numbers are little-endian.
func AppendHeaderMap(dst []byte, headers [][2]string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(headers)))
	for _, h := range headers {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h[0])))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h[1])))
	}
	for _, h := range headers {
		dst = append(append(dst, h[0]...), 0)
		dst = append(append(dst, h[1]...), 0)
	}
	return dst
}

// ReadHeaderMap appends what AppendHeaderMap has made to dst. Names and values point into raw.
func ReadHeaderMap(dst [][2]string, raw []byte) ([][2]string, error) {
	if len(raw) < 4 {
		return dst, errHeaderMap
	}
	count, lengths := uint64(binary.LittleEndian.Uint32(raw)), raw[4:]
	if uint64(len(lengths)) < 8*count {
		return dst, errHeaderMap
	}
	rest := lengths[8*count:]
	for ; count > 0; count-- {
		name, value := uint64(binary.LittleEndian.Uint32(lengths)), uint64(binary.LittleEndian.Uint32(lengths[4:]))
		if uint64(len(rest)) < name+1+value+1 {
			return dst, errHeaderMap
		}
		dst = append(dst, [2]string{text(rest[:name]), text(rest[name+1 : name+1+value])})
		lengths, rest = lengths[8:], rest[name+1+value+1:]
	}
	return dst, nil
}

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
