package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/marceloboeira/crowd/collector/record"
)

// content is what the value of a key says:
//
//	| version 1 | flags 1 | uplink 16 | sequence 8 | reason | number of records | record | record | ... | CRC 4 |
//
// reason and records are bytes behind their length; lengths and numbers are varints as protobuf has them, sequence and
// CRC are little-endian. Records are as record.Parse reads them. The CRC is CRC-32C (Castagnoli, RFC 3720, appendix
// B.4) of all that stands before it.
type content struct {
	uplink      record.UplinkID
	sequence    uint64
	redelivered bool
	reason      string // why it was set aside
	records     [][]byte
}

const (
	version         = 1
	flagRedelivered = 1 << 0

	contentHead = 1 + 1 + 16 + 8
	sumSize     = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// size returns how much append appends.
func (c *content) size() int {
	n := contentHead + varintSize(len(c.reason)) + len(c.reason) + varintSize(len(c.records)) + sumSize
	for _, r := range c.records {
		n += varintSize(len(r)) + len(r)
	}
	return n
}

func (c *content) append(dst []byte) []byte {
	start := len(dst)
	var flags byte
	if c.redelivered {
		flags |= flagRedelivered
	}
	dst = append(dst, version, flags)
	dst = append(dst, c.uplink[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, c.sequence)
	dst = binary.AppendUvarint(dst, uint64(len(c.reason)))
	dst = append(dst, c.reason...)
	dst = binary.AppendUvarint(dst, uint64(len(c.records)))
	for _, r := range c.records {
		dst = binary.AppendUvarint(dst, uint64(len(r)))
		dst = append(dst, r...)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

var errContent = errors.New("unreadable entry")

// parseContent reads what append wrote. The records point into raw.
func parseContent(raw []byte) (content, error) {
	if len(raw) < contentHead+2+sumSize {
		return content{}, fmt.Errorf("%w: %d bytes are too few", errContent, len(raw))
	}
	body := raw[:len(raw)-sumSize]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(raw[len(body):]); got != want {
		return content{}, fmt.Errorf("%w: CRC-32C is %08x and should be %08x", errContent, got, want)
	}
	if body[0] != version {
		return content{}, fmt.Errorf("%w: version %d, of which this program knows nothing", errContent, body[0])
	}
	if unknown := body[1] &^ flagRedelivered; unknown != 0 {
		return content{}, fmt.Errorf("%w: flags %#x, of which this program knows nothing", errContent, unknown)
	}
	c := content{
		redelivered: body[1]&flagRedelivered != 0,
		uplink:      record.UplinkID(body[2:18]),
		sequence:    binary.LittleEndian.Uint64(body[18:]),
	}
	rest := body[contentHead:]
	reason, rest, ok := cutBytes(rest)
	if !ok {
		return content{}, fmt.Errorf("%w: its reason is cut off", errContent)
	}
	c.reason = string(reason)
	count, n := binary.Uvarint(rest)
	if n <= 0 || count > uint64(len(rest)-n) { // a record has at least the byte of its length
		return content{}, fmt.Errorf("%w: its number of records is not possible", errContent)
	}
	rest = rest[n:]
	c.records = make([][]byte, count)
	for i := range c.records {
		if c.records[i], rest, ok = cutBytes(rest); !ok {
			return content{}, fmt.Errorf("%w: record %d is cut off", errContent, i)
		}
	}
	if len(rest) > 0 {
		return content{}, fmt.Errorf("%w: %d bytes behind its last record", errContent, len(rest))
	}
	return c, nil
}

// cutBytes takes bytes behind their length off raw.
func cutBytes(raw []byte) (b, rest []byte, ok bool) {
	size, n := binary.Uvarint(raw)
	if n <= 0 || size > uint64(len(raw)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return raw[n:end:end], raw[end:], true
}
