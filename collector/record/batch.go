package record

import (
	"encoding/binary"
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of collectpb.UplinkMessage, Hello, Batch and Answered.
const (
	fieldHello protowire.Number = 1
	fieldBatch protowire.Number = 2

	fieldHelloUplink      protowire.Number = 1
	fieldHelloNodeID      protowire.Number = 2
	fieldHelloNodeCluster protowire.Number = 3

	fieldBatchSequence    protowire.Number = 1
	fieldBatchRedelivered protowire.Number = 2
	fieldBatchAnswered    protowire.Number = 3
	fieldBatchRecords     protowire.Number = 4

	fieldAnsweredRoute protowire.Number = 1
	fieldAnsweredLevel protowire.Number = 2
	fieldAnsweredTotal protowire.Number = 3
)

// UplinkID is one incarnation of an uplink: random, new for every plugin context of every worker.
type UplinkID [16]byte

// NewUplinkID makes one from the runtime's ChaCha8 generator; crypto/rand would nearly double the module.
func NewUplinkID() UplinkID {
	var id UplinkID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// Hello opens a stream.
type Hello struct {
	Uplink      UplinkID
	NodeID      string // Envoy's node.id
	NodeCluster string // Envoy's node.cluster
}

// AppendMessage appends the UplinkMessage that carries h.
func (h *Hello) AppendMessage(dst []byte) []byte {
	n := sizeBytes(fieldHelloUplink, len(h.Uplink)) + sizeText(fieldHelloNodeID, h.NodeID) +
		sizeText(fieldHelloNodeCluster, h.NodeCluster)
	dst = protowire.AppendTag(dst, fieldHello, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(n))
	dst = protowire.AppendTag(dst, fieldHelloUplink, protowire.BytesType)
	dst = protowire.AppendBytes(dst, h.Uplink[:])
	dst = appendText(dst, fieldHelloNodeID, h.NodeID)
	return appendText(dst, fieldHelloNodeCluster, h.NodeCluster)
}

// Answered is how many requests an uplink has answered with a route's answer, since its incarnation began.
type Answered struct {
	Route string
	Level Level
	Total uint64
}

// BatchOverhead is how long an empty Batch is: room for what stands before its records and is known only when
// it is sent.
//
//	| tag 1 | length ≤ 5 | tag 1 | sequence ≤ 10 | tag 1 | redelivered 1 |  ≤ 19 bytes
const BatchOverhead = 19

// Batch is a Batch message under construction, in one piece of memory: records are encoded straight into it,
// and its head is written in front of them when it is sent.
//
//	| headroom | record | record | ... | answered | ... |
//
// The zero value is an empty batch. A batch may be sent again under the same sequence number; nothing may be
// added once it has been sent.
type Batch struct {
	buf     []byte
	records int
}

// Records returns how many records the batch holds.
func (b *Batch) Records() int { return b.records }

// Len returns the bytes that the batch occupies.
func (b *Batch) Len() int { return len(b.buf) }

// Size returns by how much Add would lengthen a batch.
func Size(r *Record, body [][]byte) int {
	return sizeBytes(fieldBatchRecords, r.size(total(body)))
}

// Add appends a record whose body is the concatenation of body; r.Body is not looked at.
func (b *Batch) Add(r *Record, body [][]byte) {
	b.grow(Size(r, body))
	n := total(body)
	b.buf = protowire.AppendTag(b.buf, fieldBatchRecords, protowire.BytesType)
	b.buf = protowire.AppendVarint(b.buf, uint64(r.size(n)))
	b.buf = r.appendHead(b.buf, n)
	for _, chunk := range body {
		b.buf = append(b.buf, chunk...)
	}
	b.records++
}

// AddAnswered appends a running total to the batch.
func (b *Batch) AddAnswered(a Answered) {
	n := sizeText(fieldAnsweredRoute, a.Route) + protowire.SizeTag(fieldAnsweredLevel) +
		protowire.SizeVarint(uint64(a.Level)) + protowire.SizeTag(fieldAnsweredTotal) + protowire.SizeVarint(a.Total)
	b.grow(sizeBytes(fieldBatchAnswered, n))
	b.buf = protowire.AppendTag(b.buf, fieldBatchAnswered, protowire.BytesType)
	b.buf = protowire.AppendVarint(b.buf, uint64(n))
	b.buf = appendText(b.buf, fieldAnsweredRoute, a.Route)
	b.buf = protowire.AppendTag(b.buf, fieldAnsweredLevel, protowire.VarintType)
	b.buf = protowire.AppendVarint(b.buf, uint64(a.Level))
	b.buf = protowire.AppendTag(b.buf, fieldAnsweredTotal, protowire.VarintType)
	b.buf = protowire.AppendVarint(b.buf, a.Total)
}

// grow makes room for n more bytes, and for the BatchOverhead in a new batch. A large record gets just what it
// needs: a VM's memory never shrinks, so nothing here may grow by doubling.
func (b *Batch) grow(n int) {
	if b.buf == nil {
		b.buf = make([]byte, BatchOverhead, max(BatchOverhead+n, firstBuffer))
		return
	}
	if need := len(b.buf) + n; need > cap(b.buf) {
		grown := make([]byte, len(b.buf), max(need, min(2*cap(b.buf), cap(b.buf)+maxGrowth)))
		copy(grown, b.buf)
		b.buf = grown
	}
}

const (
	firstBuffer = 4 << 10
	maxGrowth   = 256 << 10
)

// Message returns the UplinkMessage that carries the batch. It points into the batch and is valid until the
// next call.
func (b *Batch) Message(sequence uint64, redelivered bool) []byte {
	b.grow(0)
	var head [BatchOverhead]byte
	inner := protowire.AppendTag(head[:0], fieldBatchSequence, protowire.VarintType)
	inner = protowire.AppendVarint(inner, sequence)
	if redelivered {
		inner = protowire.AppendTag(inner, fieldBatchRedelivered, protowire.VarintType)
		inner = protowire.AppendVarint(inner, 1)
	}
	var outer [BatchOverhead]byte
	front := protowire.AppendTag(outer[:0], fieldBatch, protowire.BytesType)
	front = protowire.AppendVarint(front, uint64(len(inner)+len(b.buf)-BatchOverhead))
	start := BatchOverhead - len(front) - len(inner)
	copy(b.buf[start:], front)
	copy(b.buf[start+len(front):], inner)
	return b.buf[start:]
}

func total(chunks [][]byte) (n int) {
	for _, c := range chunks {
		n += len(c)
	}
	return n
}
