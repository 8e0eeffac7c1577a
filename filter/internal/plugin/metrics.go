package plugin

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/marceloboeira/crowd/filter/internal/uplink"
)

// metrics are the VM's stats; Envoy shows them as wasmcustom.NAME, summed over its workers. Counters are
// kept here and reported with the tick: a host call for each would cost every request.
type metrics struct {
	configInvalid proxywasm.MetricCounter

	answered    counter // requests answered with their route's answer
	shed        map[uplink.Refusal]*counter
	late        counter // answered 503: the record did not reach its level in time
	rejected    counter // answered 413 or 500: Kafka does not take the record
	tooLarge    counter // answered 413
	rateLimited counter // answered 429
	abandoned   counter // the client left before its request was whole
	failed      counter // answered 500: a host call that should not fail did

	mirrored      counter             // requests that went on and whose record the uplink has taken
	mirrorSkipped map[string]*counter // those that went on without a record, by the reason

	batches       counter // sent for the first time
	resent        counter // batches sent again
	batchRecords  proxywasm.MetricHistogram
	stored        counter // records that a collector has stored
	deadLettered  counter // records that went to the dead-letter topic
	refused       counter // records that a collector will never store
	streamsOpened counter
	streamsLost   counter

	held    gauge // bytes of bodies and records in the filter's memory
	window  gauge // bytes that collectors take at the moment
	waiting gauge // requests that wait for their records to reach a level
}

type counter struct {
	metric          proxywasm.MetricCounter
	total, reported uint64
}

func (c *counter) add() { c.total++ }

func (c *counter) report() {
	if c.total > c.reported {
		c.metric.Increment(c.total - c.reported)
		c.reported = c.total
	}
}

// gauge is this worker's part of a sum over all workers.
type gauge struct {
	metric   proxywasm.MetricGauge
	reported int64
}

func (g *gauge) report(value int) {
	if delta := int64(value) - g.reported; delta != 0 {
		g.metric.Add(delta)
		g.reported = int64(value)
	}
}

func defineMetrics() *metrics {
	define := func(name string) counter { return counter{metric: proxywasm.DefineCounterMetric("crowd." + name)} }
	m := &metrics{
		configInvalid: proxywasm.DefineCounterMetric("crowd.config_invalid"),
		answered:      define("answered"),
		tooLarge:      define("too_large"),
		rateLimited:   define("rate_limited"),
		abandoned:     define("abandoned"),
		shed:          map[uplink.Refusal]*counter{},
		late:          define("ack_timeout"),
		rejected:      define("rejected"),
		failed:        define("failed"),
		mirrored:      define("mirrored"),
		mirrorSkipped: map[string]*counter{},
		batches:       define("batches"),
		resent:        define("batches_resent"),
		batchRecords:  proxywasm.DefineHistogramMetric("crowd.batch_records"),
		stored:        define("records_stored"),
		deadLettered:  define("records_dead_lettered"),
		refused:       define("records_refused"),
		streamsOpened: define("streams_opened"),
		streamsLost:   define("streams_lost"),
		held:          gauge{metric: proxywasm.DefineGaugeMetric("crowd.held_bytes")},
		window:        gauge{metric: proxywasm.DefineGaugeMetric("crowd.window_bytes")},
		waiting:       gauge{metric: proxywasm.DefineGaugeMetric("crowd.waiting_requests")},
	}
	for _, r := range uplink.Refusals {
		m.shed[r] = new(define("shed." + r.String()))
	}
	for _, reason := range skipReasons() {
		m.mirrorSkipped[reason] = new(define("mirror_skipped." + reason))
	}
	return m
}

// report brings Envoy's stats up to date with the uplinks.
func (m *metrics) report(stats *uplink.Stats, links []*link, waiting int) {
	m.batches.total, m.resent.total = stats.Batches, stats.Resent
	m.stored.total, m.deadLettered.total, m.refused.total = stats.Stored, stats.DeadLettered, stats.Refused
	m.streamsOpened.total, m.streamsLost.total = stats.StreamsOpened, stats.StreamsLost
	for _, c := range []*counter{
		&m.answered, &m.tooLarge, &m.rateLimited, &m.abandoned, &m.failed, &m.late, &m.rejected, &m.mirrored, &m.batches,
		&m.resent, &m.stored, &m.deadLettered, &m.refused, &m.streamsOpened, &m.streamsLost,
	} {
		c.report()
	}
	for _, c := range m.mirrorSkipped {
		c.report()
	}
	for _, r := range uplink.Refusals {
		m.shed[r].report()
	}
	for _, n := range stats.BatchRecords {
		m.batchRecords.Record(uint64(n))
	}
	stats.BatchRecords = stats.BatchRecords[:0]
	held, window := 0, 0
	for _, l := range links {
		held += l.uplink.HeldBytes()
		window += l.uplink.WindowBytes()
	}
	m.held.report(held)
	m.window.report(window)
	m.waiting.report(waiting)
}
