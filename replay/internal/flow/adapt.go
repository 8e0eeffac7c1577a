package flow

import (
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// How the rate follows a target that says that it is overloaded: it is cut to a part, at most once in a while, grows back
// to what it was within seconds, and on at that pace, until it is at what is configured.
const (
	cutTo      = 0.7
	cutPause   = time.Second
	growth     = 0.05 // of the rate that was cut, a second
	slowest    = 0.1  // a second
	recovered  = 2    // times the rate that was cut: where none is configured, there is none any more
	countAfter = time.Second
)

// pace is the rate that the target has asked for. The zero value has it unlimited.
type pace struct {
	slowed bool
	cut    float64   // the rate before it was cut, ...
	at     time.Time // ... and when it was

	// What has been sent a second lately: counted since began, and sent before.
	count int
	began time.Time
	sent  float64
}

// rate returns the rate at a time, which is base at most.
func (p *pace) rate(now time.Time, base float64) float64 {
	if !p.slowed {
		return base
	}
	rate := p.cut * (cutTo + growth*now.Sub(p.at).Seconds())
	if math.IsInf(base, 1) && rate >= recovered*p.cut || rate >= base {
		p.slowed = false
		return base
	}
	return min(max(rate, slowest), base)
}

// begun counts an attempt.
func (p *pace) begun(now time.Time) {
	if elapsed := now.Sub(p.began); elapsed >= countAfter {
		p.sent = float64(p.count) / elapsed.Seconds()
		p.count, p.began = 0, now
	}
	p.count++
}

// overloaded slows down.
func (p *pace) overloaded(now time.Time, base float64) {
	if now.Sub(p.at) < cutPause {
		return
	}
	lately := max(p.sent, float64(p.count)/max(now.Sub(p.began), cutPause).Seconds())
	p.cut = max(min(p.rate(now, base), lately), slowest/cutTo)
	p.slowed, p.at = true, now
}

// newLimiter returns what has the latency of the target bound concurrency, from 1 to the limit.
func newLimiter(concurrency int) adaptivelimiter.AdaptiveLimiter[any] {
	return adaptivelimiter.NewBuilder[any]().
		WithLimits(1, uint(concurrency), uint(concurrency)).
		Build()
}
