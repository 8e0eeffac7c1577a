package offsets

import "slices"

// span is the offsets from from on and before to. A gap is one in which there is no record.
type span struct {
	from, to int64
	gap      bool
}

// spans rise, and do not touch each other.
type spans []span

// after returns the index of the first span that ends at offset or behind it.
func (s spans) after(offset int64) int {
	i, _ := slices.BinarySearchFunc(s, offset, func(a span, offset int64) int {
		if a.to < offset {
			return -1
		}
		return 1
	})
	return i
}

func (s spans) contain(offset int64) bool {
	i := s.after(offset + 1)
	return i < len(s) && s[i].from <= offset
}

// add returns s with a, using s's memory.
func (s spans) add(a span) spans {
	i := s.after(a.from)
	j := i
	for ; j < len(s) && s[j].from <= a.to; j++ {
		a.from, a.to, a.gap = min(a.from, s[j].from), max(a.to, s[j].to), a.gap && s[j].gap
	}
	if j == i+1 {
		s[i] = a
		return s
	}
	return slices.Replace(s, i, j, a)
}

// less returns s without what is in b.
func (s spans) less(b spans) spans {
	var out spans
	for _, a := range s {
		for ; len(b) > 0 && b[0].to <= a.from; b = b[1:] {
		}
		for i := 0; i < len(b) && b[i].from < a.to; i++ {
			if b[i].from > a.from {
				out = append(out, span{from: a.from, to: b[i].from})
			}
			a.from = min(b[i].to, a.to)
		}
		if a.from < a.to {
			out = append(out, a)
		}
	}
	return out
}

// len returns how many offsets they have.
func (s spans) len() int {
	n := 0
	for _, a := range s {
		n += int(a.to - a.from)
	}
	return n
}
