package rollout

import "time"

// Stage is how far a rollout is.
type Stage string

// The stages of a rollout, in their order.
const (
	// Idle: nothing has been offered.
	Idle Stage = "idle"
	// Canaries have the candidate, and not all of them have acknowledged it.
	Canaries Stage = "canaries"
	// Holding: all canaries have acknowledged, and are watched for Policy.Hold.
	Holding Stage = "holding"
	// Everyone has the candidate, and not all have acknowledged it.
	Everyone Stage = "everyone"
	// Done: everyone has the good version.
	Done Stage = "done"
	// RolledBack: everyone has the good version, because the candidate was rejected.
	RolledBack Stage = "rolled_back"
)

// Stages are all of them.
var Stages = []Stage{Idle, Canaries, Holding, Everyone, Done, RolledBack}

// State is where a group is.
type State struct {
	Stage Stage
	// Since is when the stage was entered; zero for Idle and what Restore said.
	Since time.Time
	// Good is the version that a rollout finished with, or "" before the first.
	Good string
	// Candidate is the version being rolled out, or "" while none is.
	Candidate string
	// Rejection is why the candidate was rolled back, in that stage alone.
	Rejection *Rejection
}

// Rejection is one node's of a version.
type Rejection struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	// Type of the resources that the node rejected, in the field's short form (lds, rds, cds, eds, ecds); empty for a
	// canary that rejected nothing, but was silent or went away.
	Type   string    `json:"type,omitempty"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}
