package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// How rollouts end.
const (
	resultDone       = "done"
	resultRolledBack = "rolled_back"
	resultReplaced   = "replaced"
)

type metrics struct {
	nodes     *prometheus.GaugeVec
	responses *prometheus.CounterVec
	nacks     *prometheus.CounterVec
	rollouts  *prometheus.CounterVec
	stage     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	factory := promauto.With(reg)
	m := metrics{
		nodes: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowd_xds_connected_nodes",
			Help: "Envoys with an open stream, told apart by their node id, by group; those that no group takes have an empty one.",
		}, []string{"group"}),
		responses: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_responses_total",
			Help: "Versions sent to Envoys, by type of resource.",
		}, []string{"type"}),
		nacks: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_nacks_total",
			Help: "Versions that an Envoy rejected, by type of resource; /status and the log say which Envoy and why.",
		}, []string{"type"}),
		rollouts: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_xds_rollouts_total",
			Help: "Rollouts that ended, by group and result: done, rolled_back, or replaced by another.",
		}, []string{"group", "result"}),
		stage: factory.NewGaugeVec(prometheus.GaugeOpts{
			Name: "crowd_xds_rollout_stage",
			Help: "1 for the stage that a group's rollout is at, 0 for the others.",
		}, []string{"group", "stage"}),
	}
	for _, name := range typeNames {
		m.responses.WithLabelValues(name)
		m.nacks.WithLabelValues(name)
	}
	m.nodes.WithLabelValues("")
	return m
}

// group makes a group's series, so that they are there before anything happens.
func (m metrics) group(name string) {
	m.nodes.WithLabelValues(name)
	for _, result := range []string{resultDone, resultRolledBack, resultReplaced} {
		m.rollouts.WithLabelValues(name, result)
	}
	m.enter(name, rollout.Idle)
}

func (m metrics) enter(group string, stage rollout.Stage) {
	for _, s := range rollout.Stages {
		value := 0.
		if s == stage {
			value = 1
		}
		m.stage.WithLabelValues(group, string(s)).Set(value)
	}
}
