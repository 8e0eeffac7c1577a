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
	// Matched says whether all its conditions hold. The first route of which they do takes the request.
	Matched bool
	// Reason is the first condition that does not hold, or what the match comes to, in words.
	Reason string
}

// Explain says for every route, in order, whether it matches and why. The first Step that Matched is the route
// that Match returns.
func (t *Table) Explain(r *Request) []Step {
	steps := make([]Step, len(t.rules))
	taker, never := "", neverAbsorbed(r)
	for i := range t.rules {
		rule := &t.rules[i]
		failure := cmp.Or(never, rule.failure(r))
		steps[i] = Step{Route: rule.Name, Matched: failure == "", Reason: failure}
		switch {
		case failure != "":
		case taker == "":
			taker = rule.Name
			steps[i].Reason = "takes the request: topic " + rule.Topic
		default:
			steps[i].Reason = "would match too, but " + taker + " comes first"
		}
	}
	return steps
}

// failure returns the first condition that does not hold, "" if all do.
func (r *Rule) failure(request *Request) string {
	path, host := pathOf(request.Path), hostOf(request.Authority)
	switch {
	case !r.path.fits(path):
		return r.path.failure(path)
	case !r.methodFits(request.Method):
		return fmt.Sprintf("method %s is not %s", cmp.Or(request.Method, `""`), strings.Join(r.methods, " or "))
	case !r.hostFits(host):
		return fmt.Sprintf("host %q is not %s", host, joinHosts(r.hosts))
	}
	if header := r.failingHeader(request); header != nil {
		return header.failure(request)
	}
	return ""
}

func (p *pathCondition) failure(path string) string {
	switch {
	case p.exact != "":
		return fmt.Sprintf("path %q is not %q", path, p.exact)
	case p.prefix != "":
		return fmt.Sprintf("path %q does not begin with %q", path, p.prefix)
	default:
		return fmt.Sprintf("path %q is not as safe_regex %q wants it, as a whole", path, p.written)
	}
}

func joinHosts(hosts []hostPattern) string {
	var texts []string
	for _, pattern := range hosts {
		texts = append(texts, pattern.String())
	}
	return strings.Join(texts, " or ")
}

func (c *headerCondition) failure(r *Request) string {
	value, present := r.joined(c.name)
	switch {
	case !present:
		return fmt.Sprintf("header %s is absent", c.name)
	case c.kind == headerAbsent:
		return fmt.Sprintf("header %s is present", c.name)
	case c.kind == headerExact:
		return fmt.Sprintf("header %s is %q, not %q", c.name, value, c.text)
	case c.kind == headerPrefix:
		return fmt.Sprintf("header %s is %q and does not begin with %q", c.name, value, c.text)
	default:
		return fmt.Sprintf("header %s is %q, not as safe_regex %q wants it, as a whole", c.name, value, c.text)
	}
}
