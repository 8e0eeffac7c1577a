// Package route is crowd's route language: which requests are absorbed, where their records go, and what the
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
	Defaults Defaults `json:"defaults,omitzero"`
	// Routes in order: the first that matches wins.
	Routes []Route `json:"routes"`
}

// Uplink configures the filter's side of the stream to the collectors. One uplink runs in each Envoy worker.
type Uplink struct {
	// Cluster is the Envoy cluster of the collectors; default "crowd_collector".
	Cluster string `json:"cluster,omitempty"`
	// Streams is to how many collectors each worker keeps a stream; default 2, at most 8.
	Streams int `json:"streams,omitempty"`
	// Spool says whether the collectors have one; default on. Where it is off no route can have LevelDisk.
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

// Defaults holds what applies to every route that does not say otherwise. Fields mean what they mean in
// Route.
type Defaults struct {
	Ack        Level    `json:"ack,omitempty"`
	AckTimeout Duration `json:"ack_timeout,omitempty"`
	MaxBody    Size     `json:"max_body,omitempty"`
	Answer     *Answer  `json:"answer,omitempty"`
}

// Route absorbs the requests that it matches.
type Route struct {
	// Name is unique in the document; metrics and records carry it.
	Name string `json:"name"`
	// Match must hold for a request to take this route.
	Match Match `json:"match"`
	// Topic is the Kafka topic of its records.
	Topic string `json:"topic"`
	// Key is the Kafka record key, in Envoy's command operators: `%REQ(x-tenant)%`, `%REQ(x-a?x-b)%`
	// (x-b where x-a is absent), plain text around them. Absent, or where every operator in it finds
	// nothing: the null key.
	Key string `json:"key,omitempty"`
	// Ack is where a record must be before the client is answered; default memory.
	Ack Level `json:"ack,omitempty"`
	// AckTimeout is how long a request waits for LevelDisk or LevelKafka before the client is told 503 with
	// Retry-After, although its record may still get there; default 5s, at most 1h. LevelMemory waits for
	// nothing. Envoy's stream_idle_timeout, by default 5 minutes, ends a request too.
	AckTimeout Duration `json:"ack_timeout,omitempty"`
	// MaxBody is the longest body taken; default 1 MiB, at most MaxMaxBody. Beyond it: 413.
	MaxBody Size `json:"max_body,omitempty"`
	// Answer is what the client gets; default 200 {"status":"OK"} as application/json;charset=UTF-8.
	Answer *Answer `json:"answer,omitempty"`
}

// Match holds when everything given in it holds. One of Path, Prefix and SafeRegex is required.
type Match struct {
	// Path is the exact path, without the query.
	Path string `json:"path,omitempty"`
	// Prefix is how the path begins.
	Prefix string `json:"prefix,omitempty"`
	// SafeRegex is an RE2 expression for the whole path, without the query.
	SafeRegex string `json:"safe_regex,omitempty"`
	// Hosts are compared to the authority without its port, in lower case: exact ("shop.example"), a
	// suffix ("*.shop.example"), a prefix ("shop.*") or "*". Empty: any.
	Hosts []string `json:"hosts,omitempty"`
	// Methods are compared exactly ("POST"). Empty: any.
	Methods []string `json:"methods,omitempty"`
	// Headers must all hold.
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// HeaderMatch holds a condition on one header. At most one of Exact, Prefix, SafeRegex and Present is given;
// none means Present: true. Several headers of one name are joined by "," as Envoy does.
type HeaderMatch struct {
	Name      string  `json:"name"`
	Exact     *string `json:"exact,omitempty"`
	Prefix    *string `json:"prefix,omitempty"`
	SafeRegex *string `json:"safe_regex,omitempty"`
	Present   *bool   `json:"present,omitempty"`
}

// Answer is a response.
type Answer struct {
	// Status is 200 to 299; default 200.
	Status int `json:"status,omitempty"`
	// Body is sent as it is; default {"status":"OK"}. Give "" for an empty one.
	Body *string `json:"body,omitempty"`
	// ContentType; default application/json;charset=UTF-8.
	ContentType string `json:"content_type,omitempty"`
}

// What a document gets where it says nothing, and the bounds it is held to.
const (
	DefaultCluster            = "crowd_collector"
	DefaultStreams            = 2
	DefaultSpool              = SpoolOn
	DefaultMaxBufferBytes     = Size(64 << 20)
	DefaultMaxBatchBytes      = Size(256 << 10)
	DefaultUnreachableTimeout = Duration(30 * time.Second)
	DefaultAckTimeout         = Duration(5 * time.Second)
	DefaultMaxBody            = Size(1 << 20)
	DefaultAnswerStatus       = 200
	DefaultAnswerBody         = `{"status":"OK"}`
	DefaultContentType        = "application/json;charset=UTF-8"

	// MaxMaxBody keeps every record below the largest message of the stream (record.MaxMessageBytes).
	MaxMaxBody = Size(32 << 20)
)
