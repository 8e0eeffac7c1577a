package record

import (
	"strconv"
	"strings"
	"time"
)

// Names of the Kafka headers that do not come from the client. A request's own headers of these names, or
// beginning with ReservedPrefix or CloudEventsPrefix, are not copied: a consumer can trust them.
const (
	CloudEventsPrefix = "ce_"    // CloudEvents 1.0, Kafka protocol binding, binary content mode
	ReservedPrefix    = "crowd-" // what crowd says of a record
	TrailerPrefix     = ReservedPrefix + "trailer-"

	headerRoute       = ReservedPrefix + "route"
	headerSource      = ReservedPrefix + "source"
	headerMode        = ReservedPrefix + "mode"
	headerRedelivered = ReservedPrefix + "redelivered"
	headerErrorTopic  = ReservedPrefix + "error-topic"
	headerErrorClass  = ReservedPrefix + "error-class"
	headerErrorReason = ReservedPrefix + "error-reason"

	headerErrorStatus   = ReservedPrefix + "error-status"
	headerErrorAnswer   = ReservedPrefix + "error-answer"
	headerErrorAttempts = ReservedPrefix + "error-attempts"
	headerErrorGroup    = ReservedPrefix + "error-group"
	headerErrorTime     = ReservedPrefix + "error-time"
	headerErrorStoredAt = ReservedPrefix + "error-stored-at"
	errorPrefix         = ReservedPrefix + "error-"

	ceSpecVersion = CloudEventsPrefix + "specversion"
	ceID          = CloudEventsPrefix + "id"
	ceSource      = CloudEventsPrefix + "source"
	ceType        = CloudEventsPrefix + "type"
	ceTime        = CloudEventsPrefix + "time"

	eventType  = "crowd.http.request"
	modeMirror = "mirror" // as routes have it
)

// KafkaHeaders returns the headers of the record in Kafka; its value is the body, its timestamp Received.
//
// In order: the pseudo-headers `:method`, `:scheme`, `:authority` and `:path`; the request's headers as they
// were; its trailers as `crowd-trailer-NAME`; `crowd-route` and `crowd-source` (the client's address);
// `crowd-mode: mirror` where the request went on to its upstream too; `crowd-redelivered: true` where the record may be
// a repeat; the CloudEvents attributes. In a dead-letter topic those of ErrorHeaders or FailureHeaders follow.
func (r *Record) KafkaHeaders(redelivered bool) []Header {
	h, _ := r.AppendKafkaHeaders(make([]Header, 0, len(r.Headers)+len(r.Trailers)+MoreKafkaHeaders), nil, redelivered)
	return h
}

// MoreKafkaHeaders is how many Kafka headers a record has at most beside those of its headers and trailers.
const MoreKafkaHeaders = 13

// AppendKafkaHeaders appends what KafkaHeaders returns to dst. What of it is not in the record it writes behind text, and
// returns that too: nothing may be written over it while the headers are in use.
func (r *Record) AppendKafkaHeaders(dst []Header, text []byte, redelivered bool) ([]Header, []byte) {
	dst = append(dst,
		Header{":method", r.Method}, Header{":scheme", r.Scheme}, Header{":authority", r.Authority},
		Header{":path", r.Path})
	for i := range r.Headers {
		own := &r.Headers[i]
		if !strings.HasPrefix(own.Name, CloudEventsPrefix) && !strings.HasPrefix(own.Name, ReservedPrefix) {
			dst = append(dst, *own)
		}
	}
	for _, t := range r.Trailers {
		text = append(append(text, TrailerPrefix...), t.Name...)
		dst = append(dst, Header{last(text, len(TrailerPrefix)+len(t.Name)), t.Value})
	}
	dst = append(dst, Header{headerRoute, r.Route}, Header{headerSource, r.Source})
	if r.Mirrored {
		dst = append(dst, Header{headerMode, modeMirror})
	}
	if redelivered {
		dst = append(dst, Header{headerRedelivered, "true"})
	}
	start := len(text)
	text = r.ID.AppendText(text)
	id := last(text, len(text)-start)
	start = len(text)
	text = append(append(append(text, r.Scheme...), "://"...), r.Authority...)
	source := last(text, len(text)-start)
	start = len(text)
	text = r.Received.UTC().AppendFormat(text, time.RFC3339Nano)
	return append(dst,
		Header{ceSpecVersion, "1.0"}, Header{ceID, id}, Header{ceSource, source}, Header{ceType, eventType},
		Header{ceTime, last(text, len(text)-start)}), text
}

// last views the last n bytes of b as a string.
func last(b []byte, n int) string { return text(b[len(b)-n:]) }

// MalformedHeaders returns the headers of bytes that should have been a record: all that is known of them is whether
// they may be a repeat (`crowd-redelivered: true`). Those of ErrorHeaders follow.
func MalformedHeaders(redelivered bool) []Header {
	if !redelivered {
		return nil
	}
	return []Header{{headerRedelivered, "true"}}
}

// ErrorHeaders returns what a record has in a dead-letter topic beside its own headers: `crowd-error-topic`, the topic
// that it was meant for, which may be no valid name, or empty where it is not known; `crowd-error-class`, for
// programs: "too_large", "invalid_topic", "rejected" or "malformed"; `crowd-error-reason`, a sentence for people.
func ErrorHeaders(topic, class, reason string) []Header {
	return []Header{{headerErrorTopic, topic}, {headerErrorClass, class}, {headerErrorReason, reason}}
}

// Failure is what crowd replay says of a record that it has given up.
type Failure struct {
	Topic    string    // that the record was meant for
	Class    string    // for programs; see FailureHeaders
	Reason   string    // a sentence for people
	Group    string    // the consumer group that gave it up; empty: a collector did
	Attempts int       // how often it was sent
	Status   int       // the last answer's; 0: there was none
	Answer   []byte    // how the last answer's body began
	Time     time.Time // when it was given up
	// StoredAt is TOPIC/PARTITION/OFFSET where the dead-letter topic takes no record as large as this one; empty where it
	// is whole.
	StoredAt string
}

// FailureHeaders returns what a record that crowd replay has given up has in a dead-letter topic beside its own headers:
// those of ErrorHeaders, where the class is "rejected", "retries_exhausted", "expired" or "malformed"; `crowd-error-status`
// and `crowd-error-answer`, the last answer's status and how its body began (any bytes, at most 1 KiB), if there was one;
// `crowd-error-attempts`; `crowd-error-group`, the consumer group; `crowd-error-time`, when it was given up, by RFC 3339.
// With `crowd-error-stored-at: TOPIC/PARTITION/OFFSET` the record has no body here, as it is larger than the dead-letter
// topic takes: the whole is there, for as long as that topic keeps it.
func FailureHeaders(f Failure) []Header {
	h := ErrorHeaders(f.Topic, f.Class, f.Reason)
	if f.Status != 0 {
		h = append(h, Header{headerErrorStatus, strconv.Itoa(f.Status)})
	}
	if len(f.Answer) > 0 {
		h = append(h, Header{headerErrorAnswer, string(f.Answer)})
	}
	h = append(h, Header{headerErrorAttempts, strconv.Itoa(f.Attempts)}, Header{headerErrorGroup, f.Group},
		Header{headerErrorTime, f.Time.UTC().Format(time.RFC3339)})
	if f.StoredAt != "" {
		h = append(h, Header{headerErrorStoredAt, f.StoredAt})
	}
	return h
}

// FailureFromKafka reads the headers of ErrorHeaders and FailureHeaders, as far as they go, and returns the others.
func FailureFromKafka(headers []Header) (Failure, []Header) {
	var f Failure
	others := make([]Header, 0, len(headers))
	for _, h := range headers {
		switch h.Name {
		case headerErrorTopic:
			f.Topic = h.Value
		case headerErrorClass:
			f.Class = h.Value
		case headerErrorReason:
			f.Reason = h.Value
		case headerErrorStatus:
			f.Status = count(h.Value)
		case headerErrorAnswer:
			f.Answer = []byte(h.Value)
		case headerErrorAttempts:
			f.Attempts = count(h.Value)
		case headerErrorGroup:
			f.Group = h.Value
		case headerErrorTime:
			if t, err := time.Parse(time.RFC3339, h.Value); err == nil {
				f.Time = t
			}
		case headerErrorStoredAt:
			f.StoredAt = h.Value
		default:
			if !strings.HasPrefix(h.Name, errorPrefix) {
				others = append(others, h)
			}
		}
	}
	return f, others
}

// count is a number in a header; what is none counts as 0.
func count(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// FromKafka rebuilds a record from what KafkaHeaders and the topic, key and value hold, as far as it goes:
// a record that something else produced has what its headers say and nothing more. The second result says
// whether the record may be a repeat.
func FromKafka(topic string, key, value []byte, timestamp time.Time, headers []Header) (Record, bool) {
	r := Record{Topic: topic, Key: key, Received: timestamp, Body: value}
	redelivered := false
	for _, h := range headers {
		switch h.Name {
		case ":method":
			r.Method = h.Value
		case ":scheme":
			r.Scheme = h.Value
		case ":authority":
			r.Authority = h.Value
		case ":path":
			r.Path = h.Value
		case headerRoute:
			r.Route = h.Value
		case headerSource:
			r.Source = h.Value
		case headerMode:
			r.Mirrored = h.Value == modeMirror
		case headerRedelivered:
			redelivered = h.Value == "true"
		case ceID:
			if id, err := ParseID(h.Value); err == nil {
				r.ID = id
			}
		case ceTime:
			if t, err := time.Parse(time.RFC3339Nano, h.Value); err == nil {
				r.Received = t
			}
		default:
			if name, ok := strings.CutPrefix(h.Name, TrailerPrefix); ok {
				r.Trailers = append(r.Trailers, Header{name, h.Value})
			} else if !strings.HasPrefix(h.Name, CloudEventsPrefix) && !strings.HasPrefix(h.Name, ReservedPrefix) {
				r.Headers = append(r.Headers, h)
			}
		}
	}
	return r, redelivered
}
