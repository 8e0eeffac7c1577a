// Package offsets keeps what of a partition is done, in any order, and what to commit for it, so that another member goes
// on with just what is not.
package offsets

import "math"

// State is what to commit.
type State struct {
	// Offset is that of the first record that is not done.
	Offset int64
	// Metadata says which of those behind it are done: text, at most MaxMetadata long.
	Metadata string

	// told is what Metadata says, and beyond how far it speaks: math.MaxInt64 if it says all.
	told   spans
	beyond int64
}

// Tracker keeps what of one partition is done. It is not safe for concurrent use.
//
//	        first                        next
//	▒▒▒▒▒▒▒▒▒│□□□□▒▒▒□▒▒▒▒▒▒□□□□□□▒▒▒□□□□│············▒▒▒▒······
//	  done      done or not, in spans       not read; some known to be done, from another member's metadata
//
// Its memory is that of the spans that are done and of those that are not committed, not of the records.
type Tracker struct {
	first, next int64
	// done is what is done from first on. It does not begin at first.
	done spans
	// fresh is what is done and not committed, and freshRecords how much that is.
	fresh        spans
	freshRecords int

	// size was metadata's in bits before the last few spans were added, and gaps is how many offsets were or have come that
	// it does not tell of and that become part of what it does when the records beside them are done.
	size, since int
	gaps        int64
}

// New returns the tracker of a partition for which offset was committed, with metadata as State has it, or "". An error
// says what is wrong with metadata, which then counts for nothing: the tracker is good nevertheless.
func New(offset int64, metadata string) (*Tracker, error) {
	t := &Tracker{first: offset, next: offset}
	var err error
	t.done, err = decode(offset, metadata)
	t.size = size(offset, t.done)
	return t, err
}

// First is the offset of the first record that is not done, or of the next one to read if all are.
func (t *Tracker) First() int64 { return t.first }

// Read says that a record has been read; offsets rise, and those between two that are read do not exist (they were
// compacted away, or are a transaction's). False: it is done already, or has been read before.
func (t *Tracker) Read(offset int64) bool {
	if offset < t.next {
		return false
	}
	t.Skip(offset - 1)
	t.next = offset + 1
	return offset >= t.first && !t.done.contain(offset)
}

// Skip says that records have been read as far as offset, and those that Read was not told of are none that matter. It
// takes no metadata: another member may read them again.
func (t *Tracker) Skip(offset int64) {
	if from := max(t.next, t.first); from <= offset {
		t.finish(span{from: from, to: offset + 1, gap: true})
	}
	t.next = max(t.next, offset+1)
}

// Done says that a record that Read has returned true for is done.
func (t *Tracker) Done(offset int64) {
	if offset < t.first || t.done.contain(offset) {
		return
	}
	s := span{from: offset, to: offset + 1}
	t.finish(s)
	t.fresh = t.fresh.add(s)
	t.freshRecords++
}

func (t *Tracker) finish(s span) {
	t.since++
	if s.gap {
		t.gaps += s.to - s.from
	}
	t.done = t.done.add(s)
	if t.done[0].from <= t.first {
		t.first = t.done[0].to
		t.done = append(t.done[:0], t.done[1:]...)
	}
}

// State returns what to commit now. Where metadata would be too long it has as much as fits, from the beginning.
func (t *Tracker) State() State {
	told := make(spans, 0, len(t.done))
	for _, s := range t.done {
		if !s.gap {
			told = append(told, s)
		}
	}
	fitting := fit(t.first, told)
	beyond := int64(math.MaxInt64)
	if fitting < len(told) {
		beyond = told[fitting].from
	}
	told = told[:fitting:fitting]
	return State{Offset: t.first, Metadata: encode(t.first, told), told: told, beyond: beyond}
}

// Committed says that a State has been committed. What one before had told and this one had no room for counts as
// uncommitted again, with the gaps that there are between.
func (t *Tracker) Committed(s State) {
	t.fresh = t.fresh.less(append(spans{{from: math.MinInt64, to: s.Offset}}, s.told...))
	if s.beyond < t.first {
		t.fresh = t.fresh.add(span{from: s.beyond, to: t.first})
	}
	for _, d := range t.done {
		if d.to > s.beyond && !d.gap {
			t.fresh = t.fresh.add(span{from: max(d.from, s.beyond), to: d.to})
		}
	}
	t.freshRecords = t.fresh.len()
}

// Uncommitted is how many records are done of which the last state committed does not say so.
func (t *Tracker) Uncommitted() int { return t.freshRecords }

// Overflows reports whether State may have more to say than fits when underWay further records are done, anywhere among
// those that have been read: then no more should be begun but the first that is not done, which takes no room.
func (t *Tracker) Overflows(underWay int) bool {
	if t.size+t.room(t.since+underWay) <= capacity {
		return false
	}
	if t.since > 0 {
		t.size, t.since, t.gaps = size(t.first, t.done), 0, 0
		for _, s := range t.done {
			if s.gap {
				t.gaps += s.to - s.from
			}
		}
	}
	return t.size+t.room(underWay) > capacity
}

// room is what a number of records takes at most in metadata, in bits, if they are done one here and one there: each is
// told by the length of the span before it, and of its own, which is longer than one by the gaps beside it. Together they
// are longest when they are evenly spread; two bits more make up for lengths being rounded to powers of two.
func (t *Tracker) room(records int) int {
	if records == 0 {
		return 0
	}
	n := int64(records)
	own := length(1)
	if t.gaps > 0 {
		own = length(1+t.gaps/n) + 2
	}
	return records * (length(1+(t.next-t.first)/n) + 2 + own)
}
