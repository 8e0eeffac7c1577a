// Package replay gives the requests in Kafka to an HTTP API at a pace that it can stand: a consumer group, one of whose
// members each process is, sends each record as the request that it was, in the order that is asked for, as fast as the
// limits and the API itself allow, again where that may help, and to a dead-letter topic where it does not.
//
// Delivery is at least once. An offset is committed only when its record is done: expected by the API's answer, or in the
// dead-letter topic. What is done behind a record that is not is committed too, in the offset's metadata, so that a crash
// repeats no more than had been sent and not been committed: at most twice Concurrency.
package replay

import (
	"time"

	"github.com/marceloboeira/crowd/xds/route"
)

// What a Config gets where it says nothing.
const (
	DefaultConcurrency     = 10
	DefaultTimeout         = 30 * time.Second
	DefaultOrder           = OrderKey
	DefaultProtocol        = ProtocolAuto
	DefaultMaxAttempts     = 20
	DefaultInitialBackoff  = 500 * time.Millisecond
	DefaultMaxBackoff      = time.Minute
	DefaultBreakerFailures = 10
	DefaultBreakerOf       = 20
	DefaultBreakerDelay    = 5 * time.Second
	DefaultBreakerMaxDelay = 5 * time.Minute
	DefaultDeadLetterTopic = "crowd-replay-dead-letters"
	DefaultMaxBufferBytes  = 256 << 20
	DefaultAdmin           = ":9003"
	DefaultDrainTimeout    = 25 * time.Second
)

// Config is a whole configuration: of a file (JSON or YAML, in which a field has its name here in snake case, as the
// command's flags have it with dashes) and of the flags, which go first.
type Config struct {
	// Kafka is the cluster's bootstrap servers, host:port. Required.
	Kafka []string `json:"kafka"`
	// KafkaConfig is the path of a client properties file with Kafka's names (security.protocol, sasl.mechanism, …).
	KafkaConfig string `json:"kafka_config,omitempty"`
	// Group is the consumer group (Kafka's group.id). Required. Its members share the topics' partitions, and Rate. A group
	// without offsets begins with the oldest record.
	Group string `json:"group"`
	// Topics are those whose records are sent. Required.
	Topics []string `json:"topics"`
	// FromDeadLetter sends the records of DeadLetterTopic again that came from Topics: those that this group has put there, and
	// those that no group has. It takes what is there at the start, once, and ends; what fails again is put there again. The
	// offsets are those of a group of its own, Group + "-dead-letters".
	FromDeadLetter bool `json:"from_dead_letter,omitempty"`
	// Since and Until bound the records by the time at which their requests were received (the record's timestamp): from Since
	// on, and before Until. Each is a time of RFC 3339 or a duration before now (90m). Since does not go back behind what the
	// group has committed, and what is older counts as done. With Until the run ends when all partitions have been replayed so
	// far; what is later stays undone.
	Since string `json:"since,omitempty"`
	Until string `json:"until,omitempty"`
	// Filter says which of the records are sent; the others count as done, but for dead letters, which stay for another run.
	Filter Filter `json:"filter,omitzero"`
	// Mirrored has records of mirrored routes sent as well, whose requests the upstream has had already.
	Mirrored bool `json:"mirrored,omitempty"`

	// Target is where requests go: http:// or https://, host, port and, if need be, a path to put before theirs. Required.
	Target string `json:"target"`
	// Protocol is how to speak with it; default auto: over TLS what the target prefers, otherwise HTTP/1.1.
	Protocol Protocol `json:"protocol,omitempty"`
	// TLS is for https.
	TLS TLS `json:"tls,omitzero"`
	// Timeout is how long one attempt may take, from connecting to the answer's last byte; default 30s.
	Timeout route.Duration `json:"timeout,omitempty"`
	// Rewrite is what is different from the requests as they were received.
	Rewrite Rewrite `json:"rewrite,omitzero"`

	Limits
	// Order is what is sent one after another; default key.
	Order Order `json:"order,omitempty"`
	// ExpectedStatuses are those of answers with which a record is done; default 2xx.
	ExpectedStatuses []Statuses `json:"expected_statuses,omitempty"`
	// Retry says what is tried again, when, and for how long.
	Retry Retry `json:"retry,omitzero"`
	// CircuitBreaker pauses everything while the target fails.
	CircuitBreaker CircuitBreaker `json:"circuit_breaker,omitzero"`
	// DeadLetterTopic takes the records that are given up, with the reason and the last answer; default
	// "crowd-replay-dead-letters". It must exist, or brokers must create topics: until it can be written, such records, and
	// those that their order puts behind them, wait.
	DeadLetterTopic string `json:"dead_letter_topic,omitempty"`

	// MaxBufferBytes bounds the records that have been read and are not done; default 256 MiB, at least 1 MiB. The partitions
	// share it evenly, and each may begin one record below its share and end beyond.
	MaxBufferBytes route.Size `json:"max_buffer_bytes,omitempty"`
	// Admin is the address for /metrics, /healthz, /readyz and /status; default ":9003".
	Admin string `json:"admin,omitempty"`
	// DrainTimeout is how long the end waits for answers to what has been sent; default 25s, below the 30s that Kubernetes
	// waits.
	DrainTimeout route.Duration `json:"drain_timeout,omitempty"`
}

// Limits are what may be changed while replay runs: in the file, which is followed.
type Limits struct {
	// Rate is what the whole group sends at most, attempts and all. Each member takes the share of it that its partitions
	// are of all partitions. Required: a number of requests a second, one with a unit (50/s, 300/m), or "unlimited".
	Rate *Rate `json:"rate,omitempty"`
	// Concurrency is how many requests this member has under way at most; default 10.
	Concurrency int `json:"concurrency,omitempty"`
	// KeyRate is what is sent of each key of a topic; default unlimited. One that is at its rate holds up only itself.
	KeyRate *Rate `json:"key_rate,omitempty"`
	// RouteRates are what the whole group sends of each of the routes named; the others have no rate of their own.
	RouteRates []RouteRate `json:"route_rates,omitempty"`
	// Adaptive has the target slow replay down below Rate and Concurrency, by answers that take longer and by 429 and 503, and
	// lets it become faster again.
	Adaptive bool `json:"adaptive,omitempty"`
	// Schedule has windows of the day with other limits; the first that holds the time counts.
	Schedule []Window `json:"schedule,omitempty"`
	// TimeZone is Schedule's, by its name in the IANA database ("Europe/Berlin"); default UTC.
	TimeZone string `json:"time_zone,omitempty"`
}

// RouteRate is the rate of one route.
type RouteRate struct {
	// Route is its name.
	Route string `json:"route"`
	// Rate is required.
	Rate *Rate `json:"rate"`
}

// Window is a part of the day with limits of its own.
type Window struct {
	// Days are those on which the window begins, mon to sun; default every day.
	Days []Weekday `json:"days,omitempty"`
	// From and To are times of day, such as 22:00. A window whose To is not after From ends on the next day. Required.
	From *TimeOfDay `json:"from"`
	To   *TimeOfDay `json:"to"`
	// Rate in place of Limits.Rate; 0: nothing is sent. Default: Limits.Rate.
	Rate *Rate `json:"rate,omitempty"`
	// Concurrency in place of Limits.Concurrency; default that.
	Concurrency int `json:"concurrency,omitempty"`
}

// Filter holds for a record when all that is given in it holds.
type Filter struct {
	// Routes are names of routes of which the record must have one.
	Routes []string `json:"routes,omitempty"`
	// Keys are Kafka keys of which it must have one.
	Keys []string `json:"keys,omitempty"`
	// Match is what its request must match, in the words of routes.
	Match *route.Match `json:"match,omitempty"`
}

// TLS is how an https target is known, and how this client is known to it. The files are PEM, and read again when they
// have changed.
type TLS struct {
	// CA is a file with the authorities to trust; default the system's.
	CA string `json:"ca,omitempty"`
	// Cert and Key are files for a client's certificate; both or none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// ServerName is what the target's certificate must be for; default Target's host.
	ServerName string `json:"server_name,omitempty"`
}

// Rewrite changes requests. The words are Envoy's route's, and the Gateway API's for headers.
type Rewrite struct {
	// HostRewriteLiteral is the host (:authority) to ask for; default the request's own.
	HostRewriteLiteral string `json:"host_rewrite_literal,omitempty"`
	// PathRewrites are tried in order, and the first whose pattern the path has anywhere is applied, to the path without the
	// query.
	PathRewrites []RegexRewrite `json:"path_rewrites,omitempty"`
	// RequestHeaders are changed at last.
	RequestHeaders HeaderRewrite `json:"request_headers,omitzero"`
}

// RegexRewrite is Envoy's RegexMatchAndSubstitute.
type RegexRewrite struct {
	// Pattern is an RE2 expression. Required.
	Pattern string `json:"pattern"`
	// Substitution is what every match becomes; \1 is its first group, \0 all of it, \\ a backslash.
	Substitution string `json:"substitution"`
}

// HeaderRewrite changes headers.
type HeaderRewrite struct {
	// Set gives headers one value, in the place of those that there may be.
	Set []SetHeader `json:"set,omitempty"`
	// Remove takes headers away.
	Remove []string `json:"remove,omitempty"`
}

// SetHeader is a header's value. One of Value and File is given.
type SetHeader struct {
	// Name, in any case. It cannot be host: see Rewrite.HostRewriteLiteral.
	Name string `json:"name"`
	// Value is sent as it is.
	Value string `json:"value,omitempty"`
	// File is the path of a file with the value, for secrets; white space around it does not count, and it is read again when
	// it has changed.
	File string `json:"file,omitempty"`
}

// Retry says what becomes of a record whose attempt has failed: without an answer, or with one of RetriableStatusCodes.
// With any other answer that is not expected a record is given up at once.
type Retry struct {
	// RetriableStatusCodes; default 401, 403, 408, 425, 429 and 5xx. (Credentials that have run out are not the records' fault.)
	RetriableStatusCodes []Statuses `json:"retriable_status_codes,omitempty"`
	// MaxAttempts is after how many failed attempts a record is given up; default 20. Those that the circuit breaker makes to
	// see whether the target is back count apart from the others, and only if it is there and does not say that it is
	// overloaded or does not know who asks: an answer with another status than 401, 403, 429, 502, 503 and 504. So a record
	// that never has another answer, or none, waits, where nothing else is to be sent, until MaxAge; and with order by
	// partition, what is behind it too.
	MaxAttempts int `json:"max_attempts,omitempty"`
	// MaxAge is how long after it was received a request is still sent; default for ever. With FromDeadLetter it counts from
	// the start.
	MaxAge route.Duration `json:"max_age,omitempty"`
	// InitialBackoff is about how long the first retry waits; default 500ms. Each further one waits twice as long, up to
	// MaxBackoff (default 1m), all of it less a random part of up to a half. A Retry-After that is longer goes first, up to
	// the circuit breaker's MaxDelay.
	InitialBackoff route.Duration `json:"initial_backoff,omitempty"`
	MaxBackoff     route.Duration `json:"max_backoff,omitempty"`
}

// CircuitBreaker opens when Failures of the last Of attempts have failed, in a way that Retry tries again. A record's
// failure does not count where it has failed before and others have been done since: that is its own fault most likely.
// While it is open nothing is sent or read, for Delay, or as long as the answer's Retry-After says, up to MaxDelay; then one
// attempt says whether it closes or opens again, for twice as long each time, up to MaxDelay; but not for longer where the
// target answers and nothing is held but records that have failed before, as what comes next should not wait for them.
type CircuitBreaker struct {
	// Failures, default 10.
	Failures int `json:"failures,omitempty"`
	// Of, default 20.
	Of int `json:"of,omitempty"`
	// Delay, default 5s.
	Delay route.Duration `json:"delay,omitempty"`
	// MaxDelay, default 5m.
	MaxDelay route.Duration `json:"max_delay,omitempty"`
}
