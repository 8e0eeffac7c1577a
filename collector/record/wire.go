package record

import (
	"errors"
	"fmt"
	"math"
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

func appendHeader(dst []byte, field protowire.Number, h Header) []byte {
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

// How many headers a Parser makes room for at once: at first what most requests have at most, then up to what makes
// 16 KiB, as long as there are more.
const (
	usualHeaders = 16
	mostHeaders  = 512
)

// Parser reads encoded records. Headers of those that it reads one after the other lie in the same memory, which is
// there for as long as any of them is in use: a Parser is for records that live equally long, as those of a batch. The
// zero value is ready.
type Parser struct {
	headers []Header // room for those of the next record
	room    int      // that was made last
}

// Parse reads an encoded record. Its strings and slices point into raw, which must not change while the
// record is in use. Unknown fields are ignored, so that an older collector reads a newer filter's records.
func Parse(raw []byte) (Record, error) {
	var p Parser
	var r Record
	err := p.Parse(raw, &r)
	return r, err
}

// Parse reads an encoded record into r, as the function Parse does. After an error r is empty.
func (p *Parser) Parse(raw []byte, r *Record) error {
	*r = Record{Received: time.Unix(0, 0)}
	seen, headers := false, p.headers[:0]
	var err error
	s := scanner{raw: raw, known: recordTypes}
	for err == nil && s.next() {
		switch s.number {
		case fieldID:
			if len(s.bytes) != len(r.ID) {
				err = fmt.Errorf("%w: id of %d bytes", ErrWire, len(s.bytes))
			}
			copy(r.ID[:], s.bytes)
			seen = true
		case fieldReceived:
			r.Received = time.Unix(0, int64(s.scalar))
		case fieldRoute:
			r.Route = text(s.bytes)
		case fieldAck:
			r.Ack = level(s.scalar)
		case fieldTopic:
			r.Topic = text(s.bytes)
		case fieldKey:
			r.Key = s.bytes
		case fieldMethod:
			r.Method = text(s.bytes)
		case fieldScheme:
			r.Scheme = text(s.bytes)
		case fieldAuthority:
			r.Authority = text(s.bytes)
		case fieldPath:
			r.Path = text(s.bytes)
		case fieldSource:
			r.Source = text(s.bytes)
		case fieldHeaders:
			if len(headers) == cap(headers) {
				headers = p.grow(headers)
			}
			headers = headers[:len(headers)+1]
			err = parseHeader(s.bytes, &headers[len(headers)-1])
		case fieldTrailers:
			r.Trailers = append(r.Trailers, Header{})
			err = parseHeader(s.bytes, &r.Trailers[len(r.Trailers)-1])
		case fieldBody:
			r.Body = s.bytes
		case fieldMirrored:
			r.Mirrored = protowire.DecodeBool(s.scalar)
		}
	}
	switch {
	case err != nil:
	case s.err != nil:
		err = s.err
	case !seen:
		err = fmt.Errorf("%w: no id", ErrWire)
	}
	if err != nil {
		*r = Record{}
		return fmt.Errorf("record: %w", err)
	}
	if n := len(headers); n > 0 {
		r.Headers = headers[:n:n]
		p.headers = headers[n:]
	}
	return nil
}

// grow moves the headers of the record that is being read to where there is room for more.
func (p *Parser) grow(headers []Header) []Header {
	p.room = min(max(2*p.room, usualHeaders), mostHeaders)
	return append(make([]Header, 0, max(p.room, 2*len(headers))), headers...)
}

func parseHeader(raw []byte, h *Header) error {
	*h = Header{}
	s := scanner{raw: raw, known: headerTypes}
	for s.next() {
		switch s.number {
		case fieldHeaderName:
			h.Name = text(s.bytes)
		case fieldHeaderValue:
			h.Value = text(s.bytes)
		}
	}
	return s.err
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

// scanner goes over the known fields of an encoded message in order, and passes over unknown ones.
type scanner struct {
	raw   []byte
	known types
	at    int
	err   error
	field // the present one
}

// next goes to the next field; there is none after false, or what comes cannot be read, which err says.
func (s *scanner) next() bool {
	for s.at < len(s.raw) {
		number, typ, n := consumeTag(s.raw[s.at:])
		if n < 0 {
			s.err = fmt.Errorf("%w: tag at byte %d: %w", ErrWire, s.at, protowire.ParseError(n))
			return false
		}
		value := s.raw[s.at+n:]
		known := int(number) < len(s.known) && s.known[number] == typ
		var m int
		switch {
		case !known:
			m = protowire.ConsumeFieldValue(number, typ, value)
		case typ == protowire.BytesType:
			s.bytes, m = consumeBytes(value)
		case typ == protowire.VarintType:
			s.scalar, m = protowire.ConsumeVarint(value)
		case typ == protowire.Fixed64Type:
			s.scalar, m = protowire.ConsumeFixed64(value)
		default:
			panic("BUG: no message of crowd has a field of this wire type")
		}
		if m < 0 {
			s.err = fmt.Errorf("%w: field %d at byte %d: %w", ErrWire, number, s.at, protowire.ParseError(m))
			return false
		}
		s.at += n + m
		if known {
			s.number = number
			return true
		}
	}
	return false
}

// fields calls visit for each known field of an encoded message in order.
func fields(raw []byte, visit func(field) error, known types) error {
	s := scanner{raw: raw, known: known}
	for s.next() {
		if err := visit(s.field); err != nil {
			return err
		}
	}
	return s.err
}

// consumeTag is protowire's, but faster for the tags of one byte that all fields of crowd have.
func consumeTag(raw []byte) (number protowire.Number, typ protowire.Type, n int) {
	if b := raw[0]; b>>3 > 0 && b < 0x80 {
		return protowire.Number(b >> 3), protowire.Type(b & 7), 1
	}
	return protowire.ConsumeTag(raw)
}

// consumeBytes is protowire's, but faster for what is short, and never returns nil.
func consumeBytes(raw []byte) (b []byte, n int) {
	if len(raw) > 0 && raw[0] < 0x80 {
		if n = 1 + int(raw[0]); n <= len(raw) {
			return raw[1:n:n], n
		}
	}
	if b, n = protowire.ConsumeBytes(raw); b == nil {
		b = []byte{}
	}
	return b[:len(b):len(b)], n
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
