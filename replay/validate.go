package replay

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/marceloboeira/crowd/replay/internal/request"
	"github.com/marceloboeira/crowd/xds/route"
)

// The bounds of a configuration. What is beyond them is a mistake, of a unit most often.
const (
	maxConcurrency = 10_000
	maxTimeout     = time.Hour
	maxAttempts    = 1_000_000
	maxOutcomes    = 10_000 // that a circuit breaker looks back
	leastBuffer    = 1 << 20
	maxTopicLength = 249 // Kafka's bound (org.apache.kafka.common.internals.Topic)
	maxPattern     = 1024
)

// Validate returns everything that is wrong with c. Paths are those of a file's fields, of which a flag has the last name.
// It implements route.Document.
func (c Config) Validate() []route.FieldError {
	var r report
	for _, required := range []struct {
		field, allowed string
		missing        bool
	}{
		{"kafka", "the cluster's bootstrap servers, host:port", len(c.Kafka) == 0},
		{"group", "the name of a consumer group", c.Group == ""},
		{"topics", "at least one topic", len(c.Topics) == 0},
		{"target", "an http or https URL", c.Target == ""},
		{"rate", `a number of requests a second, such as 50 or 300/m, or "unlimited"`, c.Rate == nil},
	} {
		if required.missing {
			r.addf(required.field, "is missing (allowed: %s)", required.allowed)
		}
	}
	c.validateGiven(&r)
	return r
}

// validateGiven checks what is there, in the order of the fields.
func (c Config) validateGiven(r *report) {
	c.validateSource(r)
	c.validateTarget(r)
	c.Limits.validate(r)
	c.validateFailures(r)
	validateRange(r, "max_buffer_bytes", c.MaxBufferBytes, leastBuffer, math.MaxInt64)
	if c.Admin != "" {
		if _, _, err := net.SplitHostPort(c.Admin); err != nil {
			r.addf("admin", "%.80q is not an address (allowed: host:port, or :port)", c.Admin)
		}
	}
	validateDuration(r, "drain_timeout", c.DrainTimeout)
}

// report gathers what is wrong.
type report []route.FieldError

func (r *report) addf(path, format string, args ...any) {
	*r = append(*r, route.FieldError{Path: path, Message: fmt.Sprintf(format, args...)})
}

// add reports err, if there is one.
func (r *report) add(path string, err error) {
	if err != nil {
		r.addf(path, "%v", err)
	}
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// validateSource checks where records come from, and which.
func (c Config) validateSource(r *report) {
	for i, server := range c.Kafka {
		host, port, err := net.SplitHostPort(server)
		if n, errPort := strconv.ParseUint(port, 10, 16); err != nil || host == "" || errPort != nil || n == 0 {
			r.addf(item("kafka", i), "%.80q is not a server's address (allowed: host:port)", server)
		}
	}
	full := c.withDefaults()
	for i, topic := range c.Topics {
		at := item("topics", i)
		r.add(at, checkTopic(topic))
		switch {
		case slices.Contains(c.Topics[:i], topic):
			r.addf(at, "%q is given twice (allowed: once)", topic)
		case topic == full.DeadLetterTopic:
			r.addf(at, "%q is the dead-letter topic (allowed: others; from_dead_letter sends its records again)", topic)
		}
	}
	if c.DeadLetterTopic != "" {
		r.add("dead_letter_topic", checkTopic(c.DeadLetterTopic))
	}
	since, errSince := parseMoment(c.Since, time.Now())
	until, errUntil := parseMoment(c.Until, time.Now())
	r.add("since", errSince)
	r.add("until", errUntil)
	if errSince == nil && errUntil == nil && !since.IsZero() && !until.IsZero() && !since.Before(until) {
		r.addf("until", "%q is not after since, %q (allowed: a later time)", c.Until, c.Since)
	}
	c.Filter.validate(r)
}

func checkTopic(name string) error {
	const characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if name == "" || name == "." || name == ".." || len(name) > maxTopicLength || strings.Trim(name, characters) != "" {
		return fmt.Errorf(`%.80q is not a topic's name (allowed: up to %d of a-z, A-Z, 0-9, ., _ and -, but not "." or "..")`, name, maxTopicLength)
	}
	return nil
}

// parseMoment reads a time of RFC 3339, or a duration before now; the zero time for "".
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	before, err := time.ParseDuration(text)
	if err != nil || before < 0 {
		return time.Time{}, fmt.Errorf("%.80q is not a time (allowed: one such as 2026-11-28T09:00:00Z, or a duration before now such as 90m)", text)
	}
	return now.Add(-before), nil
}

// validateTarget checks where requests go, and what is changed of them.
func (c Config) validateTarget(r *report) {
	target, err := url.Parse(c.Target)
	switch {
	case c.Target == "":
		target = &url.URL{Scheme: "https"} // complained of already; nothing else is wrong for it
	case err != nil, target.Scheme != "http" && target.Scheme != "https", target.Hostname() == "", !validPort(target):
		// It is not repeated: it may hold a password.
		r.addf("target", "is not a target (allowed: http:// or https://, a host, and if need be a port and a path)")
		target = &url.URL{Scheme: "https"}
	case target.User != nil:
		r.addf("target", "has a user (allowed: a URL without one; rewrite.request_headers.set can give authorization)")
	case strings.ContainsAny(c.Target, "?#"):
		r.addf("target", "has a query or a fragment (allowed: a URL without them)")
	}
	if c.Protocol != "" {
		r.add("protocol", new(Protocol).UnmarshalText([]byte(c.Protocol)))
	}
	for _, given := range []struct{ field, value string }{
		{"ca", c.TLS.CA}, {"cert", c.TLS.Cert}, {"key", c.TLS.Key}, {"server_name", c.TLS.ServerName},
	} {
		if target.Scheme == "http" && given.value != "" {
			r.addf("tls."+given.field, "means nothing for http (allowed: a target with https, or leave it out)")
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		field, other := "cert", "key"
		if c.TLS.Cert == "" {
			field, other = other, field
		}
		r.addf("tls."+field, "goes with tls.%s, which is missing (allowed: both, or none)", other)
	}
	validateDuration(r, "timeout", c.Timeout)
	c.Rewrite.validate(r)
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

func (w Rewrite) validate(r *report) {
	if host := w.HostRewriteLiteral; host != "" {
		if u, err := url.Parse("//" + host); err != nil || u.Host != host || u.Hostname() == "" || !httpguts.ValidHostHeader(host) {
			r.addf("rewrite.host_rewrite_literal", "%.80q is not a host (allowed: a host, and if need be a port)", host)
		}
	}
	for i, rewrite := range w.PathRewrites {
		at := item("rewrite.path_rewrites", i)
		switch pattern, err := rewrite.pattern(); {
		case rewrite.Pattern == "":
			r.addf(at+".pattern", "is missing (allowed: an RE2 expression)")
		case err != nil:
			r.add(at+".pattern", err)
		default:
			_, err := expansion(rewrite.Substitution, pattern.NumSubexp())
			r.add(at+".substitution", err)
		}
	}
	var names []string
	for i, header := range w.RequestHeaders.Set {
		at := item("rewrite.request_headers.set", i)
		r.add(at+".name", checkHeaderName(header.Name, names))
		names = append(names, strings.ToLower(header.Name))
		switch {
		case header.Value == "" && header.File == "":
			r.addf(at, "has no value (allowed: one of value, file)")
		case header.Value != "" && header.File != "":
			r.addf(at, "has two values (allowed: one of value, file)")
		case !httpguts.ValidHeaderFieldValue(header.Value):
			r.addf(at+".value", "has a control character (allowed: printable characters)")
		}
	}
	for i, name := range w.RequestHeaders.Remove {
		r.add(item("rewrite.request_headers.remove", i), checkHeaderName(name, names))
		names = append(names, strings.ToLower(name))
	}
}

// checkHeaderName checks a name that must not be one of those taken, which are in lower case.
func checkHeaderName(name string, taken []string) error {
	switch lower := strings.ToLower(name); {
	case name == "":
		return fmt.Errorf("is missing (allowed: the name of a header)")
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("%.80q is not a header's name (allowed: letters, digits and !#$%%&'*+-.^_`|~)", name)
	case lower == "host":
		return fmt.Errorf("%q cannot be changed as a header (allowed: rewrite.host_rewrite_literal instead)", name)
	case request.MadeHere(lower):
		return fmt.Errorf("%q is made for each request (allowed: other headers)", name)
	case slices.Contains(taken, lower):
		return fmt.Errorf("%.80q is changed twice (allowed: once)", name)
	}
	return nil
}

// pattern compiles the pattern, which holds anywhere in a path.
func (w RegexRewrite) pattern() (*regexp.Regexp, error) {
	if len(w.Pattern) > maxPattern {
		return nil, fmt.Errorf("is %d bytes long (allowed: at most %d)", len(w.Pattern), maxPattern)
	}
	if _, err := route.CompileRegex(w.Pattern); err != nil { // which bounds it, and says well what is wrong
		return nil, err
	}
	return regexp.Compile(w.Pattern)
}

// expansion makes a template for regexp.Expand of Envoy's substitution, for a pattern with so many groups.
func expansion(substitution string, groups int) (string, error) {
	var made strings.Builder
	for i := 0; i < len(substitution); i++ {
		switch c := substitution[i]; {
		case c == '$':
			made.WriteString("$$")
		case c != '\\':
			made.WriteByte(c)
		case i+1 == len(substitution):
			return "", fmt.Errorf(`ends with a single backslash (allowed: \0 to \%d for groups, \\ for a backslash)`, min(groups, 9))
		default:
			i++
			switch c := substitution[i]; {
			case c == '\\':
				made.WriteByte(c)
			case c < '0' || int(c-'0') > min(groups, 9):
				return "", fmt.Errorf(`has a backslash before %q (allowed: \0 to \%d for groups, \\ for a backslash)`, c, min(groups, 9))
			default:
				made.WriteString("${" + string(c) + "}")
			}
		}
	}
	return made.String(), nil
}

func (l Limits) validate(r *report) {
	validateRate := func(path string, rate *Rate, least Rate) {
		if rate != nil && (!(*rate >= least) || *rate == 0 && least > 0) {
			r.addf(path, `is %v (allowed: more than 0, or "unlimited")`, *rate)
		}
	}
	const some = Rate(math.SmallestNonzeroFloat64)
	validateRate("rate", l.Rate, some)
	validateRange(r, "concurrency", l.Concurrency, 1, maxConcurrency)
	validateRate("key_rate", l.KeyRate, some)
	for i, of := range l.RouteRates {
		at := item("route_rates", i)
		switch {
		case of.Route == "":
			r.addf(at+".route", "is missing (allowed: the name of a route)")
		case slices.ContainsFunc(l.RouteRates[:i], func(other RouteRate) bool { return other.Route == of.Route }):
			r.addf(at+".route", "%.80q is given twice (allowed: once)", of.Route)
		}
		if of.Rate == nil {
			r.addf(at+".rate", "is missing (allowed: a number of requests a second, such as 50 or 300/m)")
		}
		validateRate(at+".rate", of.Rate, some)
	}
	for i, window := range l.Schedule {
		at := item("schedule", i)
		for j, day := range window.Days {
			if !slices.Contains(weekdays, day) {
				r.add(item(at+".days", j), new(Weekday).UnmarshalText([]byte(day)))
			}
		}
		for _, end := range []struct {
			field string
			at    *TimeOfDay
		}{{"from", window.From}, {"to", window.To}} {
			switch {
			case end.at == nil:
				r.addf(at+"."+end.field, "is missing (allowed: a time of day such as 22:00)")
			case *end.at < 0 || *end.at >= TimeOfDay(24*time.Hour):
				r.addf(at+"."+end.field, "is %v after midnight (allowed: 00:00 to 23:59)", time.Duration(*end.at))
			}
		}
		if window.From != nil && window.To != nil && *window.From == *window.To {
			r.addf(at+".to", "is the same as from (allowed: another time; for whole days, the limits without a schedule)")
		}
		validateRate(at+".rate", window.Rate, 0)
		validateRange(r, at+".concurrency", window.Concurrency, 1, maxConcurrency)
	}
	_, err := l.location()
	r.add("time_zone", err)
}

// validateFailures checks what answers mean, and what becomes of records that fail.
func (c Config) validateFailures(r *report) {
	if c.Order != "" {
		r.add("order", new(Order).UnmarshalText([]byte(c.Order)))
	}
	for _, list := range []struct {
		field    string
		statuses []Statuses
	}{{"expected_statuses", c.ExpectedStatuses}, {"retry.retriable_status_codes", c.Retry.RetriableStatusCodes}} {
		for i, s := range list.statuses {
			if s.From < 200 || s.To > 599 || s.From > s.To {
				r.addf(item(list.field, i), "is %d to %d (allowed: 200 to 599)", s.From, s.To)
			}
		}
	}
	full := c.withDefaults()
	validateRange(r, "retry.max_attempts", c.Retry.MaxAttempts, 1, maxAttempts)
	if c.Retry.MaxAge < 0 {
		r.addf("retry.max_age", "is %v (allowed: more than 0s)", c.Retry.MaxAge)
	}
	validateDuration(r, "retry.initial_backoff", c.Retry.InitialBackoff)
	validateDuration(r, "retry.max_backoff", c.Retry.MaxBackoff)
	validateOrder(r, "retry.max_backoff", full.Retry.InitialBackoff, full.Retry.MaxBackoff, "initial_backoff")
	validateRange(r, "circuit_breaker.failures", c.CircuitBreaker.Failures, 1, maxOutcomes)
	validateRange(r, "circuit_breaker.of", c.CircuitBreaker.Of, 1, maxOutcomes)
	validateOrder(r, "circuit_breaker.of", full.CircuitBreaker.Failures, full.CircuitBreaker.Of, "failures")
	validateDuration(r, "circuit_breaker.delay", c.CircuitBreaker.Delay)
	validateDuration(r, "circuit_breaker.max_delay", c.CircuitBreaker.MaxDelay)
	validateOrder(r, "circuit_breaker.max_delay", full.CircuitBreaker.Delay, full.CircuitBreaker.MaxDelay, "delay")
}

// validateRange checks a number that is absent at 0.
func validateRange[T ~int | ~int64](r *report, path string, n, least, most T) {
	switch {
	case n == 0 || n >= least && n <= most:
	case int64(most) == math.MaxInt64:
		r.addf(path, "is %v (allowed: at least %v)", n, least)
	default:
		r.addf(path, "is %v (allowed: %v to %v)", n, least, most)
	}
}

// validateDuration checks a duration that is absent at 0.
func validateDuration(r *report, path string, d route.Duration) {
	if d < 0 || time.Duration(d) > maxTimeout {
		r.addf(path, "is %v (allowed: more than 0s, at most %v)", d, maxTimeout)
	}
}

// validateOrder checks that more is not less than what the field of that name has.
func validateOrder[T ~int | ~int64](r *report, path string, less, more T, name string) {
	if less > more && less > 0 && more > 0 {
		r.addf(path, "is %v, less than %s, %v (allowed: at least that)", more, name, less)
	}
}
