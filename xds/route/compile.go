package route

import (
	"fmt"
	"regexp"
	"slices"
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
	Name  string
	Topic string
	Ack   Level
	// AckTimeout is how long a request waits for its Ack, if that is not LevelMemory.
	AckTimeout time.Duration
	// MaxBody is in bytes.
	MaxBody int
	// Status, Body and ContentType are the answer. The ContentType is empty when the Body is: nothing has
	// no type, and clients that see one parse.
	Status      int
	Body        []byte
	ContentType string

	path    pathCondition
	hosts   []hostPattern
	methods []string
	headers []headerCondition
	key     keyFormat
}

// pathCondition is one of three.
type pathCondition struct {
	exact  string
	prefix string
	regex  *regexp.Regexp
	// written is the regex as the document has it.
	written string
}

// Compile validates a document and makes it ready for matching. The error joins everything that is wrong, as
// FieldErrors.
func Compile(c Config) (*Table, error) {
	if err := joinErrors(c.Validate()); err != nil {
		return nil, err
	}
	t := &Table{uplink: c.Uplink.withDefaults(), rules: make([]Rule, len(c.Routes))}
	defaults := c.Defaults.withDefaults()
	for i, route := range c.Routes {
		rule, err := compileRule(route.withDefaults(defaults))
		if err != nil {
			panic(fmt.Sprintf("BUG: routes[%d] is valid and does not compile: %v", i, err))
		}
		t.rules[i] = rule
	}
	t.index = newIndex(t.rules)
	return t, nil
}

// Uplink returns the document's uplink with defaults filled in.
func (t *Table) Uplink() Uplink {
	return t.uplink
}

// compileRule compiles a route that has every default filled in.
func compileRule(r Route) (Rule, error) {
	rule := Rule{
		Name:        r.Name,
		Topic:       r.Topic,
		Ack:         r.Ack,
		AckTimeout:  time.Duration(r.AckTimeout),
		MaxBody:     int(r.MaxBody),
		Status:      r.Answer.Status,
		Body:        []byte(*r.Answer.Body),
		ContentType: r.Answer.ContentType,
		path:        pathCondition{exact: r.Match.Path, prefix: r.Match.Prefix, written: r.Match.SafeRegex},
		methods:     slices.Clone(r.Match.Methods),
	}
	if len(rule.Body) == 0 {
		rule.ContentType = ""
	}
	var err error
	if r.Match.SafeRegex != "" {
		if rule.path.regex, err = compileRegex(r.Match.SafeRegex); err != nil {
			return Rule{}, err
		}
	}
	for _, h := range r.Match.Hosts {
		pattern, err := parseHost(h)
		if err != nil {
			return Rule{}, err
		}
		rule.hosts = append(rule.hosts, pattern)
	}
	for _, h := range r.Match.Headers {
		condition, err := compileHeader(h)
		if err != nil {
			return Rule{}, err
		}
		rule.headers = append(rule.headers, condition)
	}
	rule.key, err = parseKey(r.Key)
	return rule, err
}

// Key returns the Kafka key of a request's record, nil for the null key.
//
// An operator takes the first header of its name. A format without operators is the same key for all; one whose
// operators all find nothing is the null key; one that finds only some has nothing in the others' place.
func (r *Rule) Key(request *Request) []byte {
	return r.key.of(request)
}
