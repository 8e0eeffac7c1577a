package rollout

import "time"

// Policy says how careful a rollout is. The zero value gives every version to all nodes at once.
type Policy struct {
	// CanaryPercent of a group's connected nodes, rounded up, get a new version first: 0 (none) to 100.
	CanaryPercent int
	// Hold is how long the canaries must have stayed connected without a rejection, after all of them acknowledged,
	// before the rest of the group gets the version; and how long a canary may be away.
	Hold time.Duration
}

const (
	// AckTimeout is how long a canary may take to acknowledge, and how long the others are waited for: Envoy answers at
	// once, unless it hangs.
	AckTimeout = time.Minute
	// maxLosses is how often a canary may go away and come back: an Envoy that crashes and is started again does so
	// for ever.
	maxLosses = 2
)

// canaries returns how many of so many connected nodes are to be canaries.
func (p Policy) canaries(connected int) int { return (connected*p.CanaryPercent + 99) / 100 }
