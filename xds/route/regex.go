package route

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

const (
	maxRegexLength = 1024
	// maxRegexProgram bounds the compiled form, in instructions: matching costs at most their number for each
	// byte of the path.
	maxRegexProgram = 5000
	// maxRegexPrograms bounds those of a document together, each expression once: compiled, each instruction takes about 100
	// bytes.
	maxRegexPrograms = 1_000_000
)

// regex is a compiled expression.
type regex struct {
	whole *regexp.Regexp // matches whole texts alone
	// literal is what every text that matches begins with.
	literal string
	// instructions is the size of the compiled form.
	instructions int
}

// compileRegex compiles an RE2 expression that must match the whole of a text. The expression "" matches only
// the empty text.
func compileRegex(expr string) (*regex, error) {
	if len(expr) > maxRegexLength {
		return nil, fmt.Errorf("is %d bytes long (allowed: at most %d)", len(expr), maxRegexLength)
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		if at := (*syntax.Error)(nil); errors.As(err, &at) {
			err = fmt.Errorf("%s in %s", at.Code, quote(at.Expr))
		}
		return nil, fmt.Errorf("is not a regular expression: %w (allowed: RE2 syntax)", err)
	}
	// The canonical form is wrapped, not what was written: \Q without \E would swallow the wrapping.
	whole := `\A(?:` + parsed.String() + `)\z`
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression: %w (allowed: RE2 syntax)", err)
	}
	if len(program.Inst) > maxRegexProgram {
		return nil, fmt.Errorf("compiles to %d instructions (allowed: at most %d)", len(program.Inst), maxRegexProgram)
	}
	compiled, err := regexp.Compile(whole)
	if err != nil {
		return nil, fmt.Errorf("is not a regular expression: %w (allowed: RE2 syntax)", err)
	}
	return &regex{compiled, literalPrefix(program), len(program.Inst)}, nil
}

// regexes are those that are compiled, each once: thousands of routes may have the same expression.
type regexes struct {
	compiled     map[string]*regex // by expression
	instructions int               // of all
}

func (all *regexes) compile(expr string) (*regex, error) {
	if r, ok := all.compiled[expr]; ok {
		return r, nil
	}
	r, err := compileRegex(expr)
	if err != nil {
		return nil, err
	}
	if all.compiled == nil {
		all.compiled = map[string]*regex{}
	}
	all.compiled[expr] = r
	all.instructions += r.instructions
	return r, nil
}

// literalPrefix returns what every text begins with that matches as a whole. A ^ in front, which says nothing there,
// would hide it, and a table of such routes would be scanned.
func literalPrefix(program *syntax.Prog) string {
	anchored := *program
	for {
		inst := &anchored.Inst[anchored.Start]
		begins := inst.Op == syntax.InstEmptyWidth && syntax.EmptyOp(inst.Arg)&^(syntax.EmptyBeginText|syntax.EmptyBeginLine) == 0
		if !begins && inst.Op != syntax.InstNop && inst.Op != syntax.InstCapture {
			literal, _ := anchored.Prefix()
			return literal
		}
		anchored.Start = int(inst.Out)
	}
}

// CompileRegex compiles an RE2 expression as documents have them: it matches whole texts alone.
func CompileRegex(expr string) (*regexp.Regexp, error) {
	r, err := compileRegex(expr)
	if err != nil {
		return nil, err
	}
	return r.whole, nil
}
