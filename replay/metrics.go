package replay

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/replay/internal/consume"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// metrics count what happens. They are safe for concurrent use.
type metrics struct {
	attempts    *prometheus.CounterVec
	seconds     prometheus.Histogram
	age         prometheus.Histogram
	deadLetters *prometheus.CounterVec

	// The totals of this process, for people.
	delivered, buried, failed atomic.Int64
}

// newMetrics registers the metrics. progress and state are called for each scrape.
func newMetrics(registry *prometheus.Registry, progress func() consume.Progress, state func() flow.State) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_replay_attempts_total",
			Help: "Requests sent, by topic and the answer's status; none: there was no answer.",
		}, []string{"topic", "status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowd_replay_attempt_seconds", Help: "How long requests took.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}),
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "crowd_replay_delivery_age_seconds", Help: "How long after they were received requests were delivered.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_replay_dead_letters_total",
			Help: "Records that were given up, by topic and class.",
		}, []string{"topic", "class"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "crowd_replay_" + name, Help: help}, value)
	}
	registry.MustRegister(m.attempts, m.seconds, m.age, m.deadLetters,
		gauge("lag_records", "Records of this member's partitions that are not done.", func() float64 { return float64(progress().Lag) }),
		gauge("partitions", "Partitions that this member has.", func() float64 { return float64(progress().Partitions) }),
		gauge("under_way", "Requests that are under way.", func() float64 { return float64(state().UnderWay) }),
		gauge("waiting", "Records that wait for a retry.", func() float64 { return float64(state().Waiting) }),
		gauge("held_bytes", "Size of the records that have been read and are not done.", func() float64 { return float64(state().HeldBytes) }),
		gauge("rate_limit", "Requests a second that this member may send now.", func() float64 { return state().Rate }),
		gauge("concurrency_limit", "Requests that may be under way now.", func() float64 { return float64(state().Concurrency) }),
		gauge("circuit_breaker_open", "1 while the circuit breaker is open or tries whether the target is back.", func() float64 {
			if state().Breaker == "closed" {
				return 0
			}
			return 1
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "crowd_replay_skipped_total", Help: "Records that are not to be sent.",
		}, func() float64 { return float64(progress().Skipped) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "crowd_replay_lost_total", Help: "Records that Kafka had deleted before they were done (retention).",
		}, func() float64 { return float64(progress().Lost) }),
	)
	return m
}

func (m *metrics) attempted(a flow.Attempt, o flow.Outcome) {
	status := "none"
	if o.Status != 0 {
		status = strconv.Itoa(o.Status)
	}
	m.attempts.WithLabelValues(a.Topic, status).Inc()
	m.seconds.Observe(o.Took.Seconds())
	if o.Verdict == flow.Delivered {
		m.age.Observe(math.Max(0, time.Since(a.Record.Received).Seconds()))
		m.delivered.Add(1)
	} else {
		m.failed.Add(1)
	}
}

func (m *metrics) gaveUp(message *flow.Message, l flow.Letter) {
	m.deadLetters.WithLabelValues(message.Topic, l.Class).Inc()
	m.buried.Add(1)
}
