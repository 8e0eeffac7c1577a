package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Keys order entries by topic and, within one, by age:
//
//	| 'e' 1 | length of topic 2 | topic | id 8 |           an entry that waits for Kafka
//	| 'i' 1 | length of topic 2 | topic | id 8 |           its place in the index
//	| 'x' 1 | length of topic 2 | topic | id 8 | index 4 | a record that was set aside, or an unreadable entry
//
// Numbers are big-endian. The length in front of the topic keeps one topic's keys from lying between another's,
// whatever bytes are in their names: what is delivered is deleted by ranges.
const (
	kindEntry byte = 'e'
	kindIndex byte = 'i'
	kindAside byte = 'x'
)

const (
	maxTopic  = math.MaxUint16
	keyFrame  = 1 + 2 + 8 // a key without its topic, of an entry or its place in the index
	indexSize = 4
)

// unreadable is the index of an entry that was set aside as it is.
const unreadable = math.MaxUint32

// An id is the time at which an entry was committed, in nanoseconds since 1970, or one more than the id before it where
// that is later: ids never repeat and never fall, whatever the clock does.
type id uint64

// after returns the next id.
func (i id) after(now time.Time) id { return max(i+1, id(max(0, now.UnixNano()))) }

func (i id) time() time.Time { return time.Unix(0, int64(i)).UTC() }

// key is a parsed key. index is that of a set-aside record in its entry.
type key struct {
	kind  byte
	topic string
	id    id
	index uint32
}

func (k key) size() int {
	if k.kind == kindAside {
		return keyFrame + len(k.topic) + indexSize
	}
	return keyFrame + len(k.topic)
}

func (k key) append(dst []byte) []byte {
	dst = append(dst, k.kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(k.topic)))
	dst = append(dst, k.topic...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.id))
	if k.kind == kindAside {
		dst = binary.BigEndian.AppendUint32(dst, k.index)
	}
	return dst
}

var errKey = errors.New("not a key of a spool")

func parseKey(raw []byte) (k key, err error) {
	if len(raw) < keyFrame || raw[0] != kindEntry && raw[0] != kindIndex && raw[0] != kindAside {
		return key{}, fmt.Errorf("%w: %q", errKey, raw)
	}
	n := int(binary.BigEndian.Uint16(raw[1:]))
	k.kind = raw[0]
	if want := (key{kind: k.kind}).size() + n; len(raw) != want {
		return key{}, fmt.Errorf("%w: %q has %d bytes, want %d", errKey, raw, len(raw), want)
	}
	k.topic = string(raw[3 : 3+n])
	k.id = id(binary.BigEndian.Uint64(raw[3+n:]))
	if k.kind == kindAside {
		k.index = binary.BigEndian.Uint32(raw[3+n+8:])
	}
	return k, nil
}

// String is how people read the key.
func (k key) String() string {
	s := fmt.Sprintf("topic %q, entry %d", k.topic, k.id)
	if k.kind == kindAside {
		s += ", set aside"
		if k.index != unreadable {
			s += fmt.Sprintf(", record %d", k.index)
		}
	}
	return s
}

// bounds of everything of one kind, for iterators.
func bounds(kind byte) (lower, upper []byte) { return []byte{kind}, []byte{kind + 1} }
