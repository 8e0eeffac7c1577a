package route

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is a compiled Config. It never changes and is safe for concurrent use.
type Table struct {
	uplink Uplink
	rules  []Rule // in the document's order
	index  index
}

// Rule is a compiled route, with all defaults applied. It must not be changed.
type Rule struct {
	Name string
	// Mode decides which of the fields below mean anything: a mirrored request waits for nothing and is not answered.
	Mode  Mode
	Topic string
	// Ack of a mirrored request is LevelMemory.
	Ack Level
	// AckTimeout is how long a request waits for its Ack, if that is not LevelMemory.
	AckTimeout time.Duration
	// MaxBody is in bytes.
	MaxBody int
	// Status, Body, ContentType and Headers are the answer. The ContentType is empty when the Body is: nothing has
	// no type, and clients that see one parse.
	Status      int
	Body        Text
	ContentType string
	Headers     []TextHeader
	// RateLimit bounds what each worker takes; nil: nothing does.
	RateLimit *TokenBucket

	number   int // of the route in the document
	path     pathCondition
	hosts    []hostPattern // empty: any
	methods  []string
	headers  []condition
	params   []condition
	sample   Percent
	recorded recorded
	key      keyFormat
}

// TextHeader is a header of an answer; its name is in lower case.
type TextHeader struct {
	Name  string
	Value Text
}

// pathCondition is one of four.
type pathCondition struct {
	exact    string
	prefix   string
	template pathTemplate
	regex    *regex
	// written is the template or regex as the document has it.
	written string
}

// Compile validates a document and makes it ready for matching. The error joins everything that is wrong, as
// FieldErrors.
func Compile(c Config) (*Table, error) {
	if err := joinErrors(c.Validate()); err != nil {
		return nil, err
	}
	return c.compile(), nil
}

// CompileJSON is ParseJSON and Compile in one, which validates once: a worker stands still while it reads its
// configuration.
func CompileJSON(data []byte) (Config, *Table, error) {
	c, err := ParseJSON(data)
	if err != nil {
		return Config{}, nil, err
	}
	return c, c.compile(), nil
}

// compile compiles a valid document.
func (c Config) compile() *Table {
	t := &Table{uplink: c.Uplink.withDefaults(), rules: make([]Rule, len(c.Routes))}
	defaults := c.withDefaults()
	shared := sharing{texts: map[string]Text{}, recorded: compileRecorded(RecordHeaders{})}
	for i, route := range c.Routes {
		rule, err := shared.compileRule(i, route.Name, route.Match, route.over(defaults))
		if err != nil {
			panic(fmt.Sprintf("BUG: routes[%d] is valid and does not compile: %v", i, err))
		}
		t.rules[i] = rule
	}
	t.index = newIndex(t.rules)
	return t
}

// Uplink returns the document's uplink with defaults filled in.
func (t *Table) Uplink() Uplink {
	return t.uplink
}

// sharing keeps what thousands of routes have in common, most often by default, from being there thousands of times: the
// filter's garbage collector looks at all of a table again and again.
type sharing struct {
	texts   map[string]Text
	regexes regexes
	// headers are those of the last route, and recorded what came of them.
	headers  RecordHeaders
	recorded recorded
}

func (s *sharing) text(format string) (Text, error) {
	if t, ok := s.texts[format]; ok {
		return t, nil
	}
	t, err := parseText(format)
	s.texts[format] = t
	return t, err
}

func (s *sharing) recordedOf(h RecordHeaders) recorded {
	same := (h.Allow == nil) == (s.headers.Allow == nil) && slices.Equal(h.Allow, s.headers.Allow) && slices.Equal(h.Deny, s.headers.Deny)
	if !same {
		s.headers, s.recorded = h, compileRecorded(h)
	}
	return s.recorded
}

// compileRule compiles the route of this number; p has every default filled in.
func (s *sharing) compileRule(number int, name string, m Match, p Policy) (rule Rule, err error) {
	rule = Rule{
		Name:        name,
		Mode:        p.Mode,
		Topic:       p.Topic,
		Ack:         p.Ack,
		AckTimeout:  time.Duration(p.AckTimeout),
		MaxBody:     int(p.MaxBody),
		Status:      p.Answer.Status,
		ContentType: p.Answer.ContentType,
		number:      number,
		methods:     slices.Clone(m.Methods),
		sample:      *p.Sample,
		recorded:    s.recordedOf(p.RecordHeaders),
	}
	if p.Mode == ModeMirror {
		rule.Ack = LevelMemory
	}
	if p.RateLimit != nil {
		rule.RateLimit = new(p.RateLimit.withDefaults())
	}
	if rule.Body, err = s.text(*p.Answer.Body); err != nil {
		return Rule{}, err
	}
	if rule.Body.empty() {
		rule.ContentType = ""
	}
	for _, h := range p.Answer.Headers {
		value, err := s.text(h.Value)
		if err != nil {
			return Rule{}, err
		}
		rule.Headers = append(rule.Headers, TextHeader{strings.ToLower(h.Name), value})
	}
	if rule.path, err = compilePath(m, &s.regexes); err != nil {
		return Rule{}, err
	}
	if rule.hosts, err = compileHosts(m.Hosts); err != nil {
		return Rule{}, err
	}
	if rule.headers, err = s.compileConditions(m.Headers, strings.ToLower); err != nil {
		return Rule{}, err
	}
	if rule.params, err = s.compileConditions(m.QueryParameters, strings.Clone); err != nil {
		return Rule{}, err
	}
	rule.key, err = parseKey(p.Key)
	return rule, err
}

// compileHosts returns nil for any host.
func compileHosts(hosts []string) (patterns []hostPattern, err error) {
	for _, h := range hosts {
		pattern, err := parseHost(h)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, pattern)
	}
	if slices.ContainsFunc(patterns, func(p hostPattern) bool { return p.kind == hostAny }) {
		return nil, nil
	}
	return patterns, nil
}

func compilePath(m Match, all *regexes) (p pathCondition, err error) {
	switch {
	case m.PathTemplate != "":
		p.written = m.PathTemplate
		p.template, err = parseTemplate(m.PathTemplate)
	case m.SafeRegex != "":
		p.written = m.SafeRegex
		p.regex, err = all.compile(m.SafeRegex)
	default:
		p.exact, p.prefix = m.Path, m.Prefix
	}
	return p, err
}

// Key returns the Kafka key of a request's record, nil for the null key.
//
// An operator takes the first header of its name. A format without operators is the same key for all; one whose
// operators all find nothing is the null key; one that finds only some has nothing in the others' place.
func (r *Rule) Key(request *Request) []byte {
	return r.key.of(request, r.path.template)
}
