package routefile

import (
	"fmt"
	"strings"

	"github.com/marceloboeira/crowd/xds/route"
)

// Problem is something wrong with one field of a file.
type Problem struct {
	route.FieldError
}

// Error returns one line: FILE:LINE:COLUMN: FIELD: what is wrong (what is allowed). The field is left out for
// the document as a whole.
func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %v", p.File, p.Line, p.Column, p.FieldError)
}

// Unwrap returns the route.FieldError.
func (p Problem) Unwrap() error {
	return p.FieldError
}

// Errors is everything wrong with a file, in its order; never empty.
type Errors []Problem

// Error returns a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, problem := range e {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each as a Problem.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, problem := range e {
		errs[i] = problem
	}
	return errs
}

func problems(errs []route.FieldError) []Problem {
	var all []Problem
	for _, e := range errs {
		all = append(all, Problem{e})
	}
	return all
}
