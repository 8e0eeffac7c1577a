package route

import "strings"

// names is a compiled list of RecordHeaders.
type names struct {
	exact    map[string]bool
	lengths  uint64 // of those, a bit for each, the last one for all from there on: most names are told by it
	prefixes []string
}

// compileNames leaves out what a list has beyond maxRecordNames, which is a mistake: in defaults, every route would
// look at all of it again.
func compileNames(list []string) names {
	n := names{exact: map[string]bool{}}
	for _, name := range list[:min(len(list), maxRecordNames)] {
		if prefix, ok := strings.CutSuffix(strings.ToLower(name), "*"); ok {
			n.prefixes = append(n.prefixes, prefix)
		} else {
			n.exact[prefix] = true
			n.lengths |= lengthBit(prefix)
		}
	}
	return n
}

func lengthBit(name string) uint64 { return 1 << min(len(name), 63) }

func (n *names) has(name string) bool {
	if n.lengths&lengthBit(name) != 0 && n.exact[name] {
		return true
	}
	for _, prefix := range n.prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// recorded is a compiled RecordHeaders.
type recorded struct {
	allow *names // nil: everything
	deny  names
}

func compileRecorded(h RecordHeaders) recorded {
	r := recorded{deny: compileNames(h.Deny)}
	if h.Allow != nil {
		allow := compileNames(h.Allow)
		r.allow = &allow
	}
	return r
}

func (r *recorded) has(name string) bool {
	return (r.allow == nil || r.allow.has(name)) && !r.deny.has(name)
}

// Records reports whether the records of the route have headers and trailers of this name, given in lower case.
func (r *Rule) Records(name string) bool { return r.recorded.has(name) }
