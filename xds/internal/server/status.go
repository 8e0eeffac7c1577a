package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

const (
	// goneTime is how long a node that went stays in Status, and maxGone how many do.
	goneTime = 10 * time.Minute
	maxGone  = 1000
)

// Status is what one server knows of its groups and nodes. Versions are those of all of a group's resources.
type Status struct {
	// Server is Options.Name.
	Server string        `json:"server"`
	Groups []GroupStatus `json:"groups"`
	// Nodes are in the order of groups and ids, those that are connected first.
	Nodes []NodeStatus `json:"nodes"`
}

// GroupStatus is where one group's rollout is.
type GroupStatus struct {
	Name  string        `json:"name"`
	Stage rollout.Stage `json:"stage"`
	// Since is when the stage began; zero (left out) where that was before this process.
	Since time.Time `json:"since,omitzero"`
	// Good is the version that a rollout finished with last, and Candidate the one being rolled out, if any.
	Good      string `json:"good,omitempty"`
	Candidate string `json:"candidate,omitempty"`
	// Rejection is why the latest candidate was rolled back.
	Rejection *rollout.Rejection `json:"rejection,omitempty"`
}

// NodeStatus is one node's.
type NodeStatus struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster,omitempty"`
	// Group is empty where no group takes the node, which then gets nothing.
	Group string `json:"group"`
	// Canary says that the node was chosen to get the latest candidate first.
	Canary         bool      `json:"canary"`
	ConnectedSince time.Time `json:"connected_since"`
	// DisconnectedSince is zero (left out) while the node is connected.
	DisconnectedSince time.Time `json:"disconnected_since,omitzero"`
	// Wanted is what the node is to have, and Acknowledged what it acknowledged last.
	Wanted            string    `json:"wanted,omitempty"`
	WantedSince       time.Time `json:"wanted_since,omitzero"`
	Acknowledged      string    `json:"acknowledged,omitempty"`
	AcknowledgedSince time.Time `json:"acknowledged_since,omitzero"`
	// Rejections are what the node rejected and has not acknowledged another version of since, one for each type.
	Rejections []rollout.Rejection `json:"rejections,omitempty"`
}

// Status returns what every node has and is to have. Nodes that went are in it for a while.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{Server: s.options.Name, Groups: []GroupStatus{}, Nodes: []NodeStatus{}}
	for _, g := range s.groups {
		state := g.rollout.State()
		status.Groups = append(status.Groups, GroupStatus{
			Name: g.name, Stage: state.Stage, Since: state.Since, Good: state.Good, Candidate: state.Candidate, Rejection: state.Rejection,
		})
	}
	slices.SortFunc(status.Groups, func(a, b GroupStatus) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range s.nodes {
		status.Nodes = append(status.Nodes, n.status())
	}
	s.forgetGone(time.Now())
	status.Nodes = append(status.Nodes, s.gone...)
	slices.SortFunc(status.Nodes, func(a, b NodeStatus) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), a.DisconnectedSince.Compare(b.DisconnectedSince), cmp.Compare(a.ID, b.ID))
	})
	return status
}

func (n *node) status() NodeStatus {
	status := NodeStatus{
		ID: n.key.id, Cluster: n.cluster, Group: n.key.group, ConnectedSince: n.since,
		Acknowledged: n.acknowledged, AcknowledgedSince: n.acknowledgedSince, Rejections: n.rejections(),
	}
	if n.group != nil {
		status.Canary = n.group.rollout.Canary(n.key.id)
	}
	if n.wanted != nil {
		status.Wanted, status.WantedSince = n.wanted.version, n.wantedSince
	}
	return status
}

// remember keeps the last status of a node that goes.
func (s *Server) remember(n *node, now time.Time) {
	status := n.status()
	status.DisconnectedSince = now
	s.gone = append(s.gone, status)
	s.forgetGone(now)
}

func (s *Server) forgetGone(now time.Time) {
	recent := max(0, len(s.gone)-maxGone)
	for recent < len(s.gone) && now.Sub(s.gone[recent].DisconnectedSince) > goneTime {
		recent++
	}
	s.gone = slices.Delete(s.gone, 0, recent)
}

// returned drops the memory of a node that is there again.
func (s *Server) returned(key nodeKey) {
	s.gone = slices.DeleteFunc(s.gone, func(n NodeStatus) bool { return n.Group == key.group && n.ID == key.id })
}
