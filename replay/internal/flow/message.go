// Package flow decides what is sent when: in which order, within which limits, when again, and when no more. It knows
// neither Kafka nor HTTP.
package flow

import (
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// Message is a record to be sent, as it came out of Kafka.
type Message struct {
	// Topic, Partition and Offset are where it was read.
	Topic     string
	Partition int32
	Offset    int64
	// Record is the request. Its Topic is where it was meant for, which in a dead-letter topic is another one.
	Record record.Record
	// Headers are all of the Kafka headers, as they were read.
	Headers []record.Header
	// Timestamp is the Kafka record's.
	Timestamp time.Time
	// Unreadable says why no request can be made of it; empty where one can.
	Unreadable string
}

// Size is what it counts in a buffer, in bytes.
func (m *Message) Size() int {
	size := 256 + len(m.Record.Key) + len(m.Record.Body)
	for _, h := range m.Headers {
		size += 64 + len(h.Name) + len(h.Value)
	}
	return size
}

// Attempt is one sending of a message.
type Attempt struct {
	*Message
	// Number counts from 1.
	Number int
	// Age is how long ago the request was received.
	Age time.Duration
}

// Verdict is what an attempt came to.
type Verdict uint8

// The verdicts.
const (
	Delivered  Verdict = iota + 1 // the answer was an expected one
	Failed                        // no answer, or one after which it is tried again
	Rejected                      // an answer after which it is not
	Unsendable                    // no valid request can be made of it; the target has not seen it
	Canceled                      // the attempt was cut off at this side, because the process ends
)

// Outcome is what became of an attempt.
type Outcome struct {
	Verdict Verdict
	// Status is the answer's, 0 without one.
	Status int
	// Answer is how the answer's body begins, at most 1 KiB of it.
	Answer []byte
	// Reason says what went wrong in a sentence for people; empty if nothing did.
	Reason string
	// RetryAfter is what the answer asked for; 0 if it did not.
	RetryAfter time.Duration
	// Took is how long the attempt took.
	Took time.Duration
}

// Letter says why a message is given up.
type Letter struct {
	// Class is for programs: the classes below.
	Class string
	// Reason is a sentence for people.
	Reason string
	// Attempts is how many there have been.
	Attempts int
	// Last is the last attempt's outcome.
	Last Outcome
}

// Why a message is given up.
const (
	ClassRejected  = "rejected"          // the target's answer says that there is no point in trying again
	ClassExhausted = "retries_exhausted" // all attempts have failed
	ClassExpired   = "expired"           // the request is too old
	ClassMalformed = "malformed"         // no request can be made of the record
)
