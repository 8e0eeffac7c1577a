package record

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrWire is wrapped by every error about bytes that are not the message they should be.
var ErrWire = errors.New("malformed message")

// Field numbers of collectpb.Record.
const (
	fieldID        protowire.Number = 1
	fieldReceived  protowire.Number = 2
	fieldRoute     protowire.Number = 3
	fieldAck       protowire.Number = 4
	fieldTopic     protowire.Number = 5
	fieldKey       protowire.Number = 6
	fieldMethod    protowire.Number = 7
	fieldScheme    protowire.Number = 8
	fieldAuthority protowire.Number = 9
	fieldPath      protowire.Number = 10
	fieldSource    protowire.Number = 11
	fieldHeaders   protowire.Number = 12
	fieldTrailers  protowire.Number = 13
	fieldBody      protowire.Number = 14
	fieldMirrored  protowire.Number = 15

	fieldHeaderName  protowire.Number = 1
	fieldHeaderValue protowire.Number = 2
)

// AppendHead appends what is known of a record when a request's headers have arrived: everything but its ID, trailers
// and body.
func (r *Record) AppendHead(dst []byte) []byte {
	dst = appendTag(dst, fieldReceived, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, uint64(r.Received.UnixNano()))
	dst = appendText(dst, fieldRoute, r.Route)
	dst = appendNumber(dst, fieldAck, uint64(r.Ack))
	dst = appendText(dst, fieldTopic, r.Topic)
	if r.Key != nil {
		dst = append(appendLength(appendTag(dst, fieldKey, protowire.BytesType), len(r.Key)), r.Key...)
	}
	dst = appendText(dst, fieldMethod, r.Method)
	dst = appendText(dst, fieldScheme, r.Scheme)
	dst = appendText(dst, fieldAuthority, r.Authority)
	dst = appendText(dst, fieldPath, r.Path)
	dst = appendText(dst, fieldSource, r.Source)
	dst = appendNumber(dst, fieldMirrored, protowire.EncodeBool(r.Mirrored))
	for _, h := range r.Headers {
		dst = appendHeader(dst, fieldHeaders, h)
	}
	return dst
}

// AppendTrailer appends a trailer to what AppendHead has made.
func AppendTrailer(dst []byte, h Header) []byte { return appendHeader(dst, fieldTrailers, h) }

// shortText is what has a length of one byte, as has a Header of two such.
const shortText = 1<<6 - 4

func appendHeader(dst []byte, field protowire.Number, h Header) []byte {
	name, value := len(h.Name), len(h.Value)
	if min(name, value) > 0 && max(name, value) <= shortText {
		at := len(dst)
		dst = slices.Grow(dst, 6+name+value)[:at+6+name+value]
		b := dst[at:]
		b[0] = byte(protowire.EncodeTag(field, protowire.BytesType))
		b[1] = byte(4 + name + value)
		b[2] = byte(protowire.EncodeTag(fieldHeaderName, protowire.BytesType))
		b[3] = byte(name)
		copy(b[4:], h.Name)
		b[4+name] = byte(protowire.EncodeTag(fieldHeaderValue, protowire.BytesType))
		b[5+name] = byte(value)
		copy(b[6+name:], h.Value)
		return dst
	}
	dst = appendTag(dst, field, protowire.BytesType)
	dst = appendLength(dst, sizeText(fieldHeaderName, h.Name)+sizeText(fieldHeaderValue, h.Value))
	dst = appendText(dst, fieldHeaderName, h.Name)
	return appendText(dst, fieldHeaderValue, h.Value)
}

// Parts are a record in the pieces in which a filter has it.
type Parts struct {
	ID   ID
	Head []byte   // of AppendHead and AppendTrailer
	Body [][]byte // its concatenation is the body
}

// Parts returns the record in pieces.
func (r *Record) Parts() Parts {
	head := r.AppendHead(nil)
	for _, t := range r.Trailers {
		head = AppendTrailer(head, t)
	}
	return Parts{r.ID, head, [][]byte{r.Body}}
}

// size returns the length of the encoded record.
func (p *Parts) size() int {
	n := sizeBytes(fieldID, len(p.ID)) + len(p.Head)
	if body := total(p.Body); body > 0 {
		n += sizeBytes(fieldBody, body)
	}
	return n
}

// append appends the encoded record. The order of fields is free in protobuf; the body is the last one.
func (p *Parts) append(dst []byte) []byte {
	dst = append(appendLength(appendTag(dst, fieldID, protowire.BytesType), len(p.ID)), p.ID[:]...)
	dst = append(dst, p.Head...)
	if body := total(p.Body); body > 0 {
		dst = appendLength(appendTag(dst, fieldBody, protowire.BytesType), body)
		for _, chunk := range p.Body {
			dst = append(dst, chunk...)
		}
	}
	return dst
}

// Append appends the encoded record.
func (r *Record) Append(dst []byte) []byte {
	p := r.Parts()
	return p.append(dst)
}

// usualHeaders is how many headers most requests have at most: room for them is made at once.
const usualHeaders = 16

// Parse reads an encoded record. Its strings and slices point into raw, which must not change while the
// record is in use. Unknown fields are ignored, so that an older collector reads a newer filter's records.
func Parse(raw []byte) (Record, error) {
	r := Record{Received: time.Unix(0, 0)}
	seen := false
	err := fields(raw, func(f field) error {
		switch f.number {
		case fieldID:
			if len(f.bytes) != len(r.ID) {
				return fmt.Errorf("%w: id of %d bytes", ErrWire, len(f.bytes))
			}
			copy(r.ID[:], f.bytes)
			seen = true
		case fieldReceived:
			r.Received = time.Unix(0, int64(f.scalar))
		case fieldRoute:
			r.Route = text(f.bytes)
		case fieldAck:
			r.Ack = level(f.scalar)
		case fieldTopic:
			r.Topic = text(f.bytes)
		case fieldKey:
			r.Key = f.bytes
		case fieldMethod:
			r.Method = text(f.bytes)
		case fieldScheme:
			r.Scheme = text(f.bytes)
		case fieldAuthority:
			r.Authority = text(f.bytes)
		case fieldPath:
			r.Path = text(f.bytes)
		case fieldSource:
			r.Source = text(f.bytes)
		case fieldHeaders:
			if r.Headers == nil {
				r.Headers = make([]Header, 0, usualHeaders)
			}
			h, err := parseHeader(f.bytes)
			r.Headers = append(r.Headers, h)
			return err
		case fieldTrailers:
			h, err := parseHeader(f.bytes)
			r.Trailers = append(r.Trailers, h)
			return err
		case fieldBody:
			r.Body = f.bytes
		case fieldMirrored:
			r.Mirrored = protowire.DecodeBool(f.scalar)
		}
		return nil
	}, recordTypes)
	if err == nil && !seen {
		err = fmt.Errorf("%w: no id", ErrWire)
	}
	if err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	return r, nil
}

func parseHeader(raw []byte) (h Header, err error) {
	err = fields(raw, func(f field) error {
		switch f.number {
		case fieldHeaderName:
			h.Name = text(f.bytes)
		case fieldHeaderValue:
			h.Value = text(f.bytes)
		}
		return nil
	}, headerTypes)
	return h, err
}

// level maps an enum value to a Level. What a newer peer may invent is higher, and so includes LevelKafka.
func level(v uint64) Level {
	return Level(min(v, uint64(LevelKafka)))
}

// field is one decoded field: bytes for length-delimited ones (never nil), scalar for the others.
type field struct {
	number protowire.Number
	bytes  []byte
	scalar uint64
}

// types is the wire type of every known field of a message, indexed by field number; -1 where there is none.
type types []protowire.Type

const none protowire.Type = -1

var (
	recordTypes = types{
		none, protowire.BytesType, protowire.Fixed64Type, protowire.BytesType, protowire.VarintType,
		protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.BytesType,
		protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.BytesType, protowire.BytesType,
		protowire.VarintType,
	}
	headerTypes = types{none, protowire.BytesType, protowire.BytesType}
)

// fields calls visit for each known field of an encoded message in order, and passes over unknown ones.
func fields(raw []byte, visit func(field) error, known types) error {
	for at := 0; at < len(raw); {
		number, typ, n := protowire.ConsumeTag(raw[at:])
		if n < 0 {
			return fmt.Errorf("%w: tag at byte %d: %w", ErrWire, at, protowire.ParseError(n))
		}
		value := raw[at+n:]
		if int(number) >= len(known) || known[number] != typ {
			m := protowire.ConsumeFieldValue(number, typ, value)
			if m < 0 {
				return fmt.Errorf("%w: field %d at byte %d: %w", ErrWire, number, at, protowire.ParseError(m))
			}
			at += n + m
			continue
		}
		f := field{number: number}
		var m int
		switch typ {
		case protowire.BytesType:
			f.bytes, m = protowire.ConsumeBytes(value)
			if f.bytes == nil {
				f.bytes = []byte{}
			}
			f.bytes = f.bytes[:len(f.bytes):len(f.bytes)]
		case protowire.VarintType:
			f.scalar, m = protowire.ConsumeVarint(value)
		case protowire.Fixed64Type:
			f.scalar, m = protowire.ConsumeFixed64(value)
		default:
			panic("BUG: no message of crowd has a field of this wire type")
		}
		if m < 0 {
			return fmt.Errorf("%w: field %d at byte %d: %w", ErrWire, number, at, protowire.ParseError(m))
		}
		at += n + m
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

func sizeBytes(field protowire.Number, n int) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(n)
}

func sizeNumber(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(v)
}

func appendNumber(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(appendTag(dst, field, protowire.VarintType), v)
}

func sizeText(field protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return sizeBytes(field, len(s))
}

func appendText(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return append(appendLength(appendTag(dst, field, protowire.BytesType), len(s)), s...)
}

// appendTag appends a tag, which is one byte: every field number here is below 16.
func appendTag(dst []byte, field protowire.Number, typ protowire.Type) []byte {
	return append(dst, byte(protowire.EncodeTag(field, typ)))
}

// appendLength is protowire's AppendVarint, faster for what is short, as most of a record's fields are.
func appendLength(dst []byte, n int) []byte {
	if n < 1<<7 {
		return append(dst, byte(n))
	}
	return protowire.AppendVarint(dst, uint64(n))
}

// text views bytes as a string without copying them: whoever parses promises that they do not change.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// clampInt32 keeps a count of another process from becoming a negative int.
func clampInt32(v uint64) int {
	return int(min(v, math.MaxInt32))
}
