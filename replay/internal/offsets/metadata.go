package offsets

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// MaxMetadata is the longest metadata of a commit, in bytes: the default of the brokers' offset.metadata.max.bytes.
const MaxMetadata = 4096

// Metadata is this text, whose digit is the version, and bits in unpadded URL-safe base64:
//
//	crowd2: │ offset + 1 │ not done │ done │ not done │ done │ … │ zeros to the end of the byte
//
// The offset is the one it is committed with: who brings a group's offsets to a mirror of its topics, as MirrorMaker 2
// does, gives other ones to the same text. The other fields are the lengths of spans, one after another from there on; what
// is behind the last is not done. A number n is in Elias's gamma code: as many zeros as n has binary digits behind the
// first, then n. (Peter Elias, Universal codeword sets and representations of the integers, 1975.) No compressor comes after
// it: so the size is known without encoding, and does not grow when the first span ends.
//
// "" says that nothing is done behind the committed offset.
const version = "crowd2:"

// capacity is how many bits there are room for, besides the offset, whatever that is.
const capacity = (MaxMetadata-len(version))*6/8*8 - (2*63 - 1)

// length is how many bits the length n of a span takes.
func length(n int64) int { return 2*bits.Len64(uint64(n)) - 1 }

// size is how many bits it takes to tell of done from first on. Gaps need not be told.
func size(first int64, done spans) int {
	n := 0
	for _, s := range done {
		if !s.gap {
			n += length(s.from-first) + length(s.to-s.from)
			first = s.to
		}
	}
	return n
}

// fit returns how many of told, which has no gaps, there is room for.
func fit(first int64, told spans) int {
	n := 0
	for i, s := range told {
		n += length(s.from-first) + length(s.to-s.from)
		first = s.to
		if n > capacity {
			return i
		}
	}
	return len(told)
}

func encode(first int64, told spans) string {
	if len(told) == 0 {
		return ""
	}
	var w bitWriter
	w.length(first + 1)
	for _, s := range told {
		w.length(s.from - first)
		w.length(s.to - s.from)
		first = s.to
	}
	return version + base64.RawURLEncoding.EncodeToString(w.bytes)
}

func decode(first int64, metadata string) (spans, error) {
	if metadata == "" {
		return nil, nil
	}
	if len(metadata) > MaxMetadata {
		return nil, fmt.Errorf("read offset metadata: it is %d bytes long, and should be at most %d", len(metadata), MaxMetadata)
	}
	text, ok := strings.CutPrefix(metadata, version)
	if !ok {
		return nil, fmt.Errorf("read offset metadata: it should begin with %q: something else has committed for the group, "+
			"or a newer version", version)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("read offset metadata: %w", err)
	}
	r := bitReader{bytes: raw}
	of, err := r.after(0)
	if err != nil {
		return nil, fmt.Errorf("read offset metadata: %w", err)
	}
	if of--; of != first {
		return nil, fmt.Errorf("read offset metadata: it was committed with offset %d, and something else has put it to another one "+
			"(a mirror of the group's offsets?)", of)
	}
	var done spans
	for !r.end() {
		var s span
		if s.from, err = r.after(first); err != nil {
			return nil, fmt.Errorf("read offset metadata: %w", err)
		}
		if s.to, err = r.after(s.from); err != nil {
			return nil, fmt.Errorf("read offset metadata: %w", err)
		}
		done = append(done, s)
		first = s.to
	}
	return done, nil
}

// bitWriter writes bits, the highest of a byte first.
type bitWriter struct {
	bytes []byte
	used  int // bits of the last byte, 0 to 7; 0: all of it
}

func (w *bitWriter) length(n int64) {
	for i := length(n) - 1; i >= 0; i-- {
		if w.used == 0 {
			w.bytes = append(w.bytes, 0)
		}
		w.bytes[len(w.bytes)-1] |= byte(n>>i&1) << (7 - w.used)
		w.used = (w.used + 1) % 8
	}
}

// bitReader reads what a bitWriter wrote.
type bitReader struct {
	bytes []byte
	next  int // bit
}

func (r *bitReader) bit() int64 {
	b := r.bytes[r.next/8] >> (7 - r.next%8) & 1
	r.next++
	return int64(b)
}

// end reports whether there is nothing but the zeros that fill the last byte.
func (r *bitReader) end() bool {
	left := len(r.bytes)*8 - r.next
	return left == 0 || left < 8 && r.bytes[len(r.bytes)-1]<<(8-left) == 0
}

// after reads a length, and returns the offset that it leads to.
func (r *bitReader) after(offset int64) (int64, error) {
	zeros := 0
	for left := len(r.bytes)*8 - r.next; ; zeros++ {
		if left < 2*zeros+1 {
			return 0, errors.New("it is cut off")
		}
		if r.bit() == 1 {
			break
		}
	}
	if zeros > 62 {
		return 0, errors.New("the length of a span is out of range")
	}
	n := int64(1)
	for range zeros {
		n = n<<1 | r.bit()
	}
	if n > math.MaxInt64-offset {
		return 0, errors.New("a span ends beyond all offsets")
	}
	return offset + n, nil
}
