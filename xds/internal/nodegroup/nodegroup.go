// Package nodegroup sorts Envoys into groups, each with routes of its own, by what they say of themselves.
package nodegroup

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Group is the Envoys that share routes. What is empty of the fields below Routes is as the server's flags say.
type Group struct {
	// Name is [a-z0-9_.-]+ and does not begin with a dot: it becomes a label and the name of a file.
	Name string `json:"name"`
	// Match says which nodes the group takes.
	Match Match `json:"match"`
	// Routes is the path of a file or directory.
	Routes string `json:"routes"`

	// Filter is the path of crowd.wasm as these Envoys see it.
	Filter string `json:"filter"`
	// Gateway is where these Envoys listen, by IP.
	Gateway string `json:"gateway"`
	// Collectors are their collectors, host:port.
	Collectors []string `json:"collectors"`
	// Upstream is host:port of what takes the requests that no route takes.
	Upstream string `json:"upstream"`
}

// Groups in order: the first that matches a node takes it.
type Groups []Group

// Of returns the name of a node's group, "" where none takes it.
func (g Groups) Of(node *corev3.Node) string {
	for i := range g {
		if g[i].Match.holds(node) {
			return g[i].Name
		}
	}
	return ""
}
