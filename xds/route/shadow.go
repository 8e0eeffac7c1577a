package route

import (
	"fmt"
	"slices"
	"strings"
)

// Warnings returns what is allowed and can hardly be meant: routes that never match, because an earlier one
// takes every request that they would. It finds those whose path or prefix an earlier route's covers, where
// the earlier one has no other conditions or the same ones. The document must be valid; positions are not
// filled in.
func (c Config) Warnings() []FieldError {
	groups := map[string][]int{}
	conditions := make([]string, len(c.Routes))
	for i, route := range c.Routes {
		conditions[i] = route.Match.conditions()
		groups[conditions[i]] = append(groups[conditions[i]], i)
	}
	claims := make(map[string]claims, len(groups))
	for key, members := range groups {
		claims[key] = c.claims(members)
	}
	var r report
	for i, route := range c.Routes {
		first := i
		for _, key := range []string{"", conditions[i]} {
			if group, ok := claims[key]; ok {
				first = min(first, group.first(route.Match, i))
			}
		}
		if first < i {
			r.addf(fieldPath(itemPath("routes", i), "match"), "never matches: routes[%d] (%s) comes before it and takes all that it would",
				first, c.Routes[first].Name)
		}
	}
	return r
}

// claims says which of some routes, all with the same conditions, is the first to take a path.
type claims struct {
	exact    map[string]int
	regexes  map[string]int // by the expression's text
	prefixes prefixes
}

func (c Config) claims(members []int) claims {
	known := claims{exact: map[string]int{}, regexes: map[string]int{}}
	byPrefix := map[string][]int{}
	for _, i := range slices.Backward(members) {
		switch m := c.Routes[i].Match; {
		case m.Path != "":
			known.exact[m.Path] = i
		case m.Prefix != "":
			byPrefix[m.Prefix] = []int{i}
		default:
			known.regexes[m.SafeRegex] = i
		}
	}
	known.prefixes = newPrefixes(byPrefix)
	return known
}

// first returns the first route before the one numbered self that takes all the paths that m does; self if
// there is none.
func (k claims) first(m Match, self int) int {
	first := self
	take := func(i int, ok bool) {
		if ok {
			first = min(first, i)
		}
	}
	if m.SafeRegex != "" {
		i, ok := k.regexes[m.SafeRegex]
		take(i, ok)
		return first
	}
	if m.Path != "" {
		i, ok := k.exact[m.Path]
		take(i, ok)
	}
	for p := k.prefixes.longest(m.Path + m.Prefix); p >= 0; p = k.prefixes[p].shorter {
		take(k.prefixes[p].routes[0], true)
	}
	return first
}

// conditions returns the same text for matches whose conditions beside the path are the same, "" for none.
func (m Match) conditions() string {
	var all []string
	if !slices.Contains(m.Hosts, "*") {
		for _, host := range m.Hosts {
			all = append(all, "host "+strings.ToLower(host))
		}
	}
	for _, method := range m.Methods {
		all = append(all, "method "+method)
	}
	for _, h := range m.Headers {
		all = append(all, "header "+h.describe())
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "\n")
}

func (h HeaderMatch) describe() string {
	name := strings.ToLower(h.Name)
	switch {
	case h.Exact != nil:
		return fmt.Sprintf("%s exact %q", name, *h.Exact)
	case h.Prefix != nil:
		return fmt.Sprintf("%s prefix %q", name, *h.Prefix)
	case h.SafeRegex != nil:
		return fmt.Sprintf("%s regex %q", name, *h.SafeRegex)
	case h.Present != nil && !*h.Present:
		return name + " absent"
	}
	return name + " present"
}
