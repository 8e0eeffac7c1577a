// Package rollout decides which version of its configuration each node of a group is to have, and when. It is pure:
// it has no clock and no locks, and deals in versions, not in what they stand for.
//
// Until a group has a good version, everyone gets what is offered. From then on a new version, the candidate, goes to
// the canaries first; when all of them have acknowledged it and have stayed connected for a time, to everyone; and when
// everyone connected has acknowledged it, or after AckTimeout half of them, it is good. Whoever rejects it before that,
// and had no quarrel with the good version, ends its rollout: everyone gets the good version again, and the candidate is
// not tried again unless something else is offered in between.
package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Rollout is the state of one group.
type Rollout struct {
	group    string
	policy   Policy
	state    State
	nodes    map[string]*node
	revision int

	connected int
	// canaries are those of the latest candidate, gone ones too.
	canaries []*node
	// awaited counts the nodes for which awaits holds: acknowledgements must not cost more in a larger group.
	awaited int
}

type node struct {
	id string
	// rank puts nodes in the order in which they become canaries.
	rank      uint64
	connected bool
	// since is when the node was given the candidate, came back or went away, whichever was last.
	since time.Time
	// canary and acked are about the candidate; acked also about the present connection.
	canary, acked bool
	// kept says that the node came with the candidate.
	kept   bool
	losses int
	// ailing says that the node has rejected the good version on this connection, and taken nothing since: what it rejects is
	// its own trouble.
	ailing bool
}

// New makes a group that has nothing and nobody.
func New(group string, policy Policy) *Rollout {
	return &Rollout{group: group, policy: policy, state: State{Stage: Idle}, nodes: map[string]*node{}}
}

// State returns where the group is.
func (r *Rollout) State() State { return r.state }

// Revision grows whenever Wanted may have changed for nodes that were connected already.
func (r *Rollout) Revision() int { return r.revision }

// Wanted returns the version that a node is to have, or "" where there is none yet.
func (r *Rollout) Wanted(id string) string {
	switch r.state.Stage {
	case Everyone:
		return r.state.Candidate
	case Canaries, Holding:
		if n := r.nodes[id]; n != nil && (n.canary || n.kept) {
			return r.state.Candidate
		}
	}
	return r.state.Good
}

// Canary says whether a node was chosen to get the latest candidate first.
func (r *Rollout) Canary(id string) bool {
	n := r.nodes[id]
	return n != nil && n.canary
}

// Deadline returns when Tick has something to do if nothing else happens, and false if it never has.
func (r *Rollout) Deadline() (time.Time, bool) {
	switch r.state.Stage {
	case Holding:
		return r.state.Since.Add(r.policy.Hold), true
	case Canaries:
		if n := r.mostOverdue(); n != nil {
			return r.patience(n), true
		}
	case Everyone:
		return r.state.Since.Add(AckTimeout), r.half()
	}
	return time.Time{}, false
}

// Restore says what the group was good with before this process. It must come before the first Offer.
func (r *Rollout) Restore(version string) {
	if r.state.Stage != Idle {
		panic("BUG: a version is restored after others were offered")
	}
	r.state.Good = version
	r.enter(Done, time.Time{})
}

// Offer begins the rollout of a version, in the place of one that is under way. The good version ends it instead, and
// one that is being rolled out, or was just rejected, changes nothing.
func (r *Rollout) Offer(version string, now time.Time) {
	switch {
	case version == r.state.Candidate, r.state.Rejection != nil && version == r.state.Rejection.Version:
		return
	case version == r.state.Good:
		if r.state.Stage != Done {
			r.state.Candidate = ""
			r.enter(Done, now)
		}
		return
	}
	r.state.Candidate = version
	r.canaries = nil
	for _, n := range r.nodes {
		n.since, n.canary, n.acked, n.kept, n.losses = now, false, false, false, 0
	}
	if r.state.Good == "" || r.policy.CanaryPercent == 0 {
		r.enter(Everyone, now)
	} else {
		r.enter(Canaries, now)
	}
	r.advance(now)
}

// Connected says that a node is there.
func (r *Rollout) Connected(id string, now time.Time) {
	n := r.nodes[id]
	if n == nil {
		n = &node{id: id, rank: r.rank(id)}
		r.nodes[id] = n
	}
	if !n.connected {
		r.update(n, func() { n.connected, n.since = true, now })
		r.connected++
	}
	r.advance(now)
}

// Has says that a node that has just connected came with a version: another server gave it that, or this one before a
// restart. Where that is the candidate, it keeps it: what is good here may be far older. It is no canary for that.
func (r *Rollout) Has(id, version string) {
	n := r.nodes[id]
	if n == nil || !n.connected || version == "" || version != r.state.Candidate || r.Wanted(id) == version {
		return
	}
	n.kept = true
	r.revision++
}

// Disconnected says that a node has gone.
func (r *Rollout) Disconnected(id string, now time.Time) {
	n := r.nodes[id]
	if n == nil || !n.connected {
		return
	}
	r.update(n, func() { n.connected, n.acked, n.ailing, n.since = false, false, false, now })
	r.connected--
	if !r.awaits(n) {
		delete(r.nodes, id)
	} else if n.losses++; n.losses > maxLosses {
		r.reject(id, "", fmt.Sprintf("went away %d times since it got the version", n.losses), now)
	}
	r.advance(now)
}

// Acked says that a node has acknowledged a version, in all that it subscribes to.
func (r *Rollout) Acked(id, version string, now time.Time) {
	n := r.nodes[id]
	if n == nil || !n.connected || version != r.Wanted(id) {
		return
	}
	n.ailing = false
	if version == r.state.Candidate {
		r.update(n, func() { n.acked = true })
		r.advance(now)
	}
}

// Nacked says that a node has rejected resources of a version. One that has rejected the good version too is no witness
// against another.
func (r *Rollout) Nacked(id, version, resourceType, reason string, now time.Time) {
	n := r.nodes[id]
	switch {
	case version == "":
	case version == r.state.Candidate && r.state.Good != "" && (n == nil || !n.ailing):
		r.reject(id, resourceType, reason, now)
	case version == r.state.Candidate && n != nil: // there is nothing to go back to, or no reason
		r.update(n, func() { n.acked = false })
	case version == r.state.Good && n != nil && n.connected:
		n.ailing = true
	}
}

// Tick says how late it is.
func (r *Rollout) Tick(now time.Time) {
	if r.state.Stage == Canaries {
		if n := r.mostOverdue(); n != nil && !now.Before(r.patience(n)) {
			reason := fmt.Sprintf("did not acknowledge within %v", AckTimeout)
			if !n.connected {
				reason = fmt.Sprintf("went away and was not back within %v", r.policy.Hold)
			}
			r.reject(n.id, "", reason, now)
		}
	}
	r.advance(now)
}

// advance goes as far as the nodes allow.
func (r *Rollout) advance(now time.Time) {
	r.choose(now)
	for {
		switch {
		case r.state.Stage == Canaries && len(r.canaries) > 0 && r.awaited == 0:
			r.enter(Holding, now)
		case r.state.Stage == Holding && r.awaited > 0:
			r.enter(Canaries, now)
		case r.state.Stage == Holding && !now.Before(r.state.Since.Add(r.policy.Hold)):
			r.enter(Everyone, now)
		// With nobody there, nobody has tried it. One that never acknowledges must not keep what the others do well with from
		// being what they go back to, and from being kept over restarts.
		case r.state.Stage == Everyone && r.half() && (r.awaited == 0 || !now.Before(r.state.Since.Add(AckTimeout))):
			r.state.Good, r.state.Candidate = r.state.Candidate, ""
			r.enter(Done, now)
		default:
			return
		}
	}
}

// half says whether there are nodes and, of the stage Everyone, at least half of them have acknowledged.
func (r *Rollout) half() bool { return r.connected > 0 && 2*r.awaited <= r.connected }

// choose makes nodes canaries until there are enough for those connected. More may connect later, as after a restart
// of this process; but nobody takes the place of a canary that went, lest a bad version walks through the group. Those
// that have the candidate anyway come first, and last those that do not even take the good version.
func (r *Rollout) choose(now time.Time) {
	if r.state.Stage != Canaries && r.state.Stage != Holding {
		return
	}
	more := r.policy.canaries(r.connected) - len(r.canaries)
	if more <= 0 {
		return
	}
	var free []*node
	for _, n := range r.nodes {
		if n.connected && !n.canary {
			free = append(free, n)
		}
	}
	slices.SortFunc(free, func(a, b *node) int {
		return cmp.Or(last(a.ailing, b.ailing), last(!a.kept, !b.kept), cmp.Compare(a.rank, b.rank))
	})
	for _, n := range free[:min(more, len(free))] {
		r.update(n, func() { n.canary, n.since = true, now })
		r.canaries = append(r.canaries, n)
	}
	r.revision++
}

// last orders what is so behind what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// awaits says whether the stage lasts until n has acknowledged.
func (r *Rollout) awaits(n *node) bool {
	switch r.state.Stage {
	case Canaries, Holding:
		return n.canary && !n.acked
	case Everyone:
		return n.connected && !n.acked
	}
	return false
}

func (r *Rollout) update(n *node, edit func()) {
	if r.awaits(n) {
		r.awaited--
	}
	edit()
	if r.awaits(n) {
		r.awaited++
	}
}

func (r *Rollout) enter(stage Stage, now time.Time) {
	r.state.Stage, r.state.Since = stage, now
	if stage != RolledBack {
		r.state.Rejection = nil
	}
	r.revision++
	r.awaited = 0
	for id, n := range r.nodes {
		if r.awaits(n) {
			r.awaited++
		} else if !n.connected {
			delete(r.nodes, id)
		}
	}
}

func (r *Rollout) reject(id, resourceType, reason string, now time.Time) {
	r.state.Rejection = &Rejection{Node: id, Version: r.state.Candidate, Type: resourceType, Reason: reason, At: now}
	r.state.Candidate = ""
	r.enter(RolledBack, now)
}

// patience is when a canary that is awaited counts as one that rejected the candidate: it may have crashed.
func (r *Rollout) patience(n *node) time.Time {
	if n.connected {
		return n.since.Add(AckTimeout)
	}
	return n.since.Add(r.policy.Hold)
}

// mostOverdue returns the canary that is awaited whose patience ends first, or nil.
func (r *Rollout) mostOverdue() *node {
	var first *node
	for _, n := range r.canaries {
		if r.awaits(n) && (first == nil || r.patience(n).Before(r.patience(first))) {
			first = n
		}
	}
	return first
}

// rank is the same in every process, so that servers that share a group's nodes, and restarts, choose alike.
func (r *Rollout) rank(id string) uint64 {
	sum := sha256.Sum256([]byte(r.group + "\x00" + id))
	return binary.BigEndian.Uint64(sum[:])
}
