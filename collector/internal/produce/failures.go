package produce

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/internal/throttle"
)

// countedTopics bounds the series of crowd_produce_failures_total.
const countedTopics = 1000

// failures counts and logs what goes wrong between the producer and Kafka. It is safe for concurrent use.
type failures struct {
	log    *throttle.Logger
	total  *prometheus.CounterVec
	topics *label.Set
}

func newFailures(log *slog.Logger, registry prometheus.Registerer) *failures {
	f := &failures{
		log: throttle.New(log),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_produce_failures_total",
			Help: "Times that a topic turned out not to be writable, by error; its records are sent again.",
		}, []string{"topic", "error"}),
		topics: label.NewSet(countedTopics),
	}
	registry.MustRegister(f.total)
	return f
}

// report notes that a topic cannot be written, for so many times in a row.
func (f *failures) report(topic string, inARow int, err error) {
	f.total.WithLabelValues(f.topics.Value(topic), errorName(err)).Inc()
	f.log.Warn("kafka does not take records; trying again", "topic", topic, "failures", inARow, "error", err)
}

// unreachable notes that no broker can be reached.
func (f *failures) unreachable(brokers []string, err error) {
	f.log.Warn("kafka cannot be reached; trying again", "brokers", brokers, "error", err)
}
