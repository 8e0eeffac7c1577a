package flow

import (
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// How the rate follows a target that says that it is overloaded: it is cut to a part, at most once in a while, and grows
// again as CUBIC's window does (RFC 9438, section 4.2): soon close to what it was, slowly past that, and then ever faster,
// as what it was may have been too little, until it is at what is configured.
const (
	cutTo      = 0.7
	cutPause   = time.Second
	backAfter  = 6 * time.Second // it is at what it was
	slowest    = 0.1             // a second
	recovered  = 10              // times the rate that was cut: where none is configured, there is none any more
	countAfter = time.Second
	countFor   = 100 * time.Millisecond // at least
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
	past := now.Sub(p.at).Seconds()/backAfter.Seconds() - 1
	rate := p.cut * (1 + (1-cutTo)*past*past*past)
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
	lately := max(p.sent, float64(p.count)/max(now.Sub(p.began), countFor).Seconds())
	p.cut = max(min(p.rate(now, base), lately), slowest/cutTo)
	p.slowed, p.at = true, now
}

// fewFirst is the concurrency to begin with: what a target's latency is when it is well cannot be learned from one that is
// overloaded from the first request on.
const fewFirst = 10

// newLimiter returns what has the latency of the target bound concurrency, from 1 to the limit.
func newLimiter(concurrency int) adaptivelimiter.AdaptiveLimiter[any] {
	return adaptivelimiter.NewBuilder[any]().
		WithLimits(1, uint(concurrency), uint(min(concurrency, fewFirst))).
		Build()
}
