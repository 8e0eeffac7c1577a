package spool

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the spool's. Write amplification is the rate of crowd_spool_disk_written_bytes_total, over all kinds, by
// that of crowd_spool_written_bytes_total.
type metrics struct {
	commits prometheus.Counter
	seconds prometheus.Histogram
	bytes   prometheus.Counter
	pebble  atomic.Pointer[pebble.Metrics] // of the last look
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		commits: counter("crowd_spool_commits_total", "Synced commits, each of what all uplinks had sent meanwhile."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "crowd_spool_commit_seconds",
			Help:    "How long synced commits took.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 2, 16), // to 3.3 s
		}),
		bytes: counter("crowd_spool_written_bytes_total", "Bytes of entries that were stored."),
	}
}

// register has the metrics exported, and what s counts.
func (m *metrics) register(registry prometheus.Registerer, s *Spool) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return value()
		})
	}
	disk := func(kind string, bytes func(*pebble.Metrics) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name:        "crowd_spool_disk_written_bytes_total",
			Help:        "Bytes that the disk wrote: the log, and tables out of memory (flush) or of other tables.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(bytes(m.pebble.Load())) })
	}
	registry.MustRegister(m.commits, m.seconds, m.bytes,
		gauge("crowd_spool_bytes", "Bytes that wait for Kafka, and what is set aside.",
			func() float64 { return float64(s.disk.Used()) }),
		gauge("crowd_spool_entries", "Entries that wait for Kafka.", func() float64 { return float64(s.entries) }),
		gauge("crowd_spool_oldest_seconds", "How long the oldest entry has waited for Kafka.", s.oldest),
		gauge("crowd_spool_set_aside_records",
			"Records, and unreadable entries, that were set aside: see crowd spool dump --set-aside.",
			func() float64 { return float64(s.setAside) }),
		disk("log", func(m *pebble.Metrics) uint64 { return m.WAL.BytesWritten }),
		disk("flush", func(m *pebble.Metrics) uint64 { return m.Levels[0].TableBytesFlushed }),
		disk("compaction", func(m *pebble.Metrics) uint64 { return m.Total().TableBytesCompacted }),
	)
}

// commit counts a synced commit.
func (m *metrics) commit(c *commit, took time.Duration) {
	m.commits.Inc()
	m.seconds.Observe(took.Seconds())
	for _, a := range c.appends {
		m.bytes.Add(float64(a.size))
	}
}

// oldest returns the age of the oldest entry in seconds. The caller holds mu.
func (s *Spool) oldest() float64 {
	var first id
	for _, t := range s.topics {
		if at := t.waiting(); at > 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 {
		return 0
	}
	return max(0, time.Since(first.time()).Seconds())
}
