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
	// Draw is a random number, which decides about routes that take a sample.
	Draw uint64
}

// Match returns the first route that matches, nil when none does: then the request is not crowd's. Tunnels, upgrades
// and gRPC requests are nobody's, whatever they match.
//
// Paths and hosts are looked up, so that its time grows with the number of routes that fit both, and with that of
// regexes that begin like the path, but not with that of all others. It does not allocate, unless the host is not in lower
// case.
func (t *Table) Match(r *Request) *Rule {
	path, host := pathOf(r.Path), lower(hostOf(r.Authority))
	best := len(t.rules)
	t.index.visit(path, func(h *hostIndex) {
		h.visit(host, func(candidates []int) {
			for _, i := range candidates {
				if i >= best {
					return
				}
				if t.rules[i].othersHold(r, path) {
					best = i
					return
				}
			}
		})
	})
	if best == len(t.rules) || neverAbsorbed(r) != "" {
		return nil
	}
	return &t.rules[best]
}

// pathOf returns a path without query and fragment.
func pathOf(path string) string {
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, "#")
	return path
}

// cutSlash is strings.Cut at the first slash.
func cutSlash(path string) (before, after string, found bool) {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return path, "", false
}

// othersHold reports whether all conditions hold that the index leaves open.
func (r *Rule) othersHold(request *Request, path string) bool {
	return r.methodFits(request.Method) &&
		(r.sample == whole || r.sample.takes(request.Draw, r.number)) &&
		r.failingHeader(request) == nil && r.failingParameter(request) == nil &&
		(r.path.regex == nil || r.path.regex.whole.MatchString(path))
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
func (r *Rule) failingHeader(request *Request) *condition {
	for i := range r.headers {
		if !r.headers[i].fitsHeader(request) {
			return &r.headers[i]
		}
	}
	return nil
}

// failingParameter returns the first condition on a query parameter that does not hold, nil if all do.
func (r *Rule) failingParameter(request *Request) *condition {
	for i := range r.params {
		if !r.params[i].fits(request.parameter(r.params[i].name)) {
			return &r.params[i]
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
	case p.regex != nil:
		return p.regex.whole.MatchString(path)
	default:
		return p.template.fits(path)
	}
}
