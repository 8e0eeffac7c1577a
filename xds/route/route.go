// Package route is crowd's route language: which requests are absorbed or copied, where their records go, and what the
// client is told.
//
// The same document serves people (YAML, package routefile), the xDS server, the command line and the
// filter (JSON, as its plugin configuration). The first route whose match fits takes the request; a request
// that no route takes is not crowd's business and goes on untouched.
//
// The words for matching are Envoy's. Everything here is immutable once compiled and safe for concurrent
// readers. The package imports nothing of crowd and stays small enough for the filter.
package route

import "time"

// Config is one whole document.
type Config struct {
	// Uplink says how the filter reaches its collectors.
	Uplink Uplink `json:"uplink,omitzero"`
	// Defaults fills in what a route leaves out.
	Defaults Policy `json:"defaults,omitzero"`
	// Routes in order: the first that matches wins.
	Routes []Route `json:"routes"`
}

// Uplink configures the filter's side of the stream to the collectors. One uplink runs in each Envoy worker.
type Uplink struct {
	// Cluster is the Envoy cluster of the collectors; default "crowd_collector".
	Cluster string `json:"cluster,omitempty"`
	// Streams is to how many collectors each worker keeps a stream; default 2, at most 8.
	Streams int `json:"streams,omitempty"`
	// Spool says whether the collectors have one; default on. Where it is off no route can have ack: disk.
	Spool Spool `json:"spool,omitempty"`
	// MaxBufferBytes bounds what one worker holds: request bodies not yet whole, records not yet sent and
	// records not yet acknowledged. Default 64 MiB, at most 256 MiB. Beyond it requests are shed with 503.
	MaxBufferBytes Size `json:"max_buffer_bytes,omitempty"`
	// MaxBatchBytes is the size at which a batch is sent without waiting for an acknowledgement; default
	// 256 KiB. A larger record travels alone.
	MaxBatchBytes Size `json:"max_batch_bytes,omitempty"`
	// UnreachableTimeout is how long requests are still answered while no collector takes records; default
	// 30s. After it they are shed with 503 until a collector is back.
	UnreachableTimeout Duration `json:"unreachable_timeout,omitempty"`
}

// Route takes the requests that it matches.
type Route struct {
	// Name is unique in the document; metrics and records carry it.
	Name string `json:"name"`
	// Match must hold for a request to take this route.
	Match Match `json:"match"`
	Policy
}

// Policy is what becomes of a request. A route has one of its own, and what it leaves out comes from the document's
// defaults; groups of fields (answer, record_headers) are filled in field by field, lists are taken whole.
type Policy struct {
	// Mode is whether crowd answers in the backend's place; default absorb.
	Mode Mode `json:"mode,omitempty"`
	// Topic is the Kafka topic of the records. Required, here or in the defaults.
	Topic string `json:"topic,omitempty"`
	// Key is the Kafka record key, in Envoy's command operators: `%REQ(x-tenant)%`, `%REQ(x-a?x-b)%` (x-b where x-a is
	// absent), plain text around them; `%PATH_VARIABLE(shop)%` is a variable of the route's path_template. Absent, or
	// where every operator in it finds nothing: the null key. It cannot take a header that is not recorded.
	Key string `json:"key,omitempty"`
	// Ack is where a record must be before the client is answered; default memory. A mirrored request waits for
	// nothing, and its route has no level, timeout or answer of its own.
	Ack Level `json:"ack,omitempty"`
	// AckTimeout is how long a request waits for ack: disk or kafka before the client is told 503 with Retry-After,
	// although its record may still get there; default 5s, at most 1h. With ack: memory it waits for nothing. Envoy's stream_idle_timeout, by default 5 minutes, ends a request too.
	AckTimeout Duration `json:"ack_timeout,omitempty"`
	// MaxBody is the longest body taken; default 1 MiB, at most 32 MiB. Beyond it: 413, or no record of a mirrored
	// request.
	MaxBody Size `json:"max_body,omitempty"`
	// Answer is what the client gets; default 200 {"status":"OK"} as application/json;charset=UTF-8.
	Answer *Answer `json:"answer,omitempty"`
	// RecordHeaders says which of a request's headers and trailers its record has.
	RecordHeaders RecordHeaders `json:"record_headers,omitzero"`
	// Sample is the share of the matching requests that the route takes, at random; default 100%. To the others it is as
	// if the route were not there.
	Sample *Percent `json:"sample,omitempty"`
	// RateLimit bounds the requests that each worker takes. Beyond it: 429 with Retry-After, or no record of a mirrored
	// request. Default: none.
	RateLimit *TokenBucket `json:"rate_limit,omitempty"`
}

// Match holds when everything given in it holds. One of Path, Prefix, PathTemplate and SafeRegex is required.
type Match struct {
	// Path is the exact path, without the query.
	Path string `json:"path,omitempty"`
	// Prefix is how the path begins.
	Prefix string `json:"prefix,omitempty"`
	// PathTemplate is a path with variables: {shop} and * stand for one segment that is not empty, ** at the end stands
	// for any rest, also an empty one: "/shops/{shop}/orders", "/files/**".
	PathTemplate string `json:"path_template,omitempty"`
	// SafeRegex is an RE2 expression for the whole path, without the query.
	SafeRegex string `json:"safe_regex,omitempty"`
	// Hosts are compared to the authority without its port, in lower case: exact ("shop.example"), a
	// suffix ("*.shop.example"), a prefix ("shop.*") or "*". Empty: any.
	Hosts []string `json:"hosts,omitempty"`
	// Methods are compared exactly ("POST"). Empty: any.
	Methods []string `json:"methods,omitempty"`
	// Headers must all hold. Of several headers of one name one must fit, as in Envoy since 1.39; those that Envoy itself
	// joins when they arrive (accept, authorization and others of its own) are one, with "," between the values.
	Headers []ValueMatch `json:"headers,omitempty"`
	// QueryParameters must all hold. Names and values are compared as they came, percent signs and all, and of several
	// parameters of one name the first counts, as Envoy does.
	QueryParameters []ValueMatch `json:"query_parameters,omitempty"`
}

// ValueMatch holds a condition on one header or query parameter. At most one of Exact, Prefix, SafeRegex and Present is
// given; none means Present: true.
type ValueMatch struct {
	// Name of the header, in any case, or of the parameter, in its own.
	Name string `json:"name"`
	// Exact is the whole value.
	Exact *string `json:"exact,omitempty"`
	// Prefix is how the value begins.
	Prefix *string `json:"prefix,omitempty"`
	// SafeRegex is an RE2 expression for the whole value.
	SafeRegex *string `json:"safe_regex,omitempty"`
	// Present says whether it must be there (true) or must not (false), whatever its value.
	Present *bool `json:"present,omitempty"`
}

// Answer is a response. In Body and the headers' values %RECORD_ID% stands for the record's id and %% for a percent sign.
type Answer struct {
	// Status is 200 to 299; default 200.
	Status int `json:"status,omitempty"`
	// Body is sent as it is; default {"status":"OK"}. Give "" for an empty one.
	Body *string `json:"body,omitempty"`
	// ContentType; default application/json;charset=UTF-8.
	ContentType string `json:"content_type,omitempty"`
	// Headers are added to the response.
	Headers []AnswerHeader `json:"headers,omitzero"`
}

// AnswerHeader is a header of a response.
type AnswerHeader struct {
	// Name, in any case.
	Name string `json:"name"`
	// Value, in which %RECORD_ID% is the record's id.
	Value string `json:"value"`
}

// RecordHeaders are names of headers, in any case; one that ends with * stands for all that begin so.
type RecordHeaders struct {
	// Allow names what is recorded; default: everything. Give [] for nothing.
	Allow []string `json:"allow,omitzero"`
	// Deny names what is not recorded although allowed; default authorization, cookie and proxy-authorization. Give []
	// for nothing.
	Deny []string `json:"deny,omitzero"`
}

// TokenBucket is Envoy's (envoy.type.v3.TokenBucket): a request takes a token.
type TokenBucket struct {
	// MaxTokens is what the bucket holds, and has at first. Required.
	MaxTokens int `json:"max_tokens"`
	// TokensPerFill is what is added every FillInterval; default 1.
	TokensPerFill int `json:"tokens_per_fill,omitempty"`
	// FillInterval is required.
	FillInterval Duration `json:"fill_interval"`
}

// What a document gets where it says nothing, and the bounds it is held to.
const (
	DefaultCluster            = "crowd_collector"
	DefaultStreams            = 2
	DefaultSpool              = SpoolOn
	DefaultMaxBufferBytes     = Size(64 << 20)
	DefaultMaxBatchBytes      = Size(256 << 10)
	DefaultUnreachableTimeout = Duration(30 * time.Second)
	DefaultMode               = ModeAbsorb
	DefaultAckTimeout         = Duration(5 * time.Second)
	DefaultMaxBody            = Size(1 << 20)
	DefaultAnswerStatus       = 200
	DefaultAnswerBody         = `{"status":"OK"}`
	DefaultContentType        = "application/json;charset=UTF-8"

	// MaxMaxBody keeps every record below the largest message of the stream (record.MaxMessageBytes).
	MaxMaxBody = Size(32 << 20)
)

// DefaultDeny is what no record has unless a document says so: it would give whoever reads the topic the client's rights.
func DefaultDeny() []string { return []string{"authorization", "cookie", "proxy-authorization"} }
