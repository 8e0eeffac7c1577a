package spool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/marceloboeira/crowd/collector/record"
)

// indexed is what the index says of an entry: all that start-up needs to know, so that it does not read the entries.
// It stands under the entry's key, but for the kind, and is written and deleted in the same commits:
//
//	| uplink 16 | sequence 8 | size of the entry's value 8 |
//
// Numbers are little-endian.
type indexed struct {
	uplink   record.UplinkID
	sequence uint64
	size     int64
}

const indexedSize = 16 + 8 + 8

// indexWhole is a key that is there, with no value, when every entry is in the index: spools of before there was one do not
// have it. It stands among the entries, where it is none, so that a version that knows of no index refuses the spool: what
// that would add would be in no index, and what it would delete still there.
var indexWhole = []byte{kindEntry}

// entrySize returns what an entry takes on the disk, whose value has so many bytes: with its keys, and its place in
// the index.
func entrySize(topic string, value int64) int64 {
	return value + int64(2*(keyFrame+len(topic))+indexedSize)
}

func (i indexed) append(dst []byte) []byte {
	dst = append(dst, i.uplink[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, i.sequence)
	return binary.LittleEndian.AppendUint64(dst, uint64(i.size))
}

var errIndexed = errors.New("unreadable in the index")

func parseIndexed(raw []byte) (indexed, error) {
	if len(raw) != indexedSize {
		return indexed{}, fmt.Errorf("%w: %d bytes, want %d", errIndexed, len(raw), indexedSize)
	}
	i := indexed{
		uplink:   record.UplinkID(raw),
		sequence: binary.LittleEndian.Uint64(raw[16:]),
		size:     int64(binary.LittleEndian.Uint64(raw[24:])),
	}
	if i.size < 0 {
		return indexed{}, fmt.Errorf("%w: a size of %d", errIndexed, uint64(i.size))
	}
	return i, nil
}

// hasIndex says whether every entry is in the index.
func hasIndex(db *pebble.DB) (bool, error) {
	_, closer, err := db.Get(indexWhole)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading: %w", err)
	}
	return true, closer.Close()
}

// setEntry writes an entry, and that it is there into the index.
func setEntry(b *pebble.Batch, topic string, entry id, c *content) error {
	k := key{kind: kindEntry, topic: topic, id: entry}
	op := b.SetDeferred(k.size(), c.size())
	k.append(op.Key[:0])
	c.append(op.Value[:0])
	size := len(op.Value)
	return errors.Join(op.Finish(), setIndexed(b, topic, entry, indexed{c.uplink, c.sequence, int64(size)}))
}

func setIndexed(b *pebble.Batch, topic string, entry id, i indexed) error {
	k := key{kind: kindIndex, topic: topic, id: entry}
	op := b.SetDeferred(k.size(), indexedSize)
	k.append(op.Key[:0])
	i.append(op.Value[:0])
	return op.Finish()
}

// deleteEntries deletes a topic's entries from first to last.
func deleteEntries(b *pebble.Batch, topic string, first, last id) (err error) {
	for _, kind := range []byte{kindEntry, kindIndex} {
		from := key{kind: kind, topic: topic, id: first}.append(nil)
		if first == last {
			err = errors.Join(err, b.Delete(from, nil))
		} else {
			behind := key{kind: kind, topic: topic, id: last + 1}.append(nil)
			err = errors.Join(err, b.DeleteRange(from, behind, nil))
		}
	}
	return err
}
