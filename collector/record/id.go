package record

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// ID identifies a record: a UUID of version 7 (RFC 9562, section 5.7).
type ID [16]byte

// ErrID is returned for text or bytes that are no ID.
var ErrID = errors.New("not a record id")

// NewID makes the ID of a record received at t: 48 bits of Unix milliseconds, then 74 random bits.
//
// The randomness is the runtime's ChaCha8 generator, seeded by the host: as good against collisions as
// crypto/rand, without a host call per request. An ID is no secret.
func NewID(t time.Time) ID {
	var id ID
	binary.BigEndian.PutUint64(id[0:8], uint64(t.UnixMilli())<<16|0x7000|rand.Uint64()&0x0fff)
	binary.BigEndian.PutUint64(id[8:16], 1<<63|rand.Uint64()>>2)
	return id
}

// String returns the usual form, 36 characters in lower case.
func (id ID) String() string {
	return string(id.AppendText(make([]byte, 0, 36)))
}

// AppendText appends what String returns.
func (id ID) AppendText(dst []byte) []byte {
	const digits, length = "0123456789abcdef", 36
	at := len(dst)
	dst = slices.Grow(dst, length)[:at+length]
	text := dst[at:]
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text[0] = '-'
			text = text[1:]
		}
		text[0], text[1] = digits[b>>4], digits[b&15]
		text = text[2:]
	}
	return dst
}

// ParseID reads what String returns.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, ErrID
	}
	if _, err := hex.Decode(id[:], []byte(s[0:8]+s[9:13]+s[14:18]+s[19:23]+s[24:36])); err != nil {
		return id, ErrID
	}
	return id, nil
}
