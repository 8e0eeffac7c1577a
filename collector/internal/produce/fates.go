package produce

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/internal/label"
	"github.com/marceloboeira/crowd/collector/record"
)

// fates counts the records that Kafka has. It is safe for concurrent use.
type fates struct {
	inTopic, inDeadLetters *prometheus.CounterVec
	routes                 *label.Set

	mu      sync.RWMutex
	counted map[kind]prometheus.Counter // of inTopic: to have it look for a series costs more than all else here
}

// kind is what inTopic tells records apart by.
type kind struct {
	route string
	level record.Level
}

func newFates(registry prometheus.Registerer) *fates {
	f := &fates{
		inTopic: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_delivered_total",
			Help: "Records that all in-sync replicas of their topic have, by the level that the route asks for.",
		}, []string{"route", "level"}),
		inDeadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowd_dead_letters_total",
			Help: "Records that the dead-letter topic has, by why their own topic will never take them.",
		}, []string{"route", "reason"}),
		routes:  label.NewSet(label.Routes),
		counted: map[kind]prometheus.Counter{},
	}
	registry.MustRegister(f.inTopic, f.inDeadLetters)
	return f
}

// delivered notes a record that its topic has; level is what its route asks for.
func (f *fates) delivered(route string, level record.Level) {
	f.mu.RLock()
	counter := f.counted[kind{route, level}]
	f.mu.RUnlock()
	if counter == nil {
		own := f.routes.Value(route)
		counter = f.inTopic.WithLabelValues(own, level.String())
		if own == route { // not what other routes, of which there may be any number, are counted as
			f.mu.Lock()
			f.counted[kind{own, level}] = counter
			f.mu.Unlock()
		}
	}
	counter.Inc()
}

// deadLettered notes a record that the dead-letter topic has; class is one of the Class constants.
func (f *fates) deadLettered(route, class string) {
	f.inDeadLetters.WithLabelValues(f.routes.Value(route), class).Inc()
}
