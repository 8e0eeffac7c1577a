package produce

import (
	"errors"
	"math"
	"net"
	"os"
	"time"

	"github.com/IBM/sarama"
)

// verdict says what an error of Kafka means for a record.
type verdict int

const (
	// retry: the record is sent again until Kafka takes it.
	retry verdict = iota
	// blame: something in the record's batch is to blame, so each of its records is tried alone; of a record that
	// was alone it is final.
	blame
	// hopeless: Kafka can never take the record.
	hopeless
)

// Classes of refusals, as crowd_refused_total counts them.
const (
	ClassTooLarge  = "too_large"
	ClassTopic     = "invalid_topic"
	ClassRejected  = "rejected" // Kafka does not take such a record in this topic
	ClassMalformed = "malformed"
)

// judge returns what err means. The class is that of the refusal, or for retry a short name of the error. What
// is not known to be final is retried: a record refused by mistake is lost.
func judge(err error) (verdict, string) {
	var tooLong sarama.ConfigurationError
	var unencodable sarama.PacketEncodingError
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.Is(err, sarama.ErrMessageSetSizeTooLarge):
		return blame, ClassTooLarge
	case errors.As(err, &tooLong): // the only such error of a running producer: longer than MaxMessageBytes
		return blame, ClassTooLarge
	case errors.As(err, &unencodable):
		return blame, ClassRejected
	case errors.Is(err, sarama.ErrInvalidRecord), errors.Is(err, sarama.ErrInvalidTimestamp):
		return blame, ClassRejected
	case errors.Is(err, sarama.ErrInvalidTopic):
		return hopeless, ClassTopic
	}
	return retry, errorName(err)
}

// errorName names an error in a metric: few values, none of them from outside.
func errorName(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return "unknown_topic"
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return "not_authorized"
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return "authentication"
	case errors.Is(err, sarama.ErrNotEnoughReplicas), errors.Is(err, sarama.ErrNotEnoughReplicasAfterAppend):
		return "not_enough_replicas"
	case errors.Is(err, sarama.ErrLeaderNotAvailable), errors.Is(err, sarama.ErrNotLeaderForPartition):
		return "no_leader"
	case errors.Is(err, sarama.ErrRequestTimedOut), errors.As(err, &timeout) && timeout.Timeout(),
		errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, sarama.ErrKafkaStorageError):
		return "kafka_storage"
	case errors.As(err, new(sarama.KError)):
		return "kafka_other"
	}
	return "unreachable"
}

// How long a topic is left alone after a failure.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

// backoff returns how long to wait after so many failures in a row (from 1): twice as long each time, and of
// that a random part between a half and all (random is from [0, 1)), so that collectors do not come in step.
func backoff(failures int, random float64) time.Duration {
	full := min(float64(firstBackoff)*math.Pow(2, float64(failures-1)), float64(lastBackoff))
	return time.Duration(full * (1 + random) / 2)
}
