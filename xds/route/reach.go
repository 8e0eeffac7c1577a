package route

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Reach is where a document's routes can take requests, whatever else they ask for. A request that a table of the document
// takes has one of Paths, without its query, or a path that begins with one of Prefixes; the other way round need not be.
// All are in ascending order, and none but a shorter one of Paths begins another.
type Reach struct {
	Paths    []string
	Prefixes []string // "" where paths of every kind may be taken
}

// Reach returns the document's reach. The document must be valid.
func (c Config) Reach() Reach {
	paths, prefixes := map[string]bool{}, map[string]bool{}
	var compiled regexes
	for i, route := range c.Routes {
		path, err := compilePath(route.Match, &compiled)
		if err != nil {
			panic(fmt.Sprintf("BUG: reach of a document in which routes[%d] is invalid: %v", i, err))
		}
		switch {
		case path.exact != "":
			paths[path.exact] = true
		case path.prefix != "":
			prefixes[path.prefix] = true
		case path.regex != nil:
			prefixes[path.regex.literal] = true
		default:
			prefixes[path.template.literal()] = true
		}
	}
	var r Reach
	for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
		// What begins with a text comes right behind it.
		if last := len(r.Prefixes) - 1; last < 0 || !strings.HasPrefix(prefix, r.Prefixes[last]) {
			r.Prefixes = append(r.Prefixes, prefix)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if !r.begins(path) {
			r.Paths = append(r.Paths, path)
		}
	}
	return r
}

// begins reports whether a text begins with one of the prefixes.
func (r Reach) begins(text string) bool {
	i, found := slices.BinarySearchFunc(r.Prefixes, text, cmp.Compare[string])
	return found || i > 0 && strings.HasPrefix(text, r.Prefixes[i-1])
}
