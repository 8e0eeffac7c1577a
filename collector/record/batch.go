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
	fieldHelloVersion     protowire.Number = 4

	fieldBatchSequence    protowire.Number = 1
	fieldBatchRedelivered protowire.Number = 2
	fieldBatchAnswered    protowire.Number = 3
	fieldBatchRecords     protowire.Number = 4
	fieldBatchSettled     protowire.Number = 5

	fieldAnsweredRoute   protowire.Number = 1
	fieldAnsweredLevel   protowire.Number = 2
	fieldAnsweredAnswers protowire.Number = 3
)

// UplinkID is one incarnation of an uplink: random, new for every VM (one for each worker), filter in it and cluster
// of collectors.
type UplinkID [16]byte

// NewUplinkID makes one from the runtime's ChaCha8 generator; crypto/rand would nearly double the module.
func NewUplinkID() UplinkID {
	var id UplinkID
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// Version is the version of the stream's protocol.
const Version = 1

// Hello opens a stream.
type Hello struct {
	Uplink      UplinkID
	NodeID      string // Envoy's node.id
	NodeCluster string // Envoy's node.cluster
	Version     uint32 // that the uplink speaks
}

// AppendMessage appends the UplinkMessage that carries h.
func (h *Hello) AppendMessage(dst []byte) []byte {
	n := sizeBytes(fieldHelloUplink, len(h.Uplink)) + sizeText(fieldHelloNodeID, h.NodeID) +
		sizeText(fieldHelloNodeCluster, h.NodeCluster) + sizeNumber(fieldHelloVersion, uint64(h.Version))
	dst = protowire.AppendTag(dst, fieldHello, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(n))
	dst = protowire.AppendTag(dst, fieldHelloUplink, protowire.BytesType)
	dst = protowire.AppendBytes(dst, h.Uplink[:])
	dst = appendText(dst, fieldHelloNodeID, h.NodeID)
	dst = appendText(dst, fieldHelloNodeCluster, h.NodeCluster)
	return appendNumber(dst, fieldHelloVersion, uint64(h.Version))
}

// Answered is how many requests an uplink has answered with a route's answer since it last said so.
type Answered struct {
	Route   string
	Level   Level // that the route asks for
	Answers uint64
}

// BatchOverhead is how long an empty Batch is: room for what stands before its records and is known only when
// it is sent.
//
//	| tag 1 | length ≤ 5 | tag 1 | sequence ≤ 10 | tag 1 | redelivered 1 | tag 1 | settled below ≤ 10 |  ≤ 30 bytes
const BatchOverhead = 30

// Batch is a Batch message under construction, in one piece of memory: records are encoded straight into it,
// and its head is written in front of them when it is sent.
//
//	| headroom | record | record | ... | answered | ... |
//
// The zero value is an empty batch. A batch may be sent again under the same sequence number; nothing may be
// added once it has been sent, unless it is Reset.
type Batch struct {
	buf     []byte
	records int
}

// Records returns how many records the batch holds.
func (b *Batch) Records() int { return b.records }

// Len returns the bytes that the batch occupies.
func (b *Batch) Len() int { return len(b.buf) }

// Reset empties the batch, which keeps its memory for the next records.
func (b *Batch) Reset() {
	b.buf, b.records = b.buf[:0], 0
}

// Clone returns the same batch in new memory, as little as a batch may have.
func (b *Batch) Clone() Batch {
	return Batch{append(make([]byte, 0, max(len(b.buf), firstBuffer)), b.buf...), b.records}
}

// Cap returns the bytes of memory that the batch keeps.
func (b *Batch) Cap() int { return cap(b.buf) }

// Size returns by how much Add would lengthen a batch.
func Size(p Parts) int { return sizeBytes(fieldBatchRecords, p.size()) }

// Add appends a record.
func (b *Batch) Add(p Parts) {
	n := p.size()
	b.grow(sizeBytes(fieldBatchRecords, n))
	b.buf = protowire.AppendTag(b.buf, fieldBatchRecords, protowire.BytesType)
	b.buf = protowire.AppendVarint(b.buf, uint64(n))
	b.buf = p.append(b.buf)
	b.records++
}

// AddAnswered appends a line of the ledger to the batch.
func (b *Batch) AddAnswered(a Answered) {
	n := sizeText(fieldAnsweredRoute, a.Route) + protowire.SizeTag(fieldAnsweredLevel) +
		protowire.SizeVarint(uint64(a.Level)) + protowire.SizeTag(fieldAnsweredAnswers) + protowire.SizeVarint(a.Answers)
	b.grow(sizeBytes(fieldBatchAnswered, n))
	b.buf = protowire.AppendTag(b.buf, fieldBatchAnswered, protowire.BytesType)
	b.buf = protowire.AppendVarint(b.buf, uint64(n))
	b.buf = appendText(b.buf, fieldAnsweredRoute, a.Route)
	b.buf = protowire.AppendTag(b.buf, fieldAnsweredLevel, protowire.VarintType)
	b.buf = protowire.AppendVarint(b.buf, uint64(a.Level))
	b.buf = protowire.AppendTag(b.buf, fieldAnsweredAnswers, protowire.VarintType)
	b.buf = protowire.AppendVarint(b.buf, a.Answers)
}

// grow makes room for n more bytes, and for the BatchOverhead in a new batch. A large record gets just what it
// needs: a VM's memory never shrinks, so nothing here may grow by doubling.
func (b *Batch) grow(n int) {
	if len(b.buf) == 0 {
		if cap(b.buf) < BatchOverhead+n {
			b.buf = make([]byte, 0, max(BatchOverhead+n, firstBuffer))
		}
		b.buf = b.buf[:BatchOverhead]
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

// Head is what a batch says of itself when it is sent.
type Head struct {
	Sequence     uint64 // from 1
	Redelivered  bool   // it was sent before, on a stream that ended without acknowledging it
	SettledBelow uint64 // batches with lower numbers will not come again
}

// Message returns the UplinkMessage that carries the batch. It points into the batch and is valid until the
// next call.
func (b *Batch) Message(h Head) []byte {
	b.grow(0)
	var head [BatchOverhead]byte
	inner := appendNumber(head[:0], fieldBatchSequence, h.Sequence)
	if h.Redelivered {
		inner = appendNumber(inner, fieldBatchRedelivered, 1)
	}
	inner = appendNumber(inner, fieldBatchSettled, h.SettledBelow)
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
