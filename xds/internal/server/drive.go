package server

import (
	"context"
	"fmt"
	"time"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// lock locks s, and returns what unlocks it when all that has happened was acted on.
func (s *Server) lock() (unlock func()) {
	s.mu.Lock()
	return func() {
		defer s.mu.Unlock()
		s.schedule(time.Now())
		if len(s.finished) > 0 && !s.telling {
			s.telling = true
			s.told.Go(s.tell)
		}
	}
}

// schedule sets the timer to the next deadline.
func (s *Server) schedule(now time.Time) {
	var next time.Time
	if len(s.settling) > 0 {
		next = s.settling[0].at
	}
	for _, g := range s.groups {
		if !g.deadline.IsZero() && (next.IsZero() || g.deadline.Before(next)) {
			next = g.deadline
		}
	}
	if next.IsZero() || s.stopped {
		s.timer.Stop()
		return
	}
	s.timer.Reset(next.Sub(now))
}

// wake does what is due.
func (s *Server) wake() {
	defer s.lock()()
	now := time.Now()
	for len(s.settling) > 0 && !now.Before(s.settling[0].at) {
		n := s.settling[0].node
		s.settling = s.settling[1:]
		if len(n.streams) > 0 && n.group != nil {
			s.review(n, now)
			s.drive(n.group, now)
		}
	}
	for _, g := range s.groups {
		if !g.deadline.IsZero() && !now.Before(g.deadline) && !s.stopped {
			g.rollout.Tick(now)
			s.drive(g, now)
		}
	}
}

// tell hands the versions that are good to Options.Good, in their order.
func (s *Server) tell() {
	for {
		s.mu.Lock()
		if len(s.finished) == 0 {
			s.telling = false
			s.mu.Unlock()
			return
		}
		f := s.finished[0]
		s.finished = s.finished[1:]
		s.mu.Unlock()
		s.options.Good(f.group, f.version)
	}
}

// group returns a group, which it makes on first use.
func (s *Server) group(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{
			name: name, rollout: rollout.New(name, s.options.Rollout), snapshots: map[string]*snapshot{}, nodes: map[string]*node{},
		}
		g.state = g.rollout.State()
		s.groups[name] = g
		s.metrics.group(name)
	}
	return g
}

// drive brings a group's nodes to where its rollout is after an event. What a node has already, it acknowledges at
// once, which may move the rollout on.
func (s *Server) drive(g *group, now time.Time) {
	for g.revision != g.rollout.Revision() {
		g.revision = g.rollout.Revision()
		for _, n := range g.nodes {
			s.give(n, now)
		}
	}
	s.report(g)
	g.forget()
	g.deadline, _ = g.rollout.Deadline()
}

// give lets a node have what its group's rollout wants it to.
func (s *Server) give(n *node, now time.Time) {
	wanted := n.group.snapshots[n.group.rollout.Wanted(n.key.id)]
	if wanted == nil || wanted == n.wanted {
		return
	}
	n.wanted, n.wantedSince, n.has = wanted, now, false
	if err := s.cache.SetSnapshot(context.Background(), n.key.String(), wanted.Snapshot); err != nil {
		panic(fmt.Sprintf("BUG: %v", err)) // fails only where that context ends, or a resource does not marshal, as all have
	}
	s.review(n, now)
}

// review tells the rollout when a node has all that it is to have. The group has to be driven on.
func (s *Server) review(n *node, now time.Time) {
	if n.wanted == nil || n.has || !n.complies(now, n.group.good()) {
		return
	}
	n.has, n.acknowledged, n.acknowledgedSince = true, n.wanted.version, now
	n.group.rollout.Acked(n.key.id, n.wanted.version, now)
}

// report says where a rollout has got to since the last report.
func (s *Server) report(g *group) {
	before, state := g.state, g.rollout.State()
	g.state = state
	if state.Good != before.Good {
		s.metrics.rollouts.WithLabelValues(g.name, resultDone).Inc()
		if s.options.Good != nil && !s.stopped {
			s.finished = append(s.finished, finished{g.name, state.Good})
		}
	}
	if before.Rejection != nil && before.Rejection != state.Rejection {
		for _, n := range g.nodes {
			for b := range n.subscriptions() {
				if b.rejection != nil && b.rejection.Version == before.Rejection.Version {
					b.forgive()
				}
			}
		}
	}
	if state.Stage == before.Stage && state.Candidate == before.Candidate {
		return
	}
	s.metrics.enter(g.name, state.Stage)
	log := s.log.With("group", g.name, "good", state.Good)
	if r := state.Rejection; r != nil {
		s.metrics.rollouts.WithLabelValues(g.name, resultRolledBack).Inc()
		log.Error("rolled back", "version", r.Version, "node", r.Node, "type", r.Type, "reason", r.Reason)
		return
	}
	log.Info("rollout", "stage", string(state.Stage), "candidate", state.Candidate)
}
