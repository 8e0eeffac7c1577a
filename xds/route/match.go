package route

import (
	"slices"
	"strings"
)

// Request is what routes are matched with.
type Request struct {
	Method    string
	Authority string // with the port, if it came with one
	Path      string // with the query
	// Headers are pairs of name and value, in order, names in lower case. Pseudo-headers among them are not
	// looked at.
	Headers [][2]string
}

// Match returns the first route that matches, nil when none does: then the request is not crowd's. Tunnels, upgrades
// and gRPC requests are nobody's, whatever they match.
//
// Exact paths and prefixes are looked up, so that its time grows with the number of routes that fit the path
// and with the number of safe_regex routes, but not with that of all others. It does not allocate, unless a
// condition is on a header that came several times.
func (t *Table) Match(r *Request) *Rule {
	path, host := pathOf(r.Path), hostOf(r.Authority)
	best := t.firstOf(t.index.exact[path], len(t.rules), r, host)
	for i := t.index.prefixes.longest(path); i >= 0; i = t.index.prefixes[i].shorter {
		best = t.firstOf(t.index.prefixes[i].routes, best, r, host)
	}
	for _, i := range t.index.regexes {
		if i >= best {
			break
		}
		if t.rules[i].path.regex.MatchString(path) && t.rules[i].conditionsHold(r, host) {
			best = i
		}
	}
	if best == len(t.rules) || neverAbsorbed(r) != "" {
		return nil
	}
	return &t.rules[best]
}

// firstOf returns the first of the candidates, whose paths fit, that comes before best and whose other
// conditions hold; best if there is none.
func (t *Table) firstOf(candidates []int, best int, r *Request, host string) int {
	for _, i := range candidates {
		if i >= best {
			break
		}
		if t.rules[i].conditionsHold(r, host) {
			return i
		}
	}
	return best
}

// pathOf returns a path without query and fragment.
func pathOf(path string) string {
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		return path[:end]
	}
	return path
}

// conditionsHold reports whether all conditions but that on the path hold.
func (r *Rule) conditionsHold(request *Request, host string) bool {
	return r.methodFits(request.Method) && r.hostFits(host) && r.failingHeader(request) == nil
}

func (r *Rule) methodFits(method string) bool {
	return len(r.methods) == 0 || slices.Contains(r.methods, method)
}

func (r *Rule) hostFits(host string) bool {
	if len(r.hosts) == 0 {
		return true
	}
	for _, pattern := range r.hosts {
		if pattern.matches(host) {
			return true
		}
	}
	return false
}

// failingHeader returns the first condition on a header that does not hold, nil if all do.
func (r *Rule) failingHeader(request *Request) *headerCondition {
	for i := range r.headers {
		if !r.headers[i].holds(request) {
			return &r.headers[i]
		}
	}
	return nil
}

func (p *pathCondition) fits(path string) bool {
	switch {
	case p.exact != "":
		return path == p.exact
	case p.prefix != "":
		return strings.HasPrefix(path, p.prefix)
	default:
		return p.regex.MatchString(path)
	}
}
