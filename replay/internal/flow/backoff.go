package flow

import (
	"math"
	"time"
)

// Backoff returns how long a message waits after its n-th failed attempt: half to all of initial × 2ⁿ⁻¹, but of most at
// most, as random (0 to 1) has it.
func Backoff(n int, initial, most time.Duration, random float64) time.Duration {
	full := min(float64(initial)*math.Pow(2, float64(n-1)), float64(most))
	return time.Duration(full * (1 - random/2))
}
