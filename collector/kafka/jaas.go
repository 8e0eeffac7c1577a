package kafka

import (
	"errors"
	"strings"
)

// login is one entry of a JAAS configuration.
type login struct {
	module  string
	options map[string]string
}

var errJAAS = errors.New(`not of the form: MODULE required username="..." password="...";`)

// parseJAAS reads the value of sasl.jaas.config as Kafka's clients do: one login module, its control flag,
// options with plain or quoted values, a semicolon. Its errors quote nothing: a password may be in it.
func parseJAAS(text string) (login, error) {
	l := login{options: map[string]string{}}
	var ok bool
	if l.module, text, ok = jaasWord(text); !ok {
		return l, errJAAS
	}
	flag, text, ok := jaasWord(text)
	if !ok || !strings.EqualFold(flag, "required") {
		return l, errJAAS
	}
	for {
		text = strings.TrimLeft(text, jaasSpace)
		if rest, end := strings.CutPrefix(text, ";"); end {
			if strings.TrimLeft(rest, jaasSpace) != "" {
				return l, errJAAS
			}
			return l, nil
		}
		var name, value string
		if name, text, ok = jaasWord(text); !ok {
			return l, errJAAS
		}
		if text, ok = strings.CutPrefix(strings.TrimLeft(text, jaasSpace), "="); !ok {
			return l, errJAAS
		}
		if value, text, ok = jaasWord(text); !ok {
			return l, errJAAS
		}
		l.options[name] = value
	}
}

const jaasSpace = " \t\r\n"

// jaasWord takes a word or a quoted string off the front of text. In quotes a backslash makes the next
// character plain.
func jaasWord(text string) (word, rest string, ok bool) {
	text = strings.TrimLeft(text, jaasSpace)
	if text == "" {
		return "", "", false
	}
	if quote := text[0]; quote == '"' || quote == '\'' {
		var out strings.Builder
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] == quote:
				return out.String(), text[i+1:], true
			case text[i] == '\\' && i+1 < len(text):
				i++
			}
			out.WriteByte(text[i])
		}
		return "", "", false
	}
	end := strings.IndexAny(text, jaasSpace+`=;"'`)
	if end <= 0 {
		return "", "", false
	}
	return text[:end], text[end:], true
}
