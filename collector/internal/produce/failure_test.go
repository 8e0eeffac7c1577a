package produce

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/quick"
	"time"

	"github.com/IBM/sarama"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err     error
		verdict verdict
		class   string
	}{
		{sarama.ErrMessageSizeTooLarge, blame, ClassTooLarge},
		{sarama.ErrMessageSetSizeTooLarge, blame, ClassTooLarge},
		{sarama.ConfigurationError("larger than MaxMessageBytes"), blame, ClassTooLarge},
		{sarama.PacketEncodingError{Info: "invalid length"}, blame, ClassRejected},
		{sarama.ErrInvalidRecord, blame, ClassRejected},
		{sarama.ErrInvalidTimestamp, blame, ClassRejected},
		{sarama.ErrInvalidTopic, hopeless, ClassTopic},
		{fmt.Errorf("leads: %w", sarama.ErrInvalidTopic), hopeless, ClassTopic},
		{sarama.ErrUnknownTopicOrPartition, retry, "unknown_topic"},
		{fmt.Errorf("leads: %w", sarama.ErrTopicAuthorizationFailed), retry, "not_authorized"},
		{sarama.ErrSASLAuthenticationFailed, retry, "authentication"},
		{sarama.ErrNotEnoughReplicas, retry, "not_enough_replicas"},
		{sarama.ErrLeaderNotAvailable, retry, "no_leader"},
		{sarama.ErrRequestTimedOut, retry, "timeout"},
		{sarama.ErrKafkaStorageError, retry, "kafka_storage"},
		{sarama.ErrOutOfOrderSequenceNumber, retry, "kafka_other"},
		{sarama.KError(9999), retry, "kafka_other"},
		{sarama.ErrOutOfBrokers, retry, "unreachable"},
		{io.EOF, retry, "unreachable"},
		{errors.New("anything"), retry, "unreachable"},
	} {
		if v, class := judge(c.err); v != c.verdict || class != c.class {
			t.Errorf("judge(%v) = %v, %s, want %v, %s", c.err, v, class, c.verdict, c.class)
		}
	}
}

func TestBackoffGrowsToItsBoundAndIsNeverTheSame(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 7: 5 * time.Second,
		1_000_000: 5 * time.Second,
	} {
		if got := backoff(failures, 0); got != want/2 {
			t.Errorf("least backoff after %d failures is %v, want %v", failures, got, want/2)
		}
	}
	property := func(failures uint16, random uint16) bool {
		r := float64(random) / (1 << 16)
		d := backoff(int(failures)+1, r)
		return d >= firstBackoff/2 && d < lastBackoff && d >= backoff(int(failures)+1, 0)
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}
