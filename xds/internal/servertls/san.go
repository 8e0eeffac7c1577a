package servertls

import (
	"crypto/x509"
	"fmt"
	"strings"
)

// pattern is a subject alternative name, or how one begins or ends. With a "/" or ":" in it, it is for URIs, otherwise
// for DNS names: neither may stand in for the other.
type pattern struct {
	uri            bool
	text           string // DNS names in lower case
	prefix, suffix bool   // at most one of them
}

type patterns []pattern

const patternForm = "allowed: a DNS name or URI, with one * in front or at the end"

func parsePattern(s string) (pattern, error) {
	p := pattern{uri: strings.ContainsAny(s, "/:")}
	p.text, p.suffix = strings.CutPrefix(s, "*")
	if !p.suffix {
		p.text, p.prefix = strings.CutSuffix(s, "*")
	}
	if p.text == "" || strings.ContainsAny(p.text, "* \t") {
		return pattern{}, fmt.Errorf("%q is not a SAN (%s)", s, patternForm)
	}
	if !p.uri {
		p.text = strings.ToLower(p.text)
	}
	return p, nil
}

func (p pattern) matches(name string) bool {
	switch {
	case p.prefix:
		return strings.HasPrefix(name, p.text)
	case p.suffix:
		return strings.HasSuffix(name, p.text)
	default:
		return name == p.text
	}
}

// check returns an error unless one of the certificate's names is on the list, or there is no list.
func (p patterns) check(cert *x509.Certificate) error {
	if len(p) == 0 {
		return nil
	}
	var names []string
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	uris := len(names)
	for _, name := range cert.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for i, name := range names {
		for _, allowed := range p {
			if allowed.uri == (i < uris) && allowed.matches(name) {
				return nil
			}
		}
	}
	return fmt.Errorf("none of the client certificate's names %q is allowed", names)
}
