package route

import (
	"cmp"
	"fmt"
	"strings"
)

// Step says what one route makes of a request.
type Step struct {
	// Route is the route's name.
	Route string
	// Matched says whether all its conditions hold. The first route of which they do takes the request, or its share of
	// such requests.
	Matched bool
	// Sample is the share that a route takes of what it matches.
	Sample Percent
	// Reason is the first condition that does not hold, or what the match comes to, in words.
	Reason string
}

// Takes reports whether the route takes every such request that comes to it.
func (s Step) Takes() bool { return s.Matched && s.Sample == whole }

// Explain says for every route, in order, whether it matches and why, whatever the request has drawn. The first Step that
// Matched, where its sample takes the request, is the route that Match returns.
func (t *Table) Explain(r *Request) []Step {
	steps := make([]Step, len(t.rules))
	taker, never := "", neverAbsorbed(r)
	for i := range t.rules {
		rule := &t.rules[i]
		failure := cmp.Or(never, rule.failure(r))
		steps[i] = Step{Route: rule.Name, Matched: failure == "", Sample: rule.sample, Reason: failure}
		switch {
		case failure != "":
		case taker != "":
			steps[i].Reason = "would match too, but " + taker + " comes first"
		case rule.sample < whole:
			steps[i].Reason = fmt.Sprintf("%s %s of such requests: topic %s", rule.verb(), rule.sample, rule.Topic)
		default:
			taker = rule.Name
			steps[i].Reason = fmt.Sprintf("%s the request: topic %s", rule.verb(), rule.Topic)
		}
	}
	return steps
}

func (r *Rule) verb() string {
	if r.Mode == ModeMirror {
		return "copies"
	}
	return "takes"
}

// failure returns the first condition that does not hold, "" if all do.
func (r *Rule) failure(request *Request) string {
	path, host := pathOf(request.Path), lower(hostOf(request.Authority))
	switch {
	case !r.path.fits(path):
		return r.path.failure(path)
	case !r.methodFits(request.Method):
		return fmt.Sprintf("method %s is not %s", cmp.Or(request.Method, `""`), strings.Join(r.methods, " or "))
	case !r.hostFits(host):
		return fmt.Sprintf("host %q is not %s", host, joinHosts(r.hosts))
	}
	if c := r.failingHeader(request); c != nil {
		var values []string
		for _, h := range request.Headers {
			if h[0] == c.name {
				values = append(values, h[1])
			}
		}
		return "header " + c.failure(values)
	}
	if c := r.failingParameter(request); c != nil {
		var values []string
		if value, present := request.parameter(c.name); present {
			values = []string{value}
		}
		return "query parameter " + c.failure(values)
	}
	return ""
}

func (p *pathCondition) failure(path string) string {
	switch {
	case p.exact != "":
		return fmt.Sprintf("path %q is not %q", path, p.exact)
	case p.prefix != "":
		return fmt.Sprintf("path %q does not begin with %q", path, p.prefix)
	case p.regex != nil:
		return fmt.Sprintf("path %q is not as safe_regex %q wants it, as a whole", path, p.written)
	default:
		return fmt.Sprintf("path %q is not of path_template %q", path, p.written)
	}
}

func joinHosts(hosts []hostPattern) string {
	var texts []string
	for _, pattern := range hosts {
		texts = append(texts, pattern.String())
	}
	return strings.Join(texts, " or ")
}

// failure says why the condition does not hold for values, none of which fits.
func (c *condition) failure(values []string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = fmt.Sprintf("%q", value)
	}
	is := c.name + " is " + strings.Join(quoted, " and ")
	switch {
	case len(values) == 0:
		return c.name + " is absent"
	case c.kind == valueAbsent:
		return c.name + " is present"
	case c.kind == valueExact:
		return fmt.Sprintf("%s, not %q", is, c.text)
	case c.kind == valuePrefix:
		return fmt.Sprintf("%s, and does not begin with %q", is, c.text)
	default:
		return fmt.Sprintf("%s, not as safe_regex %q wants it, as a whole", is, c.text)
	}
}
