package route

import (
	"fmt"
	"strings"
)

// NormalizedPath is what an Envoy with normalize_path, such as crowd's gateway, makes of a path before anybody sees it: no
// segment of it is dots, and what needs no percent sign has none (RFC 3986, sections 5.2.4 and 2.3). The query stays.
func NormalizedPath(path string) string {
	path, query, asked := strings.Cut(path, "?")
	var segments []string
	all := strings.Split(unescaped.Replace(path), "/")[1:]
	for i, segment := range all {
		switch segment {
		case "..":
			segments = segments[:max(0, len(segments)-1)]
			fallthrough
		case ".":
			if i == len(all)-1 {
				segments = append(segments, "")
			}
		default:
			segments = append(segments, segment)
		}
	}
	path = "/" + strings.Join(segments, "/")
	if asked {
		path += "?" + query
	}
	return path
}

// unescaped has the unreserved characters stand for themselves.
var unescaped = func() *strings.Replacer {
	var pairs []string
	for c := range 0x80 {
		if letter := c | 0x20; 'a' <= letter && letter <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~", rune(c)) {
			pairs = append(pairs, fmt.Sprintf("%%%02X", c), string(rune(c)), fmt.Sprintf("%%%02x", c), string(rune(c)))
		}
	}
	return strings.NewReplacer(pairs...)
}()
