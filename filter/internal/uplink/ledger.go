package uplink

import (
	"time"

	"github.com/marceloboeira/crowd/collector/record"
)

// Route is a route as an uplink sees it: the lane of its records, how long its requests wait, and its line in the loss
// ledger. It belongs to the uplink that made it.
type Route struct {
	lane     *lane
	timeout  time.Duration
	answered record.Answered // since this was last reported
	changed  bool            // among Uplink.changed
}

// Route begins a route whose records go to a topic and whose requests are answered at a level, those that wait within
// the timeout.
func (u *Uplink) Route(name, topic string, level record.Level, timeout time.Duration) *Route {
	key := laneKey{topic, level.Direct()}
	l := u.lanes[key]
	if l == nil {
		l = &lane{laneKey: key}
		u.lanes[key] = l
	}
	return &Route{lane: l, timeout: timeout, answered: record.Answered{Route: name, Level: level}}
}

// Level returns what the route asks for.
func (r *Route) Level() record.Level { return r.answered.Level }

// size bounds what the line takes in a batch: its route's name, and numbers.
func (r *Route) size() int { return len(r.answered.Route) + 32 }

// answered counts an answer.
func (u *Uplink) answered(r *Route) {
	r.answered.Answers++
	if !r.changed {
		r.changed = true
		u.changed = append(u.changed, r)
		u.changedBytes += r.size()
		u.stored += r.size()
	}
}

// report puts what has been answered into a batch that is about to be sent for the first time.
func (u *Uplink) report(b *batch) {
	if len(u.changed) == 0 {
		return
	}
	for _, r := range u.changed {
		b.AddAnswered(r.answered)
		r.answered.Answers, r.changed = 0, false
	}
	u.stored -= u.changedBytes
	u.changed, u.changedBytes, u.reportDue = u.changed[:0], 0, false
	u.count(b)
}

// tickReport reports what no batch has taken along for a whole tick: its records may wait for room, or for a collector
// that hangs, and be lost with the VM; who was answered should be known all the same.
func (u *Uplink) tickReport() {
	due := u.reportDue
	u.reportDue = len(u.changed) > 0
	if !due || !u.reportDue || u.reports.inflight+len(u.reports.queue) > 0 {
		return
	}
	u.reports.queue = append(u.reports.queue, &batch{Batch: u.spareBatch(u.changedBytes), lane: u.reports})
	u.activate(u.reports)
}
