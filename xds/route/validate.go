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

	// MaxMaxBufferBytes bounds Uplink.MaxBufferBytes, and in the filter those of all documents of a worker together: Envoy gives
	// a VM 1 GiB, and Go's heap may be twice what it holds.
	MaxMaxBufferBytes = Size(256 << 20)
	// maxMaxBatchBytes keeps every batch below the largest message of the stream, as MaxMaxBody does records.
	maxMaxBatchBytes = MaxMaxBody
	// recordOverhead is room for a record's headers and framing beside its body.
	recordOverhead = Size(1 << 20)

	maxStreams = 8 // each is a connection, a window and a lane's batch under way, of every worker
	// maxAckTimeout is longer than clients and proxies wait, and a request that waits holds its place in the
	// buffer: beyond it somebody mistook the unit.
	maxAckTimeout = Duration(time.Hour)

	maxAnswerHeaders = 32
	// maxRecordNames bounds what each header of a request is compared to.
	maxRecordNames = 256
	maxTokens      = 1_000_000_000
	// Below it a bucket is no longer finer: Envoy's own buckets have the same bound.
	minFillInterval = Duration(50 * time.Millisecond)
	maxFillInterval = Duration(24 * time.Hour)
)

// Validate returns everything that is wrong with the document, in the order of its fields; nil if nothing is.
// Each message says what is allowed. Positions are not filled in.
func (c Config) Validate() []FieldError {
	var r report
	if c.validate(&r); r.errs != nil {
		r = report{paths: true}
		c.validate(&r)
	}
	return r.errs
}

func (c Config) validate(r *report) {
	c.Uplink.validate(r, "uplink")
	c.validateBuffer(r)
	c.Defaults.validate(r, "defaults", builtIn(), c.Uplink.Spool)
	if c.Routes == nil {
		r.addf("routes", "is missing (allowed: a list of routes, [] for none)")
	}
	names, defaults := make(map[string]int, len(c.Routes)), c.withDefaults()
	for i, route := range c.Routes {
		path := r.item("routes", i)
		route.validate(r, path, defaults, c.Uplink.Spool)
		if first, taken := names[route.Name]; taken {
			r.addf(r.field(path, "name"), "%s is the name of routes[%d] too (allowed: a name of its own)", quote(route.Name), first)
		} else if route.Name != "" {
			names[route.Name] = i
		}
	}
}

func (u Uplink) validate(r *report, path string) {
	if strings.ContainsFunc(u.Cluster, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.addf(r.field(path, "cluster"), "%s is not a cluster's name (allowed: printable ASCII without spaces)", quote(u.Cluster))
	}
	if u.Streams < 0 || u.Streams > maxStreams {
		r.addf(r.field(path, "streams"), "is %d (allowed: 1 to %d)", u.Streams, maxStreams)
	}
	r.add(r.field(path, "spool"), checkSpool(u.Spool))
	validateSize(r, r.field(path, "max_buffer_bytes"), u.MaxBufferBytes, MaxMaxBufferBytes)
	validateSize(r, r.field(path, "max_batch_bytes"), u.MaxBatchBytes, maxMaxBatchBytes)
	if full := u.withDefaults(); full.MaxBatchBytes > full.MaxBufferBytes {
		r.addf(r.field(path, "max_batch_bytes"), "is %s, more than max_buffer_bytes (allowed: at most %s)", full.MaxBatchBytes, full.MaxBufferBytes)
	}
	if u.UnreachableTimeout < 0 {
		r.addf(r.field(path, "unreachable_timeout"), "is %s (allowed: more than 0s)", u.UnreachableTimeout)
	}
}

// validateBuffer holds the buffer to the largest record that it must take.
func (c Config) validateBuffer(r *report) {
	largest, holder, defaults := Size(0), 0, c.withDefaults()
	for i, route := range c.Routes {
		if size := route.over(defaults).MaxBody; size > largest {
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

// validate checks a route that takes from d what it leaves out.
func (route Route) validate(r *report, path string, d Policy, spool Spool) {
	r.add(r.field(path, "name"), checkName(route.Name))
	route.Match.validate(r, r.field(path, "match"))
	route.Policy.validate(r, path, d, spool)
	full := route.over(d)
	if full.Topic == "" {
		r.addf(r.field(path, "topic"), "is missing (allowed: the name of a Kafka topic, here or in defaults)")
	}
	route.validateKey(r, path, full)
	if full.Mode == ModeMirror {
		for _, given := range []struct {
			field string
			is    bool
		}{{"ack", route.Ack != ""}, {"ack_timeout", route.AckTimeout != 0}, {"answer", route.Answer != nil}} {
			if given.is {
				r.addf(r.field(path, given.field), "means nothing with mode: mirror, as the upstream answers (allowed: mode: absorb, or leave it out)")
			}
		}
	}
}

// validateKey checks what a key takes, of which its syntax says nothing. What is wrong with a key of the defaults, and of
// this route alone, is said here.
func (route Route) validateKey(r *report, path string, full Policy) {
	key, err := parseKey(full.Key)
	if err != nil {
		return // complained of where it is written
	}
	if len(key) == 0 {
		return
	}
	at := r.field(path, "key")
	recorded, template := compileRecorded(full.RecordHeaders), pathTemplate(nil)
	if route.Match.PathTemplate != "" {
		if template, err = parseTemplate(route.Match.PathTemplate); err != nil {
			return
		}
	}
	for _, part := range key {
		if part.variable != "" && !template.has(part.variable) {
			r.addf(at, "takes the variable %s, which match.path_template does not have (allowed: one that it has)", quote(part.variable))
		}
		for _, name := range part.names {
			if name[0] != ':' && !recorded.has(name) {
				r.addf(at, "takes the header %s, which is not recorded (allowed: headers that record_headers let through)", quote(name))
			}
		}
	}
}

// validate checks a policy that takes from base what it leaves out.
func (p Policy) validate(r *report, path string, base Policy, spool Spool) {
	if p.Mode != "" {
		r.add(r.field(path, "mode"), new(Mode).UnmarshalText([]byte(p.Mode)))
	}
	r.add(r.field(path, "topic"), checkTopic(p.Topic))
	_, err := parseKey(p.Key)
	r.add(r.field(path, "key"), err)
	r.add(r.field(path, "ack"), checkAck(p.Ack, spool))
	validateAckTimeout(r, r.field(path, "ack_timeout"), p.AckTimeout)
	validateSize(r, r.field(path, "max_body"), p.MaxBody, MaxMaxBody)
	p.Answer.validate(r, r.field(path, "answer"), base.Answer)
	p.RecordHeaders.validate(r, r.field(path, "record_headers"), base.RecordHeaders)
	if p.Sample != nil && *p.Sample > whole {
		r.addf(r.field(path, "sample"), "is %s (allowed: 0%% to 100%%)", p.Sample)
	}
	if p.RateLimit != nil {
		p.RateLimit.validate(r, r.field(path, "rate_limit"))
	}
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
	case len(name) > maxNameLength || !nameChars.holds(name):
		return fmt.Errorf("%s is not a name (allowed: up to %d of a-z, A-Z, 0-9, _, . and -)", quote(name), maxNameLength)
	}
	return nil
}

// checkTopic lets the absent one pass.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return nil
	case topic == "." || topic == ".." || len(topic) > maxTopicLength || !nameChars.holds(topic):
		return fmt.Errorf(`%s is not a topic's name (allowed: up to %d of a-z, A-Z, 0-9, ., _ and -, but not "." or "..")`, quote(topic), maxTopicLength)
	}
	return nil
}

// validate checks an answer that takes from base what it leaves out; a may be nil.
func (a *Answer) validate(r *report, path string, base *Answer) {
	if a == nil {
		return
	}
	full := a.over(base)
	if a.Status != 0 && (a.Status < 200 || a.Status > 299) {
		r.addf(r.field(path, "status"), "is %d (allowed: 200 to 299)", a.Status)
	}
	if (full.Status == 204 || full.Status == 205) && *full.Body != "" {
		r.addf(path, `has status %d, which goes without a body (allowed: body: "")`, full.Status)
	}
	if a.Body != nil {
		_, err := parseText(*a.Body)
		r.add(r.field(path, "body"), err)
	}
	if strings.ContainsFunc(a.ContentType, isControl) {
		r.addf(r.field(path, "content_type"), "%s has a control character (allowed: a media type such as text/plain)", quote(a.ContentType))
	}
	if len(a.Headers) > maxAnswerHeaders {
		r.addf(r.field(path, "headers"), "has %d headers (allowed: at most %d)", len(a.Headers), maxAnswerHeaders)
	}
	for i, h := range a.Headers {
		h.validate(r, r.item(r.field(path, "headers"), i))
	}
}

// ownHeaders are those of a response that are not an answer's to give, and whose they are.
var ownHeaders = map[string]string{
	"content-type": "answer.content_type is for that", "crowd-record-id": "crowd gives it", "crowd-ack": "crowd gives it",
	"content-length": "Envoy gives it", "transfer-encoding": "Envoy gives it", "connection": "Envoy gives it", "host": "it is a request's",
	"keep-alive": "Envoy gives it", "upgrade": "Envoy gives it", "trailer": "an answer has none",
	// HTTP/2 has no place for them, and clients reset a stream that has.
	"proxy-connection": "HTTP/2 has none", "te": "it is a request's",
	"server": "Envoy gives it",
}

func (h AnswerHeader) validate(r *report, path string) {
	switch whose, own := ownHeaders[strings.ToLower(h.Name)]; {
	case own:
		r.addf(r.field(path, "name"), "%s cannot be given: %s (allowed: other headers)", quote(h.Name), whose)
	default:
		r.add(r.field(path, "name"), checkToken(h.Name))
	}
	_, err := parseText(h.Value)
	if err == nil && strings.ContainsFunc(h.Value, isControl) {
		err = fmt.Errorf("%s has a control character (allowed: printable characters)", quote(h.Value))
	}
	r.add(r.field(path, "value"), err)
}

// validate checks lists of which those left out come from base.
func (h RecordHeaders) validate(r *report, path string, base RecordHeaders) {
	for _, list := range []struct {
		field string
		names []string
	}{{"allow", h.Allow}, {"deny", h.Deny}} {
		if len(list.names) > maxRecordNames {
			r.addf(r.field(path, list.field), "has %d names (allowed: at most %d)", len(list.names), maxRecordNames)
			return
		}
		for i, name := range list.names {
			// A name may have a * like any other letter, but whoever writes one elsewhere means a wildcard, and what it
			// was to hide would be recorded.
			if bare := strings.TrimSuffix(name, "*"); name != "*" && (!isToken(bare) || strings.Contains(bare, "*")) {
				r.addf(r.item(r.field(path, list.field), i), "%s is not a header's name (allowed: a name, or how names begin and *)", quote(name))
			}
		}
	}
	if len(h.Allow) == 0 {
		return
	}
	denied := compileNames(h.over(base).Deny)
	for i, name := range h.Allow {
		if lower := strings.ToLower(name); !strings.HasSuffix(name, "*") && denied.has(lower) {
			r.addf(r.item(r.field(path, "allow"), i), "%s is denied too (allowed: what deny, by default %s, does not name)", quote(name), strings.Join(DefaultDeny(), ", "))
		}
	}
}

func (b TokenBucket) validate(r *report, path string) {
	switch {
	case b.MaxTokens == 0:
		r.addf(r.field(path, "max_tokens"), "is missing (allowed: 1 to %d)", maxTokens)
	case b.MaxTokens < 0 || b.MaxTokens > maxTokens:
		r.addf(r.field(path, "max_tokens"), "is %d (allowed: 1 to %d)", b.MaxTokens, maxTokens)
	}
	if b.TokensPerFill < 0 || b.TokensPerFill > maxTokens {
		r.addf(r.field(path, "tokens_per_fill"), "is %d (allowed: 1 to %d)", b.TokensPerFill, maxTokens)
	}
	switch {
	case b.FillInterval == 0:
		r.addf(r.field(path, "fill_interval"), "is missing (allowed: %s to %s)", minFillInterval, maxFillInterval)
	case b.FillInterval < minFillInterval || b.FillInterval > maxFillInterval:
		r.addf(r.field(path, "fill_interval"), "is %s (allowed: %s to %s)", b.FillInterval, minFillInterval, maxFillInterval)
	}
}

func isControl(c rune) bool {
	return c < ' ' || c == 0x7f
}

func (m Match) validate(r *report, path string) {
	var given []string
	for _, kind := range []struct{ name, value string }{
		{"path", m.Path}, {"prefix", m.Prefix}, {"path_template", m.PathTemplate}, {"safe_regex", m.SafeRegex},
	} {
		if kind.value != "" {
			given = append(given, kind.name)
		}
	}
	if len(given) == 0 {
		r.addf(path, "says nothing of the path (allowed: exactly one of path, prefix, path_template, safe_regex)")
	} else if len(given) > 1 {
		r.addf(path, "has %s (allowed: exactly one of path, prefix, path_template, safe_regex)", strings.Join(given, " and "))
	}
	r.add(r.field(path, "path"), checkPath(m.Path))
	r.add(r.field(path, "prefix"), checkPath(m.Prefix))
	if m.PathTemplate != "" {
		_, err := parseTemplate(m.PathTemplate)
		r.add(r.field(path, "path_template"), err)
	}
	if m.SafeRegex != "" {
		r.checkRegex(r.field(path, "safe_regex"), m.SafeRegex)
	}
	for i, host := range m.Hosts {
		_, err := parseHost(host)
		r.add(r.item(r.field(path, "hosts"), i), err)
	}
	for i, method := range m.Methods {
		if !isToken(method) || method != strings.ToUpper(method) {
			r.addf(r.item(r.field(path, "methods"), i), "%s is not a method (allowed: an HTTP method in upper case, such as POST)", quote(method))
		}
	}
	for i, header := range m.Headers {
		header.validate(r, r.item(r.field(path, "headers"), i), checkHeaderName)
	}
	for i, parameter := range m.QueryParameters {
		parameter.validate(r, r.item(r.field(path, "query_parameters"), i), checkParameterName)
	}
}

// checkRegex looks at no regex any more once they are too much together.
func (r *report) checkRegex(path, expr string) {
	if r.regexes.instructions > maxRegexPrograms {
		return
	}
	if _, err := r.regexes.compile(expr); err != nil {
		r.add(path, err)
		return
	}
	if r.regexes.instructions > maxRegexPrograms {
		r.addf(path, "brings the document's regular expressions to %d instructions (allowed: at most %d of all together)",
			r.regexes.instructions, maxRegexPrograms)
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

func (h ValueMatch) validate(r *report, path string, checkName func(string) error) {
	r.add(r.field(path, "name"), checkName(h.Name))
	var given []string
	if h.Exact != nil {
		given = append(given, "exact")
	}
	if h.Prefix != nil {
		given = append(given, "prefix")
		if *h.Prefix == "" {
			r.addf(r.field(path, "prefix"), "is empty (allowed: some text, or present: true instead)")
		}
	}
	if h.SafeRegex != nil {
		given = append(given, "safe_regex")
		r.checkRegex(r.field(path, "safe_regex"), *h.SafeRegex)
	}
	if h.Present != nil {
		given = append(given, "present")
	}
	if len(given) > 1 {
		r.addf(path, "has %s (allowed: at most one of exact, prefix, safe_regex, present)", strings.Join(given, " and "))
	}
}

func checkHeaderName(name string) error {
	if name != "" && name[0] == ':' || strings.EqualFold(name, "host") {
		return fmt.Errorf("%s is not matched as a header (allowed: hosts, methods and path instead)", quote(name))
	}
	return checkToken(name)
}

// checkToken checks the name of a header.
func checkToken(name string) error {
	switch {
	case name == "":
		return errors.New("is missing (allowed: the name of a header)")
	case !isToken(name):
		return fmt.Errorf("%s is not a header's name (allowed: letters, digits and !#$%%&'*+-.^_`|~)", quote(name))
	}
	return nil
}

func checkParameterName(name string) error {
	switch {
	case name == "":
		return errors.New("is missing (allowed: the name of a query parameter)")
	case strings.ContainsAny(name, "&=#") || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("%s is not a parameter's name (allowed: as it stands in the URL, percent signs and all)", quote(name))
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && tokenChars.holds(s)
}
