package record

import (
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
// a repeat; the CloudEvents attributes. In a dead-letter topic
// those of ErrorHeaders follow.
func (r *Record) KafkaHeaders(redelivered bool) []Header {
	h := make([]Header, 0, len(r.Headers)+len(r.Trailers)+12)
	h = append(h,
		Header{":method", r.Method}, Header{":scheme", r.Scheme}, Header{":authority", r.Authority},
		Header{":path", r.Path})
	for _, own := range r.Headers {
		if !strings.HasPrefix(own.Name, CloudEventsPrefix) && !strings.HasPrefix(own.Name, ReservedPrefix) {
			h = append(h, own)
		}
	}
	for _, t := range r.Trailers {
		h = append(h, Header{TrailerPrefix + t.Name, t.Value})
	}
	h = append(h, Header{headerRoute, r.Route}, Header{headerSource, r.Source})
	if r.Mirrored {
		h = append(h, Header{headerMode, modeMirror})
	}
	if redelivered {
		h = append(h, Header{headerRedelivered, "true"})
	}
	return append(h,
		Header{ceSpecVersion, "1.0"}, Header{ceID, r.ID.String()},
		Header{ceSource, r.Scheme + "://" + r.Authority}, Header{ceType, eventType},
		Header{ceTime, r.Received.UTC().Format(time.RFC3339Nano)})
}

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
