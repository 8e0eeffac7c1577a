package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// FieldError is something wrong with one field of a document.
type FieldError struct {
	// Path leads to the field: routes[2].match.path. It is empty for the document as a whole.
	Path string
	// Message says what is wrong and, in brackets, what is allowed; one line.
	Message string
	// File, Line and Column say where that is, or the nearest thing around it, counted from 1. They are "" and 0 when
	// the document's syntax keeps no positions.
	File         string
	Line, Column int
}

// Error returns the path and the message, without the position.
func (e FieldError) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// joinErrors makes one error of many, nil of none.
func joinErrors(found []FieldError) error {
	errs := make([]error, len(found))
	for i, e := range found {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// report gathers what is wrong.
type report struct {
	paths
	errs    []FieldError
	regexes regexes // so far
}

func (r *report) addf(path, format string, args ...any) {
	r.errs = append(r.errs, FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

// add reports err, if there is one.
func (r *report) add(path string, err error) {
	if err != nil {
		r.addf(path, "%v", err)
	}
}

// paths makes the paths of fields, or does without: those of a large document take longer than anything else, and only
// mistakes need them.
type paths bool

func (p paths) field(parent, name string) string {
	switch {
	case !bool(p):
		return ""
	case !fieldNameChars.holds(name) || name == "":
		name = quote(name)
	}
	if parent == "" {
		return name
	}
	return parent + "." + name
}

func (p paths) item(parent string, i int) string {
	if !p {
		return ""
	}
	return parent + "[" + strconv.Itoa(i) + "]"
}

// parentPath returns the path of what holds path, "" for the document.
func parentPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// quote shows a value from a document in a message: on one line, and not all of a long one.
func quote(s string) string {
	const longest = 80
	if len(s) > longest {
		return strconv.Quote(s[:longest]) + "..."
	}
	return strconv.Quote(s)
}
