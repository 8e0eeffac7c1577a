package replay

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Status is how a replay is doing: what /status says, in JSON. Counts are this process's, since its start.
type Status struct {
	Group  string   `json:"group"`
	Topics []string `json:"topics"`
	Target string   `json:"target"`
	// Ready is whether it is a member of the group.
	Ready bool `json:"ready"`
	// Partitions are its own, of AllPartitions.
	Partitions    int `json:"partitions"`
	AllPartitions int `json:"all_partitions"`
	// Lag is how many records of its partitions are not done.
	Lag int64 `json:"lag"`
	// Delivered, DeadLettered, Skipped (not to be sent) and Lost (deleted by Kafka before they were done) are records,
	// FailedAttempts requests.
	Delivered      int64 `json:"delivered"`
	DeadLettered   int64 `json:"dead_lettered"`
	Skipped        int64 `json:"skipped"`
	Lost           int64 `json:"lost"`
	FailedAttempts int64 `json:"failed_attempts"`
	// PerSecond is how many records have been done each second, lately; SecondsLeft how long Lag takes at that pace, absent
	// where there is none.
	PerSecond   float64  `json:"per_second"`
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
	// RateLimit (requests a second; absent: none) and ConcurrencyLimit are what holds for this process now.
	RateLimit        *float64 `json:"rate_limit,omitempty"`
	ConcurrencyLimit int      `json:"concurrency_limit"`
	// UnderWay are requests; Waiting of the Held records, which have been read and are not done, wait for a retry.
	UnderWay int `json:"under_way"`
	Waiting  int `json:"waiting"`
	Held     int `json:"held"`
	// CircuitBreaker is closed, open or half-open; RetryAt is when an open one tries again.
	CircuitBreaker string     `json:"circuit_breaker"`
	RetryAt        *time.Time `json:"retry_at,omitempty"`
}

// line returns the status in a line for people.
func (s *Status) line(now time.Time) string {
	if !s.Ready {
		return s.Group + ": waiting for Kafka and the group"
	}
	// What matters most comes first: a terminal may be too narrow for all of it.
	var parts []string
	if s.CircuitBreaker != "closed" {
		text := "circuit breaker " + s.CircuitBreaker
		if s.RetryAt != nil && s.RetryAt.After(now) {
			text += ", next try in " + s.RetryAt.Sub(now).Round(time.Second).String()
		}
		parts = append(parts, text)
	}
	limit := "no limit"
	if s.RateLimit != nil {
		limit = fmt.Sprintf("of %.4g/s", *s.RateLimit)
	}
	parts = append(parts, fmt.Sprintf("%d delivered", s.Delivered), fmt.Sprintf("%.1f/s (%s)", s.PerSecond, limit), fmt.Sprintf("%d to go", s.Lag))
	if s.SecondsLeft != nil && s.Lag > 0 {
		parts = append(parts, (time.Duration(math.Ceil(*s.SecondsLeft))*time.Second).String()+" left")
	}
	if s.DeadLettered > 0 {
		parts = append(parts, fmt.Sprintf("%d given up", s.DeadLettered))
	}
	if s.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d wait for a retry", s.Waiting))
	}
	parts = append(parts, fmt.Sprintf("%d of %d under way", s.UnderWay, s.ConcurrencyLimit))
	return s.Group + ": " + strings.Join(parts, "  ")
}

// Status returns how it is doing. It is safe for concurrent use.
func (r *Replay) Status() Status {
	p, e := r.progress(), r.state()
	s := Status{
		Group: r.config.Group, Topics: r.config.Topics, Target: r.config.Target,
		Ready: p.Ready, Partitions: p.Partitions, AllPartitions: p.All, Lag: p.Lag,
		Delivered: r.metrics.delivered.Load(), DeadLettered: r.metrics.buried.Load(), FailedAttempts: r.metrics.failed.Load(),
		Skipped: p.Skipped, Lost: p.Lost,
		ConcurrencyLimit: e.Concurrency, UnderWay: e.UnderWay, Waiting: e.Waiting, Held: e.Held, CircuitBreaker: e.Breaker,
	}
	r.mu.Lock()
	s.PerSecond = r.done.rate()
	r.mu.Unlock()
	if s.PerSecond > 0 {
		s.SecondsLeft = new(float64(s.Lag) / s.PerSecond)
	}
	if !math.IsInf(e.Rate, 1) {
		s.RateLimit = new(e.Rate)
	}
	if !e.Until.IsZero() {
		s.RetryAt = new(e.Until)
	}
	return s
}
