package flow

import (
	"log/slog"
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// breaker is the circuit breaker: failsafe's, with a delay that this one keeps, as it grows while the target is away.
//
//	closed ── Failures of the last Of have failed ──▶ open ── the delay is over: a probe ──▶ half-open
//	   ▲                                               ▲                                        │ │
//	   │                                               └──────────── it has failed ─────────────┘ │
//	   └───────────────────────────────────────────────────────────── it has not ─────────────────┘
//
// Only what was begun while it was closed counts while it is closed, and only the probe while it is half-open. What is most
// likely a message's own fault does not count.
type breaker struct {
	circuit         circuitbreaker.CircuitBreaker[any]
	delay, maxDelay time.Duration // of the configuration
	log             *slog.Logger

	next    time.Duration // how long it opens if the probe fails
	until   time.Time     // when it may be half-open
	epoch   int           // counts how often it has closed
	probing bool
}

// pass is what an attempt was let through with.
type pass struct {
	epoch int
	probe bool
}

func newBreaker(o Options) *breaker {
	return &breaker{
		circuit: circuitbreaker.NewBuilder[any]().
			WithFailureThresholdRatio(uint(o.Failures), uint(o.Of)).
			WithSuccessThreshold(1).
			WithDelay(math.MaxInt64). // it becomes half-open when begin says so
			Build(),
		delay: o.Delay, maxDelay: o.MaxDelay, next: o.Delay, log: o.Log,
	}
}

// admits reports whether an attempt may begin, and if not, when one may without anything else happening; zero: never.
// A probe is wanted if it is not closed.
func (b *breaker) admits(now time.Time) (ok, probe bool, at time.Time) {
	switch b.circuit.State() {
	case circuitbreaker.ClosedState:
		return true, false, time.Time{}
	case circuitbreaker.OpenState:
		return !now.Before(b.until), true, b.until
	default:
		return !b.probing, true, time.Time{}
	}
}

// begin lets an attempt through, where admits says so.
func (b *breaker) begin() pass {
	if b.circuit.IsClosed() {
		return pass{epoch: b.epoch}
	}
	b.circuit.HalfOpen()
	b.probing = true
	return pass{epoch: b.epoch, probe: true}
}

// end says what became of an attempt. One that says nothing about the target is neither a success nor a failure. Own says
// that a failure may well be the message's own: while it is closed it is not counted, and a probe's does not have it open
// for longer the next time.
func (b *breaker) end(p pass, o Outcome, own bool, now time.Time) {
	if p.epoch != b.epoch || p.probe == b.circuit.IsClosed() {
		return
	}
	if p.probe {
		b.probing = false
	}
	switch o.Verdict {
	case Delivered, Rejected:
		b.circuit.RecordSuccess()
		if p.probe {
			b.epoch++
			b.next = b.delay
			b.log.Info("the target is back: the circuit breaker is closed")
		}
	case Failed:
		if own && !p.probe {
			return
		}
		b.circuit.RecordFailure()
		if b.circuit.IsOpen() {
			wait := min(max(b.next, o.RetryAfter), b.maxDelay)
			if !own {
				b.next = min(2*b.next, b.maxDelay)
			}
			b.until = now.Add(wait)
			b.log.Warn("the target fails: nothing is sent until the circuit breaker tries it again",
				"in", wait, "status", o.Status, "reason", o.Reason)
		}
	}
}
