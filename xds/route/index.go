package route

import (
	"slices"
	"sort"
	"strings"
)

// index finds the routes whose condition on the path may hold. Routes are numbered as in the document; every
// list of them ascends.
type index struct {
	exact    map[string][]int
	prefixes prefixes
	regexes  []int // not looked up: each is tried
}

func newIndex(rules []Rule) index {
	x := index{exact: map[string][]int{}}
	byPrefix := map[string][]int{}
	for i := range rules {
		switch path := &rules[i].path; {
		case path.exact != "":
			x.exact[path.exact] = append(x.exact[path.exact], i)
		case path.prefix != "":
			byPrefix[path.prefix] = append(byPrefix[path.prefix], i)
		default:
			x.regexes = append(x.regexes, i)
		}
	}
	x.prefixes = newPrefixes(byPrefix)
	return x
}

// prefixes are in ascending order of their text, without duplicates.
//
// All that a path begins with are found from the longest: whatever lies between one of them and the path, in
// that order, begins with it too. So the greatest entry not above the path has all of them among itself and
// the entries that it begins with, and each entry leads to the next shorter.
type prefixes []prefix

type prefix struct {
	text   string
	routes []int
	// shorter is the index of the longest other prefix that this one begins with; -1 if none.
	shorter int
}

func newPrefixes(routes map[string][]int) prefixes {
	all := make(prefixes, 0, len(routes))
	for text, numbers := range routes {
		all = append(all, prefix{text: text, routes: numbers})
	}
	slices.SortFunc(all, func(a, b prefix) int { return strings.Compare(a.text, b.text) })
	for i := range all {
		all[i].shorter = all[:i].longest(all[i].text)
	}
	return all
}

// longest returns the index of the longest prefix that path begins with, -1 if none.
func (p prefixes) longest(path string) int {
	i := sort.Search(len(p), func(i int) bool { return p[i].text > path }) - 1
	for i >= 0 && !strings.HasPrefix(path, p[i].text) {
		i = p[i].shorter
	}
	return i
}
