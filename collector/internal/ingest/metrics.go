package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/internal/produce"
	"github.com/marceloboeira/crowd/collector/record"
)

// countedRoutes bounds the series that routes make; there is room for every route of a very large document.
const countedRoutes = 20_000

// metrics are the collector's ledger and load. Routes and levels are those that the uplinks name; the level is
// the one that the route asks for, so that what was answered can be compared with what was stored.
type metrics struct {
	routes                    *label.Set
	answered, stored, refused *prometheus.CounterVec
	batches                   *prometheus.CounterVec
	batchBytes                prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer, b *budget) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		routes: label.NewSet(countedRoutes),
		answered: counter("crowd_answered_total",
			"Requests that uplinks have answered with the route's answer, as they report it.", "route", "level"),
		stored: counter("crowd_stored_total",
			"Records that all in-sync replicas have, by the level that the route asks for.", "route", "level"),
		refused: counter("crowd_refused_total",
			"Records that will never be stored.", "route", "reason"),
		batches: counter("crowd_batches_total",
			"Batches received; redelivered ones were sent to a collector before.", "redelivered"),
		batchBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "crowd_batch_bytes",
			Help:    "Size of the batches received.",
			Buckets: prometheus.ExponentialBuckets(1<<10, 4, 9), // 1 KiB to 64 MiB
		}),
	}
	registry.MustRegister(m.answered, m.stored, m.refused, m.batches, m.batchBytes,
		gauge("crowd_inflight_bytes", "Bytes of batches received and not yet acknowledged.",
			func() float64 { return float64(b.total()) }),
		gauge("crowd_streams", "Streams of uplinks.", func() float64 { return float64(b.count()) }))
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
}

// acknowledged counts what became of the records of a batch. Both lists are in order of index.
func (m *metrics) acknowledged(items []produce.Item, refused []produce.Refusal) {
	type kind struct {
		route string
		level record.Level
	}
	var run kind // of records that follow each other
	stored := 0
	flush := func() {
		if stored > 0 {
			m.stored.WithLabelValues(m.routes.Value(run.route), run.level.String()).Add(float64(stored))
		}
		stored = 0
	}
	for i := range items {
		r := &items[i].Record
		if len(refused) > 0 && refused[0].Index == items[i].Index {
			refusal := refused[0]
			refused = refused[1:]
			if !refusal.DeadLettered { // kafka has that
				m.refused.WithLabelValues(m.routes.Value(r.Route), refusal.Class).Inc()
				continue
			}
		}
		if k := (kind{r.Route, r.Ack}); k != run {
			flush()
			run = k
		}
		stored++
	}
	flush()
}
