package route

import (
	"regexp"
	"strings"
)

// headerCondition is a compiled HeaderMatch.
type headerCondition struct {
	name string // in lower case
	kind headerKind
	text string
	// regex is for headerRegex.
	regex *regexp.Regexp
}

type headerKind uint8

const (
	headerPresent headerKind = iota
	headerAbsent
	headerExact
	headerPrefix
	headerRegex
)

func compileHeader(h HeaderMatch) (headerCondition, error) {
	c := headerCondition{name: strings.ToLower(h.Name)}
	switch {
	case h.Exact != nil:
		c.kind, c.text = headerExact, *h.Exact
	case h.Prefix != nil:
		c.kind, c.text = headerPrefix, *h.Prefix
	case h.SafeRegex != nil:
		regex, err := compileRegex(*h.SafeRegex)
		if err != nil {
			return headerCondition{}, err
		}
		c.kind, c.text, c.regex = headerRegex, *h.SafeRegex, regex
	case h.Present != nil && !*h.Present:
		c.kind = headerAbsent
	}
	return c, nil
}

func (c *headerCondition) holds(r *Request) bool {
	value, present := r.joined(c.name)
	switch c.kind {
	case headerAbsent:
		return !present
	case headerExact:
		return present && value == c.text
	case headerPrefix:
		return present && strings.HasPrefix(value, c.text)
	case headerRegex:
		return present && c.regex.MatchString(value)
	default:
		return present
	}
}

// joined returns the values of all headers of a name, with "," between them. It allocates only for several.
func (r *Request) joined(name string) (value string, present bool) {
	for i := range r.Headers {
		switch {
		case r.Headers[i][0] != name:
		case present:
			value += "," + r.Headers[i][1]
		default:
			value, present = r.Headers[i][1], true
		}
	}
	return value, present
}
