package route

import (
	"slices"
	"strings"
)

// maxComparisons bounds the work of Warnings where thousands of routes have the same path and host. Beyond it routes are
// not looked at.
const maxComparisons = 2_000_000

// Warnings returns what is allowed and can hardly be meant: routes that never match, because an earlier one takes every
// request that they would, or because there is no such request. It finds those whose path an earlier route covers, with
// its hosts and methods, where the earlier one has no other conditions than they have too. The document must be valid;
// positions are not filled in.
func (c Config) Warnings() []FieldError {
	table, err := Compile(c)
	if err != nil {
		return nil
	}
	r := report{paths: true}
	comparisons := 0
	for i := range table.rules {
		rule := &table.rules[i]
		at := r.field(r.item("routes", i), "match")
		if why := rule.contradiction(); why != "" {
			r.addf(at, "never matches: %s", why)
			continue
		}
		if rule.sample == 0 {
			r.addf(r.field(r.item("routes", i), "sample"), "is 0%%: the route takes nothing")
			continue
		}
		if first := table.covering(rule, &comparisons); first != nil {
			r.addf(at, "never matches: routes[%d] (%s) comes before it and takes all that it would", first.number, first.Name)
		}
	}
	return r.errs
}

// contradiction returns why no request can match, "" if one can.
func (r *Rule) contradiction() string {
	if len(r.methods) > 0 && !slices.ContainsFunc(r.methods, func(m string) bool { return m != "CONNECT" }) {
		return neverAbsorbed(&Request{Method: "CONNECT"})
	}
	for i, c := range r.headers {
		if c.kind == valueExact || c.kind == valuePresent {
			if why := neverAbsorbed(&Request{Headers: [][2]string{{c.name, c.text}}}); why != "" {
				return why
			}
		}
		// Values do not exclude each other: another header of that name may have the other.
		if slices.ContainsFunc(r.headers[:i], func(o condition) bool { return o.name == c.name && (o.kind == valueAbsent) != (c.kind == valueAbsent) }) {
			return "its conditions on the header " + c.name + " exclude each other"
		}
	}
	for i, c := range r.params {
		if contradicts(c, r.params[:i]) {
			return "its conditions on the query parameter " + c.name + " exclude each other"
		}
	}
	return ""
}

func contradicts(c condition, others []condition) bool {
	return slices.ContainsFunc(others, func(o condition) bool {
		if o.name != c.name {
			return false
		}
		if (o.kind == valueAbsent) != (c.kind == valueAbsent) {
			return true
		}
		if o.kind == valueExact && c.kind != valueAbsent {
			return !c.fits(o.text, true)
		}
		return c.kind == valueExact && o.kind != valueAbsent && !o.fits(c.text, true)
	})
}

// covering returns the first route before this one that takes all that it would; nil if there is none.
func (t *Table) covering(later *Rule, comparisons *int) *Rule {
	first := later.number
	host := hostPattern{kind: hostAny}
	if len(later.hosts) > 0 {
		host = later.hosts[0]
	}
	t.index.covering(&later.path, func(h *hostIndex) {
		h.covering(host, func(candidates []int) {
			for _, i := range candidates {
				if i >= first || *comparisons >= maxComparisons {
					return
				}
				*comparisons++
				if t.rules[i].covers(later) {
					first = i
					return
				}
			}
		})
	})
	if first == later.number {
		return nil
	}
	return &t.rules[first]
}

// covers reports whether a rule takes all that the later one would, given that its path does.
func (r *Rule) covers(later *Rule) bool {
	if r.sample < whole {
		return false
	}
	if len(r.hosts) > 0 && (len(later.hosts) == 0 || slices.ContainsFunc(later.hosts, func(l hostPattern) bool {
		return !slices.ContainsFunc(r.hosts, func(e hostPattern) bool { return e.covers(l) })
	})) {
		return false
	}
	if len(r.methods) > 0 && (len(later.methods) == 0 || slices.ContainsFunc(later.methods, func(m string) bool { return !r.methodFits(m) })) {
		return false
	}
	if r.path.regex != nil && !r.path.regexCovers(&later.path) {
		return false
	}
	return implied(r.headers, later.headers) && implied(r.params, later.params)
}

func (p *pathCondition) regexCovers(later *pathCondition) bool {
	if later.exact != "" {
		return p.regex.whole.MatchString(later.exact)
	}
	return later.regex != nil && p.written == later.written
}

// implied reports whether all conditions hold where the given ones do.
func implied(conditions, given []condition) bool {
	return !slices.ContainsFunc(conditions, func(c condition) bool {
		return !slices.ContainsFunc(given, func(g condition) bool {
			switch {
			case g.name != c.name || (g.kind == valueAbsent) != (c.kind == valueAbsent):
				return false
			case c.kind == valuePresent, c.kind == valueAbsent, g.kind == valueExact:
				return g.kind != valueExact || c.fits(g.text, true)
			case c.kind == valuePrefix:
				return g.kind == valuePrefix && strings.HasPrefix(g.text, c.text)
			default:
				return g.kind == c.kind && g.text == c.text
			}
		})
	})
}

// covers reports whether every host of the other pattern is one of this.
func (p hostPattern) covers(other hostPattern) bool {
	switch {
	case p.kind == hostAny:
		return true
	case other.kind == hostExact:
		return p.matches(other.text)
	case p.kind != other.kind:
		return false
	case p.kind == hostSuffix:
		return strings.HasSuffix(other.text, p.text)
	default:
		return strings.HasPrefix(other.text, p.text)
	}
}

// covering calls f with all whose paths take every path of p, and with regexes that may.
func (x *index) covering(p *pathCondition, f func(*hostIndex)) {
	literal := p.prefix
	switch {
	case p.exact != "":
		x.visit(p.exact, f)
		return
	case p.template != nil:
		literal = p.template.literal()
		x.templates.covering(p.template, f)
	case p.regex != nil:
		literal = p.regex.literal
		for _, value := range x.regexes.begun(literal) {
			f(value) // the same expression is among them
		}
	default:
		x.templates.visitRest(p.prefix, f)
	}
	for _, value := range x.prefixes.begun(literal) {
		f(value)
	}
}

// covering calls f with the routes whose hosts take all of the pattern's, and maybe others.
func (h *hostIndex) covering(p hostPattern, f func([]int)) {
	f(h.any)
	switch p.kind {
	case hostExact:
		f(h.exact[p.text])
		fallthrough
	case hostSuffix:
		for _, value := range h.suffixes.begun(p.text) {
			f(value)
		}
		if p.kind == hostSuffix {
			return
		}
		fallthrough
	case hostPrefix:
		for _, value := range h.prefixes.begun(p.text) {
			f(value)
		}
	}
}

// covering calls f with the templates that take every path of t.
func (n *templateNode) covering(t pathTemplate, f func(*hostIndex)) {
	if n == nil {
		return
	}
	if len(t) == 0 {
		if n.end != nil {
			f(n.end)
		}
		return
	}
	if n.rest != nil {
		f(n.rest)
	}
	switch t[0].kind {
	case segmentLiteral:
		n.literal[t[0].text].covering(t[1:], f)
		if t[0].text != "" {
			n.one.covering(t[1:], f)
		}
	case segmentOne:
		n.one.covering(t[1:], f)
	}
}

// visitRest calls f with the templates of which everything fits that begins with prefix.
func (n *templateNode) visitRest(prefix string, f func(*hostIndex)) {
	if n == nil || prefix == "" || prefix[0] != '/' {
		return
	}
	if n.rest != nil {
		f(n.rest)
	}
	part, behind, more := cutSlash(prefix[1:])
	if !more {
		return
	}
	n.literal[part].visitRest("/"+behind, f)
	if part != "" {
		n.one.visitRest("/"+behind, f)
	}
}
