package route

import (
	"regexp"
	"strings"
)

// condition is a compiled ValueMatch.
type condition struct {
	name string // of a header: in lower case
	kind conditionKind
	text string
	// regex is for valueRegex.
	regex *regexp.Regexp
}

type conditionKind uint8

const (
	valuePresent conditionKind = iota
	valueAbsent
	valueExact
	valuePrefix
	valueRegex
)

func (s *sharing) compileConditions(matches []ValueMatch, spelling func(string) string) ([]condition, error) {
	var all []condition
	for _, m := range matches {
		c := condition{name: spelling(m.Name)}
		switch {
		case m.Exact != nil:
			c.kind, c.text = valueExact, *m.Exact
		case m.Prefix != nil:
			c.kind, c.text = valuePrefix, *m.Prefix
		case m.SafeRegex != nil:
			regex, err := s.regexes.compile(*m.SafeRegex)
			if err != nil {
				return nil, err
			}
			c.kind, c.text, c.regex = valueRegex, *m.SafeRegex, regex.whole
		case m.Present != nil && !*m.Present:
			c.kind = valueAbsent
		}
		all = append(all, c)
	}
	return all, nil
}

// fits reports whether the condition holds for a value, or for there being none.
func (c *condition) fits(value string, present bool) bool {
	switch c.kind {
	case valueAbsent:
		return !present
	case valueExact:
		return present && value == c.text
	case valuePrefix:
		return present && strings.HasPrefix(value, c.text)
	case valueRegex:
		return present && c.regex.MatchString(value)
	default:
		return present
	}
}

// fitsHeader reports whether the condition holds for the headers of its name: for one of them, or for there being none.
func (c *condition) fitsHeader(r *Request) bool {
	present := false
	for i := range r.Headers {
		if r.Headers[i][0] == c.name {
			if c.fits(r.Headers[i][1], true) {
				return true
			}
			present = true
		}
	}
	return !present && c.fits("", false)
}

// parameter returns the value of the first query parameter of a name, as it came.
func (r *Request) parameter(name string) (value string, present bool) {
	query, _, _ := strings.Cut(r.Path, "#")
	_, query, _ = strings.Cut(query, "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); key == name && pair != "" {
			return value, true
		}
	}
	return "", false
}
