// Package record is crowd's contract about one absorbed HTTP request: what it consists of, how it travels
// from the filter to a collector, and how it stands in Kafka.
//
// The wire form is protobuf, defined in collectpb/collector.proto, and written here by hand on protowire: the
// filter is a Wasm module and must not carry protobuf reflection, and a collector wants to read a batch
// without copying it. Fuzz tests hold this code and the generated code together.
//
// Nothing here is safe for concurrent use except what is only read.
package record

import "time"

// MaxMessageBytes is the longest message of the stream, which every collector must accept. It holds a body
// of the largest `max_body` (32 MiB, package route) with any headers that Envoy lets through.
const MaxMessageBytes = 64 << 20

// Level says where a record is; higher levels include the lower ones. The numbers are those of
// collectpb.Level.
type Level uint8

// The levels, from the weakest promise to the strongest.
const (
	LevelMemory Level = 1 // whole, in the filter's memory, inside its window
	LevelDisk   Level = 2 // synced to a collector's disk
	LevelKafka  Level = 3 // acknowledged by all in-sync replicas
)

// String returns the level as routes and metrics spell it.
func (l Level) String() string {
	switch l {
	case LevelMemory:
		return "memory"
	case LevelDisk:
		return "disk"
	case LevelKafka:
		return "kafka"
	}
	return "unspecified"
}

// Direct reports whether records of routes that ask for the level pass a collector's disk by: only Kafka settles them.
// Records of a batch are all direct or all not.
func (l Level) Direct() bool { return l == LevelKafka }

// Header is one HTTP header or trailer: the name in lower case, the value as received (any bytes).
type Header struct {
	Name, Value string
}

// Record is one HTTP request.
type Record struct {
	ID       ID
	Received time.Time // when its headers had arrived, to the nanosecond
	Route    string    // name of the route that took it
	Ack      Level     // what that route asks for
	Topic    string
	Key      []byte // nil is Kafka's null key; empty is an empty key

	Method    string
	Scheme    string
	Authority string
	Path      string // with the query
	Source    string // host:port of the client's connection
	Mirrored  bool   // the request went on to its upstream too

	Headers  []Header // in order, without pseudo-headers
	Trailers []Header
	Body     []byte
}
