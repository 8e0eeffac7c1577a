package spool

import (
	"cmp"
	"slices"

	"github.com/marceloboeira/crowd/collector/record"
)

// left is an entry that start-up found.
type left struct {
	id       id
	uplink   record.UplinkID
	sequence uint64
}

// keepLeft is how many of those that start-up found are told apart from repeats, at the least: the newest. A repeat comes
// when a stream took the acknowledgement with it, so it is one of the last round trips' batches, less than a thousand
// of each uplink. All of a large spool would take memory for each of its entries.
const keepLeft = 1 << 16

// lefts are the newest entries that were found, in any order.
type lefts []left

// add adds an entry. It drops others where there are as many newer ones as are to be kept.
func (s *lefts) add(l left) {
	*s = append(*s, l)
	if len(*s) == 2*keepLeft {
		s.sort()
		*s = slices.Delete(*s, 0, keepLeft)
	}
}

// sort puts the oldest first.
func (s lefts) sort() {
	slices.SortFunc(s, func(a, b left) int { return cmp.Compare(a.id, b.id) })
}
