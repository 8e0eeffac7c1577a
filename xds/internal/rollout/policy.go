// Package rollout decides which version of its configuration each node of a group is to have, and when. It is pure:
// it has no clock, and hands out decisions rather than resources.
package rollout

import "time"

// Policy says how careful a rollout is. The zero value gives every version to all nodes at once.
type Policy struct {
	// CanaryPercent of a group's connected nodes, rounded up, get a new version first: 0 (none) to 100.
	CanaryPercent int
	// Hold is how long the canaries must have stayed connected without a rejection, after all of them acknowledged,
	// before the rest of the group gets the version.
	Hold time.Duration
}
