package replay

import (
	"cmp"

	"github.com/marceloboeira/crowd/xds/route"
)

// withDefaults returns c with what it leaves out filled in, but for what is required.
func (c Config) withDefaults() Config {
	c.Protocol = cmp.Or(c.Protocol, DefaultProtocol)
	c.Timeout = cmp.Or(c.Timeout, route.Duration(DefaultTimeout))
	c.Concurrency = cmp.Or(c.Concurrency, DefaultConcurrency)
	c.KeyRate = cmp.Or(c.KeyRate, &Unlimited)
	c.Order = cmp.Or(c.Order, DefaultOrder)
	if c.ExpectedStatuses == nil {
		c.ExpectedStatuses = []Statuses{{200, 299}}
	}
	c.Retry = c.Retry.withDefaults()
	c.CircuitBreaker = c.CircuitBreaker.withDefaults()
	c.DeadLetterTopic = cmp.Or(c.DeadLetterTopic, DefaultDeadLetterTopic)
	c.MaxBufferBytes = cmp.Or(c.MaxBufferBytes, DefaultMaxBufferBytes)
	c.Admin = cmp.Or(c.Admin, DefaultAdmin)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, route.Duration(DefaultDrainTimeout))
	return c
}

func (r Retry) withDefaults() Retry {
	if r.RetriableStatusCodes == nil {
		r.RetriableStatusCodes = []Statuses{{401, 401}, {403, 403}, {408, 408}, {425, 425}, {429, 429}, {500, 599}}
	}
	r.MaxAttempts = cmp.Or(r.MaxAttempts, DefaultMaxAttempts)
	r.InitialBackoff = cmp.Or(r.InitialBackoff, route.Duration(DefaultInitialBackoff))
	r.MaxBackoff = cmp.Or(r.MaxBackoff, route.Duration(DefaultMaxBackoff))
	return r
}

func (b CircuitBreaker) withDefaults() CircuitBreaker {
	b.Failures = cmp.Or(b.Failures, DefaultBreakerFailures)
	b.Of = cmp.Or(b.Of, DefaultBreakerOf)
	b.Delay = cmp.Or(b.Delay, route.Duration(DefaultBreakerDelay))
	b.MaxDelay = cmp.Or(b.MaxDelay, route.Duration(DefaultBreakerMaxDelay))
	return b
}
