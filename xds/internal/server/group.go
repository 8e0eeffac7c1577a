package server

import (
	"time"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// group is the Envoys that share resources.
type group struct {
	name    string
	rollout *rollout.Rollout
	// revision is the rollout's that was acted on, and state what it was in then.
	revision int
	state    rollout.State
	// deadline is when the rollout has to be told the time, zero if never.
	deadline time.Time
	// snapshots are the good version and the candidate, by version.
	snapshots map[string]*snapshot
	nodes     map[string]*node
}

func (g *group) good() *snapshot      { return g.snapshots[g.rollout.State().Good] }
func (g *group) candidate() *snapshot { return g.snapshots[g.rollout.State().Candidate] }

// versionOf returns the group's version that has a version of a type: the good one where both do, because an Envoy that
// rejects that does not reject what is new. It returns "" where neither does.
func (g *group) versionOf(typeURL, version string) string {
	for _, s := range []*snapshot{g.good(), g.candidate()} {
		if s != nil && s.GetVersion(typeURL) == version {
			return s.version
		}
	}
	return ""
}

// cameWith returns the version that a new subscription proves its node to have: the candidate, or "" for any other.
func (g *group) cameWith(b *subscription) string {
	if good, candidate := g.good(), g.candidate(); good != nil && candidate != nil && b.has(candidate) && !b.has(good) {
		return candidate.version
	}
	return ""
}

// rolledBack says whether r is of the version that was rolled back last.
func (g *group) rolledBack(r *rollout.Rejection) bool {
	return r != nil && g.state.Rejection != nil && r.Version == g.state.Rejection.Version
}

// forget drops what no node can be told to have any more.
func (g *group) forget() {
	state := g.rollout.State()
	for version := range g.snapshots {
		if version != state.Good && version != state.Candidate {
			delete(g.snapshots, version)
		}
	}
}
