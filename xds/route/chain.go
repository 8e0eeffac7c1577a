package route

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strings"
)

// direction is the end of a text from which a chain compares.
type direction int8

const (
	forward  direction = iota // entries are prefixes
	backward                  // entries are suffixes
)

// chain finds all the entries that a text begins with (or ends with, backward). It never changes.
//
// Entries are in ascending order, without duplicates. All that a text begins with are found from the longest: whatever
// lies between one of them and the text, in that order, begins with it too. So the greatest entry not above the text has
// all of them among itself and the entries that it begins with, and each entry leads to the next shorter.
type chain[T any] struct {
	links []link[T]
	from  direction
}

type link[T any] struct {
	text  string
	value T
	// shorter is the index of the longest other entry that this one begins with; -1 if none.
	shorter int
}

func newChain[T any](entries map[string]T, from direction) chain[T] {
	c := chain[T]{from: from}
	for text, value := range entries {
		c.links = append(c.links, link[T]{text: text, value: value})
	}
	slices.SortFunc(c.links, func(a, b link[T]) int { return from.compare(a.text, b.text) })
	for i := range c.links {
		before := chain[T]{c.links[:i], from}
		c.links[i].shorter = before.longest(c.links[i].text)
	}
	return c
}

// longest returns the index of the longest entry that text begins with, -1 if none.
func (c *chain[T]) longest(text string) int {
	if len(c.links) == 0 { // as most are
		return -1
	}
	i := sort.Search(len(c.links), func(i int) bool { return c.from.compare(c.links[i].text, text) > 0 }) - 1
	for i >= 0 && !c.from.begins(text, c.links[i].text) {
		i = c.links[i].shorter
	}
	return i
}

// begun yields all entries that text begins with, and their values, from the longest.
func (c *chain[T]) begun(text string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for i := c.longest(text); i >= 0; i = c.links[i].shorter {
			if !yield(c.links[i].text, c.links[i].value) {
				return
			}
		}
	}
}

func (d direction) begins(text, with string) bool {
	if d == backward {
		return strings.HasSuffix(text, with)
	}
	return strings.HasPrefix(text, with)
}

func (d direction) compare(a, b string) int {
	if d == forward {
		return strings.Compare(a, b)
	}
	for i := 1; i <= len(a) && i <= len(b); i++ {
		if x, y := a[len(a)-i], b[len(b)-i]; x != y {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}
