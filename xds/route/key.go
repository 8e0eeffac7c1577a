package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const keyForms = "allowed: %REQ(name)%, %REQ(name?other)%, %PATH_VARIABLE(name)% and %% for a percent sign"

// maxKeyOperators bounds how often a key repeats what the client sends: a record has to fit into a message.
const maxKeyOperators = 8

// keyFormat is a compiled Route.Key; nil for the null key.
type keyFormat []keyPart

// keyPart is plain text, or an operator.
type keyPart struct {
	text string
	// names of the headers to take, in lower case: the first that is there. Empty for plain text and variables.
	names []string
	// variable of the path template to take.
	variable string
}

// parseKey reads Envoy's command operators, as far as they make sense for a key:
// https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#command-operators
func parseKey(format string) (keyFormat, error) {
	var parts keyFormat
	operators := 0
	for rest := format; rest != ""; {
		text, after, found := strings.Cut(rest, "%")
		if text != "" {
			parts = append(parts, keyPart{text: text})
		}
		if !found {
			break
		}
		operator, after, found := strings.Cut(after, "%")
		if !found {
			return nil, fmt.Errorf("%s has a %% that nothing closes (%s)", quote(format), keyForms)
		}
		rest = after
		if operator == "" {
			parts = append(parts, keyPart{text: "%"})
			continue
		}
		part, err := parseOperator(operator)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quote("%"+operator+"%"), err)
		}
		parts = append(parts, part)
		if operators++; operators > maxKeyOperators {
			return nil, fmt.Errorf("%s has more than %d operators", quote(format), maxKeyOperators)
		}
	}
	return parts, nil
}

// parseOperator reads REQ(name), REQ(name?other) or PATH_VARIABLE(name).
func parseOperator(operator string) (keyPart, error) {
	kind, arguments, _ := strings.Cut(operator, "(")
	arguments, closed := strings.CutSuffix(arguments, ")")
	switch {
	case kind != "REQ" && kind != "PATH_VARIABLE":
		return keyPart{}, errors.New("unknown operator (" + keyForms + ")")
	case !closed:
		return keyPart{}, errors.New("does not end with the bracket; a length cannot be given (" + keyForms + ")")
	case kind == "PATH_VARIABLE" && arguments == "":
		return keyPart{}, errors.New("names no variable (allowed: one of the route's path_template)")
	case kind == "PATH_VARIABLE":
		return keyPart{variable: arguments}, nil
	}
	names := strings.Split(strings.ToLower(arguments), "?")
	if len(names) > 2 {
		return keyPart{}, errors.New("has more than one alternative (" + keyForms + ")")
	}
	for _, name := range names {
		if !isToken(name) && !slices.Contains(keyPseudoHeaders, name) || name == "host" {
			return keyPart{}, fmt.Errorf("%s is not a header to take (allowed: a header's name, :path, :authority, :method)", quote(name))
		}
	}
	return keyPart{names: names}, nil
}

var keyPseudoHeaders = []string{":path", ":authority", ":method"}

// of returns the key of a request that fits the template, nil for the null key.
func (k keyFormat) of(r *Request, template pathTemplate) []byte {
	var key []byte
	operators, found := 0, 0
	for _, part := range k {
		if part.variable != "" {
			value, _ := template.match(pathOf(r.Path), part.variable)
			operators, found = operators+1, found+1
			key = append(key, value...)
			continue
		}
		if len(part.names) == 0 {
			key = append(key, part.text...)
			continue
		}
		operators++
		for _, name := range part.names {
			if value, ok := r.first(name); ok {
				found++
				key = append(key, value...)
				break
			}
		}
	}
	if len(k) == 0 || operators > 0 && found == 0 {
		return nil
	}
	if key == nil {
		key = []byte{} // an empty header is a key, and not the null key
	}
	return key
}

// first returns the value of the first header of a name, or of a pseudo-header.
func (r *Request) first(name string) (string, bool) {
	switch name {
	case ":path":
		return r.Path, r.Path != ""
	case ":authority":
		return r.Authority, r.Authority != ""
	case ":method":
		return r.Method, r.Method != ""
	}
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			return r.Headers[i][1], true
		}
	}
	return "", false
}
