package request

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// path returns the path and query to ask for: the rewritten one, behind the target's own.
func (s *Sender) path(received string) (string, error) {
	switch {
	case received == "":
		return "", errors.New("the record has no path")
	case received == "*" && s.prefix == "": // of OPTIONS
		return received, nil
	case received[0] != '/':
		return "", fmt.Errorf("the path %.80q does not begin with a slash", received)
	}
	path, rest := received, ""
	if end := strings.IndexAny(received, "?#"); end >= 0 {
		path, rest = received[:end], received[end:]
	}
	for _, rewrite := range s.config.Paths {
		if rewrite.Pattern.MatchString(path) {
			path = rewrite.Pattern.ReplaceAllString(path, rewrite.Substitution)
			break
		}
	}
	if path == "" || path[0] != '/' {
		return "", fmt.Errorf("the path %.80q, rewritten, is %.80q, which does not begin with a slash", received, path)
	}
	path = s.prefix + path + rest
	for i := range len(path) {
		if path[i] <= ' ' || path[i] == 0x7f {
			return "", fmt.Errorf("the path %.80q has a space or a control character", received)
		}
	}
	return path, nil
}

// url returns a URL of which net/http sends just the path and query given.
func (s *Sender) url(host, path string) *url.URL {
	made := &url.URL{Scheme: s.target.Scheme, Host: s.target.Host}
	if !strings.HasPrefix(path, "//") {
		made.Opaque = path
		return made
	}
	// An opaque // would be taken for the beginning of a host. A path must be well escaped, or net/http escapes it.
	plain, query, hasQuery := strings.Cut(path, "?")
	made.RawPath, made.RawQuery, made.ForceQuery = plain, query, hasQuery
	if unescaped, err := url.PathUnescape(plain); err == nil {
		made.Path = unescaped
		if made.EscapedPath() == plain {
			return made
		}
	}
	// HTTP/2 sends this without scheme and host again. With HTTP/1.1 it is the absolute form, which servers must take for the
	// same (RFC 9112, section 3.2.2).
	if host == "" {
		host = s.target.Host
	}
	return &url.URL{Scheme: s.target.Scheme, Host: s.target.Host, Opaque: "//" + host + path}
}
