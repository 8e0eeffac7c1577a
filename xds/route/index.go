package route

// index finds the routes whose conditions on path and host hold, except that a regex remains to be tried. Routes are
// numbered as in the document; every list of them ascends.
//
// It is looked up by path first, then by host: of the paths that a document knows, a request fits its own, the prefixes
// of that, and the templates and regexes that begin alike.
type index struct {
	exact     map[string]*hostIndex
	prefixes  chain[*hostIndex]
	templates *templateNode     // nil: none
	regexes   chain[*hostIndex] // by their literal prefix
}

func newIndex(rules []Rule) index {
	x := index{exact: map[string]*hostIndex{}}
	prefixes, regexes := map[string]*hostIndex{}, map[string]*hostIndex{}
	in := func(m map[string]*hostIndex, key string) *hostIndex {
		if m[key] == nil {
			m[key] = &hostIndex{}
		}
		return m[key]
	}
	for i := range rules {
		var h *hostIndex
		switch path := &rules[i].path; {
		case path.exact != "":
			h = in(x.exact, path.exact)
		case path.prefix != "":
			h = in(prefixes, path.prefix)
		case path.regex != nil:
			h = in(regexes, path.regex.literal)
		default:
			if x.templates == nil {
				x.templates = &templateNode{}
			}
			h = x.templates.add(path.template)
		}
		h.add(rules[i].hosts, i)
	}
	x.prefixes, x.regexes = newChain(prefixes, forward), newChain(regexes, forward)
	for _, h := range x.exact {
		h.seal()
	}
	for _, all := range []chain[*hostIndex]{x.prefixes, x.regexes} {
		for i := range all.links {
			all.links[i].value.seal()
		}
	}
	x.templates.seal()
	return x
}

// visit calls f with all that a path, without its query, fits or, for regexes, may fit.
func (x *index) visit(path string, f func(*hostIndex)) {
	if h := x.exact[path]; h != nil {
		f(h)
	}
	for _, value := range x.prefixes.begun(path) {
		f(value)
	}
	x.templates.visit(path, f)
	for _, value := range x.regexes.begun(path) {
		f(value)
	}
}

// hostIndex are the routes of one path, by host. After seal it does not change.
type hostIndex struct {
	any      []int
	exact    map[string][]int
	suffixes chain[[]int]
	prefixes chain[[]int]

	// Until seal.
	bySuffix, byPrefix map[string][]int
}

func (h *hostIndex) add(hosts []hostPattern, number int) {
	in := func(m *map[string][]int, text string) {
		if *m == nil {
			*m = map[string][]int{}
		}
		if list := (*m)[text]; len(list) == 0 || list[len(list)-1] != number {
			(*m)[text] = append(list, number)
		}
	}
	if len(hosts) == 0 {
		h.any = append(h.any, number)
	}
	for _, pattern := range hosts {
		switch pattern.kind {
		case hostSuffix:
			in(&h.bySuffix, pattern.text)
		case hostPrefix:
			in(&h.byPrefix, pattern.text)
		default:
			in(&h.exact, pattern.text)
		}
	}
}

func (h *hostIndex) seal() {
	h.suffixes, h.prefixes = newChain(h.bySuffix, backward), newChain(h.byPrefix, forward)
	h.bySuffix, h.byPrefix = nil, nil
}

// visit calls f with the routes that take a host, given in lower case and without its port; those of one pattern at a time.
func (h *hostIndex) visit(host string, f func([]int)) {
	f(h.any)
	if h.exact != nil {
		f(h.exact[host])
	}
	for text, value := range h.suffixes.begun(host) {
		if len(host) > len(text) { // a wildcard stands for something
			f(value)
		}
	}
	for text, value := range h.prefixes.begun(host) {
		if len(host) > len(text) {
			f(value)
		}
	}
}

// templateNode is what follows the same segments in a document's templates.
type templateNode struct {
	literal map[string]*templateNode
	one     *templateNode
	end     *hostIndex // of the templates that end here; nil: none does
	rest    *hostIndex // of those that end with ** here
}

func (n *templateNode) add(t pathTemplate) *hostIndex {
	for _, seg := range t {
		switch seg.kind {
		case segmentRest:
			if n.rest == nil {
				n.rest = &hostIndex{}
			}
			return n.rest
		case segmentOne:
			if n.one == nil {
				n.one = &templateNode{}
			}
			n = n.one
		default:
			if n.literal == nil {
				n.literal = map[string]*templateNode{}
			}
			if n.literal[seg.text] == nil {
				n.literal[seg.text] = &templateNode{}
			}
			n = n.literal[seg.text]
		}
	}
	if n.end == nil {
		n.end = &hostIndex{}
	}
	return n.end
}

func (n *templateNode) seal() {
	if n == nil {
		return
	}
	for _, h := range []*hostIndex{n.end, n.rest} {
		if h != nil {
			h.seal()
		}
	}
	for _, next := range n.literal {
		next.seal()
	}
	n.one.seal()
}

// visit calls f with what the path fits. At most two nodes follow each, and a document has at most maxTemplateSegments
// one after another; but no more nodes are visited than the document's templates have at one depth.
func (n *templateNode) visit(path string, f func(*hostIndex)) {
	if n != nil && path != "" && path[0] == '/' {
		n.follow(path[1:], f)
	}
}

// follow gets what is left behind a slash.
func (n *templateNode) follow(rest string, f func(*hostIndex)) {
	if n.rest != nil {
		f(n.rest)
	}
	part, behind, more := cutSlash(rest)
	if next := n.literal[part]; next != nil {
		next.arrive(behind, more, f)
	}
	if n.one != nil && part != "" {
		n.one.arrive(behind, more, f)
	}
}

func (n *templateNode) arrive(rest string, more bool, f func(*hostIndex)) {
	if more {
		n.follow(rest, f)
	} else if n.end != nil {
		f(n.end)
	}
}
