package route

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxTemplateSegments = 32
	templateForms       = "allowed: segments of text, {name} or *, and ** at the end, as in /shops/{shop}/orders or /files/**"
)

// pathTemplate is a compiled Match.PathTemplate: its segments in order.
type pathTemplate []segment

type segment struct {
	kind segmentKind
	// text of a literal, or a variable's name, which may be empty.
	text string
}

type segmentKind uint8

const (
	segmentLiteral segmentKind = iota
	segmentOne                 // {name} or *: a whole segment, not empty
	segmentRest                // **: all that is left
)

// parseTemplate reads the part of Envoy's URI templates (envoy.extensions.path.match.uri_template.v3) in which variables
// are whole segments.
func parseTemplate(s string) (pathTemplate, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("%s is not a path (allowed: to begin with /)", quote(s))
	}
	var t pathTemplate
	names := map[string]bool{}
	parts := strings.Split(s[1:], "/")
	if len(parts) > maxTemplateSegments {
		return nil, fmt.Errorf("has %d segments (allowed: at most %d)", len(parts), maxTemplateSegments)
	}
	for i, part := range parts {
		seg, err := parseSegment(part)
		last := i == len(parts)-1
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", quote(s), err)
		case seg.kind == segmentRest && !last:
			return nil, fmt.Errorf("%s has ** before its end (%s)", quote(s), templateForms)
		case part == "" && !last:
			return nil, fmt.Errorf("%s has an empty segment (%s)", quote(s), templateForms)
		case seg.kind == segmentOne && seg.text != "" && names[seg.text]:
			return nil, fmt.Errorf("%s has the variable %s twice (allowed: once)", quote(s), quote(seg.text))
		case seg.kind == segmentOne:
			names[seg.text] = true
		}
		t = append(t, seg)
	}
	return t, nil
}

func parseSegment(part string) (segment, error) {
	switch {
	case part == "**":
		return segment{kind: segmentRest}, nil
	case part == "*":
		return segment{kind: segmentOne}, nil
	case strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}"):
		name := part[1 : len(part)-1]
		if name == "" || !variableChars.holds(name) {
			return segment{}, fmt.Errorf("%s is not a variable (allowed: a-z, A-Z, 0-9 and _ in braces)", quote(part))
		}
		return segment{segmentOne, name}, nil
	case strings.ContainsAny(part, "*{}"):
		return segment{}, errors.New("has a variable or wildcard that is not a whole segment (" + templateForms + ")")
	case strings.ContainsAny(part, "?#"):
		return segment{}, errors.New("has a query or fragment (allowed: the path without them)")
	}
	return segment{segmentLiteral, part}, nil
}

// has reports whether the template has a variable of this name.
func (t pathTemplate) has(variable string) bool {
	for _, seg := range t {
		if seg.kind == segmentOne && seg.text == variable {
			return true
		}
	}
	return false
}

// literal returns what every path that fits begins with.
func (t pathTemplate) literal() string {
	text := ""
	for _, seg := range t {
		text += "/"
		if seg.kind != segmentLiteral {
			break
		}
		text += seg.text
	}
	return text
}

// fits reports whether a path, without its query, is one of the template's.
func (t pathTemplate) fits(path string) bool {
	_, ok := t.match(path, "")
	return ok
}

// match reports whether a path fits, and returns the segment that stands at the variable.
func (t pathTemplate) match(path, variable string) (value string, ok bool) {
	rest, more := strings.CutPrefix(path, "/")
	for _, seg := range t {
		if !more {
			return "", false
		}
		if seg.kind == segmentRest {
			return value, true
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch {
		case seg.kind == segmentLiteral && part != seg.text, seg.kind == segmentOne && part == "":
			return "", false
		case seg.kind == segmentOne && seg.text == variable:
			value = part
		}
	}
	return value, !more
}
