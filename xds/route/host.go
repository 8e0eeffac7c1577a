package route

import (
	"fmt"
	"net/netip"
	"strings"
)

// hostPattern is a compiled entry of Match.Hosts.
type hostPattern struct {
	kind hostKind
	// text is in lower case: the whole host, how it ends (".shop.example") or how it begins ("shop.").
	text string
}

type hostKind uint8

const (
	hostExact hostKind = iota
	hostSuffix
	hostPrefix
	hostAny
)

const hostForms = `allowed: a host without port, "*.suffix", "prefix.*" or "*"`

func parseHost(s string) (hostPattern, error) {
	if s == "*" {
		return hostPattern{kind: hostAny}, nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		if ip, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil && ip.Is6() && ip.Zone() == "" {
			return hostPattern{hostExact, strings.ToLower(s)}, nil
		}
	}
	pattern := hostPattern{hostExact, strings.ToLower(s)}
	name := pattern.text
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		pattern, name = hostPattern{hostSuffix, "." + rest}, rest
	} else if rest, ok := strings.CutSuffix(name, ".*"); ok {
		pattern, name = hostPattern{hostPrefix, rest + "."}, rest
	}
	if strings.Contains(s, ":") {
		return hostPattern{}, fmt.Errorf("%s has a port or is an IPv6 address without brackets (%s)", quote(s), hostForms)
	}
	if name == "" || name[0] == '.' || strings.Contains(name, "..") || !nameChars.holds(name) {
		return hostPattern{}, fmt.Errorf("%s is not a host (%s)", quote(s), hostForms)
	}
	return pattern, nil
}

// String returns the pattern as documents spell it, in lower case.
func (p hostPattern) String() string {
	switch p.kind {
	case hostAny:
		return "*"
	case hostSuffix:
		return "*" + p.text
	case hostPrefix:
		return p.text + "*"
	default:
		return p.text
	}
}

// matches compares with a host in lower case. A wildcard stands for at least one byte.
func (p hostPattern) matches(host string) bool {
	switch p.kind {
	case hostAny:
		return true
	case hostSuffix:
		return len(host) > len(p.text) && strings.HasSuffix(host, p.text)
	case hostPrefix:
		return len(host) > len(p.text) && strings.HasPrefix(host, p.text)
	default:
		return host == p.text
	}
}

// lower returns s in lower case. Unlike strings.ToLower it changes ASCII alone: no other character may stand for a letter
// of a host. It allocates only where something changes.
func lower(s string) string {
	isUpper := func(c byte) bool { return 'A' <= c && c <= 'Z' }
	i := 0
	for i < len(s) && !isUpper(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	b := []byte(s)
	for ; i < len(b); i++ {
		if isUpper(b[i]) {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// hostOf returns the authority without its port. An IPv6 address keeps its brackets.
func hostOf(authority string) string {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || colon < strings.LastIndexByte(authority, ']') {
		return authority
	}
	return authority[:colon]
}
