package source

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are those of all Sources of a server.
type Metrics struct {
	reloads *prometheus.CounterVec
	valid   *prometheus.GaugeVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{
		reloads: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_config_reloads_total",
			Help: "Changes of a group's routes by result: accepted, or rejected with the last good ones kept.",
		}, []string{"group", "result"}),
		valid: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowd_xds_config_valid",
			Help: "1 while a group's routes are what is offered, 0 while they are broken and earlier ones are served.",
		}, []string{"group"}),
	}
}

type groupMetrics struct {
	accepted, rejected prometheus.Counter
	valid              prometheus.Gauge
}

func (m *Metrics) of(group string) groupMetrics {
	return groupMetrics{
		accepted: m.reloads.WithLabelValues(group, "accepted"),
		rejected: m.reloads.WithLabelValues(group, "rejected"),
		valid:    m.valid.WithLabelValues(group),
	}
}
