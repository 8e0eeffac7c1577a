package replay

import (
	"log/slog"
	"time"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/replay/internal/consume"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// kafka returns how c says that Kafka is reached.
func (c Config) kafka() kafka.Config {
	return kafka.Config{Brokers: c.Kafka, PropertiesFile: c.KafkaConfig, ClientID: "crowd-replay"}
}

// consume returns what c, which is valid and has its defaults, says of what is read.
func (c Config) consume(log *slog.Logger) consume.Config {
	now := time.Now()
	since, _ := parseMoment(c.Since, now) // valid
	until, _ := parseMoment(c.Until, now)
	passes := c.Filter.wanted()
	return consume.Config{
		Kafka: c.kafka(), Group: c.Group, Topics: c.Topics, DeadLetterTopic: c.DeadLetterTopic, FromDeadLetter: c.FromDeadLetter,
		Since: since, Until: until.Truncate(time.Millisecond), // as Kafka's timestamps are
		Wanted:         func(m *flow.Message) bool { return (c.Mirrored || !m.Record.Mirrored) && passes(m) },
		RequestTimeout: time.Duration(c.Timeout), DrainTimeout: time.Duration(c.DrainTimeout),
		Log: log,
	}
}

var orders = map[Order]flow.Order{OrderKey: flow.ByKey, OrderPartition: flow.ByPartition, OrderNone: flow.Unordered}

// flow returns what c, which is valid and has its defaults, says of what is sent when; what is called is missing.
func (c Config) flow(log *slog.Logger) flow.Options {
	o := flow.Options{
		Order: orders[c.Order], MaxAttempts: c.Retry.MaxAttempts, MaxAge: time.Duration(c.Retry.MaxAge),
		InitialBackoff: time.Duration(c.Retry.InitialBackoff), MaxBackoff: time.Duration(c.Retry.MaxBackoff),
		Failures: c.CircuitBreaker.Failures, Of: c.CircuitBreaker.Of,
		Delay: time.Duration(c.CircuitBreaker.Delay), MaxDelay: time.Duration(c.CircuitBreaker.MaxDelay),
		MaxBufferBytes: int(c.MaxBufferBytes), Log: log,
	}
	if c.FromDeadLetter {
		o.AgeSince = time.Now()
	}
	return o
}
