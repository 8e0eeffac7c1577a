package route

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxNameLength  = 64
	maxTopicLength = 249 // Kafka's bound (org.apache.kafka.common.internals.Topic)

	maxMaxBufferBytes = Size(256 << 20) // Envoy gives a VM 1 GiB, and Go's heap may be twice what it holds
	// maxMaxBatchBytes keeps every batch below the largest message of the stream, as MaxMaxBody does records.
	maxMaxBatchBytes = MaxMaxBody
	// recordOverhead is room for a record's headers and framing beside its body.
	recordOverhead = Size(1 << 20)

	maxStreams = 8 // each is a connection, a window and a lane's batch under way, of every worker
	// maxAckTimeout is longer than clients and proxies wait, and a request that waits holds its place in the
	// buffer: beyond it somebody mistook the unit.
	maxAckTimeout = Duration(time.Hour)
)

const alphanumerics = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// Validate returns everything that is wrong with the document, in the order of its fields; nil if nothing is.
// Each message says what is allowed. Positions are not filled in.
func (c Config) Validate() []FieldError {
	var r report
	c.Uplink.validate(&r, "uplink")
	c.validateBuffer(&r)
	c.Defaults.validate(&r, "defaults", c.Uplink.Spool)
	if c.Routes == nil {
		r.addf("routes", "is missing (allowed: a list of routes, [] for none)")
	}
	names, defaults := make(map[string]int, len(c.Routes)), c.Defaults.withDefaults()
	for i, route := range c.Routes {
		path := itemPath("routes", i)
		route.validate(&r, path, defaults, c.Uplink.Spool)
		if first, taken := names[route.Name]; taken {
			r.addf(fieldPath(path, "name"), "%s is the name of routes[%d] too (allowed: a name of its own)", quote(route.Name), first)
		} else if route.Name != "" {
			names[route.Name] = i
		}
	}
	return r
}

func (u Uplink) validate(r *report, path string) {
	if strings.ContainsFunc(u.Cluster, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.addf(fieldPath(path, "cluster"), "%s is not a cluster's name (allowed: printable ASCII without spaces)", quote(u.Cluster))
	}
	if u.Streams < 0 || u.Streams > maxStreams {
		r.addf(fieldPath(path, "streams"), "is %d (allowed: 1 to %d)", u.Streams, maxStreams)
	}
	r.add(fieldPath(path, "spool"), checkSpool(u.Spool))
	validateSize(r, fieldPath(path, "max_buffer_bytes"), u.MaxBufferBytes, maxMaxBufferBytes)
	validateSize(r, fieldPath(path, "max_batch_bytes"), u.MaxBatchBytes, maxMaxBatchBytes)
	if full := u.withDefaults(); full.MaxBatchBytes > full.MaxBufferBytes {
		r.addf(fieldPath(path, "max_batch_bytes"), "is %s, more than max_buffer_bytes (allowed: at most %s)", full.MaxBatchBytes, full.MaxBufferBytes)
	}
	if u.UnreachableTimeout < 0 {
		r.addf(fieldPath(path, "unreachable_timeout"), "is %s (allowed: more than 0s)", u.UnreachableTimeout)
	}
}

// validateBuffer holds the buffer to the largest record that it must take.
func (c Config) validateBuffer(r *report) {
	largest, holder, defaults := Size(0), 0, c.Defaults.withDefaults()
	for i, route := range c.Routes {
		if size := route.withDefaults(defaults).MaxBody; size > largest {
			largest, holder = size, i
		}
	}
	buffer, need := c.Uplink.withDefaults().MaxBufferBytes, min(largest, MaxMaxBody)+recordOverhead
	if buffer < need && largest > 0 {
		r.addf("uplink.max_buffer_bytes", "is %s, too little for the bodies of routes[%d] (allowed: at least %s, their max_body and %s)",
			buffer, holder, need, recordOverhead)
	}
}

// validateSize checks a size that is absent at 0.
func validateSize(r *report, path string, size, most Size) {
	if size < 0 || size > most {
		r.addf(path, "is %s (allowed: more than 0, at most %s)", size, most)
	}
}

// validateAckTimeout checks a duration that is absent at 0.
func validateAckTimeout(r *report, path string, timeout Duration) {
	if timeout < 0 || timeout > maxAckTimeout {
		r.addf(path, "is %s (allowed: more than 0s, at most %s)", timeout, maxAckTimeout)
	}
}

func (d Defaults) validate(r *report, path string, spool Spool) {
	r.add(fieldPath(path, "ack"), checkAck(d.Ack, spool))
	validateAckTimeout(r, fieldPath(path, "ack_timeout"), d.AckTimeout)
	validateSize(r, fieldPath(path, "max_body"), d.MaxBody, MaxMaxBody)
	d.Answer.validate(r, fieldPath(path, "answer"), *Defaults{}.withDefaults().Answer)
}

func (route Route) validate(r *report, path string, d Defaults, spool Spool) {
	r.add(fieldPath(path, "name"), checkName(route.Name))
	route.Match.validate(r, fieldPath(path, "match"))
	r.add(fieldPath(path, "topic"), checkTopic(route.Topic))
	_, err := parseKey(route.Key)
	r.add(fieldPath(path, "key"), err)
	r.add(fieldPath(path, "ack"), checkAck(route.Ack, spool))
	validateAckTimeout(r, fieldPath(path, "ack_timeout"), route.AckTimeout)
	validateSize(r, fieldPath(path, "max_body"), route.MaxBody, MaxMaxBody)
	route.Answer.validate(r, fieldPath(path, "answer"), *d.Answer)
}

// checkSpool lets the absent one pass.
func checkSpool(spool Spool) error {
	if spool == "" {
		return nil
	}
	return new(Spool).UnmarshalText([]byte(spool))
}

// checkAck checks a level where it is written, so that one of the defaults is complained of once and there. It
// lets the absent one pass.
func checkAck(level Level, spool Spool) error {
	switch {
	case level == "":
		return nil
	case level == LevelDisk && spool == SpoolOff:
		return errors.New("is disk, which needs the collectors' spool, and uplink.spool is off (allowed: memory, kafka, or uplink.spool: on)")
	}
	return new(Level).UnmarshalText([]byte(level))
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is missing (allowed: a name of its own for each route)")
	case len(name) > maxNameLength || strings.Trim(name, alphanumerics+"_.-") != "":
		return fmt.Errorf("%s is not a name (allowed: up to %d of a-z, A-Z, 0-9, _, . and -)", quote(name), maxNameLength)
	}
	return nil
}

func checkTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("is missing (allowed: the name of a Kafka topic)")
	case topic == "." || topic == ".." || len(topic) > maxTopicLength || strings.Trim(topic, alphanumerics+"._-") != "":
		return fmt.Errorf(`%s is not a topic's name (allowed: up to %d of a-z, A-Z, 0-9, ., _ and -, but not "." or "..")`, quote(topic), maxTopicLength)
	}
	return nil
}

// validate checks an answer that takes from base what it leaves out; a may be nil.
func (a *Answer) validate(r *report, path string, base Answer) {
	if a == nil {
		return
	}
	full := a.over(base)
	if a.Status != 0 && (a.Status < 200 || a.Status > 299) {
		r.addf(fieldPath(path, "status"), "is %d (allowed: 200 to 299)", a.Status)
	}
	if (full.Status == 204 || full.Status == 205) && *full.Body != "" {
		r.addf(path, `has status %d, which goes without a body (allowed: body: "")`, full.Status)
	}
	if strings.ContainsFunc(a.ContentType, isControl) {
		r.addf(fieldPath(path, "content_type"), "%s has a control character (allowed: a media type such as text/plain)", quote(a.ContentType))
	}
}

func isControl(c rune) bool {
	return c < ' ' || c == 0x7f
}

func (m Match) validate(r *report, path string) {
	var given []string
	for _, kind := range []struct{ name, value string }{{"path", m.Path}, {"prefix", m.Prefix}, {"safe_regex", m.SafeRegex}} {
		if kind.value != "" {
			given = append(given, kind.name)
		}
	}
	if len(given) == 0 {
		r.addf(path, "says nothing of the path (allowed: exactly one of path, prefix, safe_regex)")
	} else if len(given) > 1 {
		r.addf(path, "has %s (allowed: exactly one of path, prefix, safe_regex)", strings.Join(given, " and "))
	}
	r.add(fieldPath(path, "path"), checkPath(m.Path))
	r.add(fieldPath(path, "prefix"), checkPath(m.Prefix))
	if m.SafeRegex != "" {
		_, err := compileRegex(m.SafeRegex)
		r.add(fieldPath(path, "safe_regex"), err)
	}
	for i, host := range m.Hosts {
		_, err := parseHost(host)
		r.add(itemPath(fieldPath(path, "hosts"), i), err)
	}
	for i, method := range m.Methods {
		if !isToken(method) || method != strings.ToUpper(method) {
			r.addf(itemPath(fieldPath(path, "methods"), i), "%s is not a method (allowed: an HTTP method in upper case, such as POST)", quote(method))
		}
	}
	for i, header := range m.Headers {
		header.validate(r, itemPath(fieldPath(path, "headers"), i))
	}
}

// checkPath checks a path or prefix; it lets the absent one pass.
func checkPath(path string) error {
	switch {
	case path == "":
		return nil
	case path[0] != '/':
		return fmt.Errorf("%s is not a path (allowed: to begin with /)", quote(path))
	case strings.ContainsAny(path, "?#"):
		return fmt.Errorf("%s has a query or fragment (allowed: the path without them)", quote(path))
	}
	return nil
}

func (h HeaderMatch) validate(r *report, path string) {
	r.add(fieldPath(path, "name"), checkHeaderName(h.Name))
	var given []string
	if h.Exact != nil {
		given = append(given, "exact")
	}
	if h.Prefix != nil {
		given = append(given, "prefix")
		if *h.Prefix == "" {
			r.addf(fieldPath(path, "prefix"), "is empty (allowed: some text, or present: true instead)")
		}
	}
	if h.SafeRegex != nil {
		given = append(given, "safe_regex")
		_, err := compileRegex(*h.SafeRegex)
		r.add(fieldPath(path, "safe_regex"), err)
	}
	if h.Present != nil {
		given = append(given, "present")
	}
	if len(given) > 1 {
		r.addf(path, "has %s (allowed: at most one of exact, prefix, safe_regex, present)", strings.Join(given, " and "))
	}
}

func checkHeaderName(name string) error {
	switch {
	case name == "":
		return errors.New("is missing (allowed: the name of a header)")
	case name[0] == ':' || strings.EqualFold(name, "host"):
		return fmt.Errorf("%s is not matched as a header (allowed: hosts, methods and path instead)", quote(name))
	case !isToken(name):
		return fmt.Errorf("%s is not a header's name (allowed: letters, digits and !#$%%&'*+-.^_`|~)", quote(name))
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, alphanumerics+"!#$%&'*+-.^_`|~") == ""
}
