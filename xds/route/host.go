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
	if name == "" || name[0] == '.' || strings.Contains(name, "..") || strings.Trim(name, alphanumerics+"._-") != "" {
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

// matches compares with a host as it came, in any case. A wildcard stands for at least one byte.
func (p hostPattern) matches(host string) bool {
	switch p.kind {
	case hostAny:
		return true
	case hostSuffix:
		return len(host) > len(p.text) && equalFoldASCII(host[len(host)-len(p.text):], p.text)
	case hostPrefix:
		return len(host) > len(p.text) && equalFoldASCII(host[:len(p.text)], p.text)
	default:
		return equalFoldASCII(host, p.text)
	}
}

// equalFoldASCII compares s, in any case, with lower. Unlike strings.EqualFold it folds ASCII alone: no other
// character may stand for a letter of a host.
func equalFoldASCII(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// hostOf returns the authority without its port. An IPv6 address keeps its brackets.
func hostOf(authority string) string {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || colon < strings.LastIndexByte(authority, ']') {
		return authority
	}
	return authority[:colon]
}
