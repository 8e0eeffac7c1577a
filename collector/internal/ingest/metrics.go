package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

// metrics are the collector's ledger and load. Routes and levels are those that the uplinks name; the level is
// the one that the route asks for, so that what was answered can be compared with what was stored.
type metrics struct {
	routes                     *label.Set
	answeredTotal, storedTotal *prometheus.CounterVec
	refusedTotal, batches      *prometheus.CounterVec
	deduplicated               prometheus.Counter
	batchBytes, batchRecords   prometheus.Histogram
}

// newMetrics registers everything; sp may be nil.
func newMetrics(registry prometheus.Registerer, b *budget, sp Spool) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		routes: label.NewSet(label.Routes),
		answeredTotal: counter("crowd_answered_total",
			"Requests that uplinks have answered with the route's answer, as they report it with their batches, counted when a "+
				"batch is synced to disk, or received where it is not to be; by the level that the route asks for.",
			"route", "level"),
		storedTotal: counter("crowd_stored_total",
			"Records that are at least synced to disk where the route asks for memory or disk, in Kafka where it asks for "+
				"that or there is no spool; by the level that the route asks for.", "route", "level"),
		refusedTotal: counter("crowd_refused_total",
			"Records that Kafka takes neither in their topic nor as dead letters. Those that came by the spool stay there, set "+
				"aside, and count as stored.", "route", "reason"),
		batches: counter("crowd_batches_total",
			"Batches received; redelivered ones were sent to a collector before.", "redelivered"),
		deduplicated: prometheus.NewCounter(prometheus.CounterOpts{Name: "crowd_batches_deduplicated_total",
			Help: "Batches received that this collector had already: acknowledged again, not stored again."}),
		batchBytes: histogram("crowd_batch_bytes", "Size of the batches received.",
			prometheus.ExponentialBuckets(1<<10, 4, 9)), // 1 KiB to 64 MiB
		batchRecords: histogram("crowd_batch_records", "Records in the batches received.",
			prometheus.ExponentialBuckets(1, 4, 8)), // 1 to 16,384
	}
	const (
		closed     = "crowd_closed_topics"
		closedHelp = "Topics that take nothing more, as they hold their share of memory or of the spool."
	)
	registry.MustRegister(m.answeredTotal, m.storedTotal, m.refusedTotal, m.batches, m.deduplicated, m.batchBytes,
		m.batchRecords,
		gauge("crowd_inflight_bytes", "Bytes of batches received and not yet acknowledged.", nil,
			func() float64 { return float64(b.total()) }),
		gauge("crowd_streams", "Streams of uplinks.", nil, func() float64 { return float64(b.count()) }),
		gauge(closed, closedHelp, prometheus.Labels{"share_of": "memory"},
			func() float64 { return float64(b.countClosed()) }))
	if sp != nil {
		registry.MustRegister(gauge(closed, closedHelp, prometheus.Labels{"share_of": "spool"}, func() float64 {
			_, topics := sp.Room()
			return float64(len(topics))
		}))
	}
	return m
}

// received counts a batch.
func (m *metrics) received(b *record.Received, bytes int) {
	redelivered := "false"
	if b.Redelivered {
		redelivered = "true"
	}
	m.batches.WithLabelValues(redelivered).Inc()
	m.batchBytes.Observe(float64(bytes))
	m.batchRecords.Observe(float64(len(b.Records)))
}

// answers counts the answers that a batch reports.
func (m *metrics) answers(answered []record.Answered) {
	for _, a := range answered {
		m.answeredTotal.WithLabelValues(m.routes.Value(a.Route), a.Level.String()).Add(float64(a.Answers))
	}
}

// stored counts the records of a batch that are stored: all but those that were refused and are no dead letters. Both
// lists are in order of index.
func (m *metrics) stored(items []produce.Item, refused []produce.Refusal) {
	type kind struct {
		route string
		level record.Level
	}
	var run kind // of records that follow each other
	n := 0
	flush := func() {
		if n > 0 {
			m.storedTotal.WithLabelValues(m.routes.Value(run.route), run.level.String()).Add(float64(n))
		}
		n = 0
	}
	for i := range items {
		if len(refused) > 0 && refused[0].Index == items[i].Index {
			nowhere := !refused[0].DeadLettered
			refused = refused[1:]
			if nowhere {
				continue
			}
		}
		if k := (kind{items[i].Record.Route, items[i].Record.Ack}); k != run {
			flush()
			run = k
		}
		n++
	}
	flush()
}

// refuse counts the records of a batch that are refused for good.
func (m *metrics) refuse(items []produce.Item, refused []produce.Refusal) {
	for _, r := range refused {
		if !r.DeadLettered {
			m.refusedTotal.WithLabelValues(m.routes.Value(items[r.Index].Record.Route), r.Class).Inc()
		}
	}
}
