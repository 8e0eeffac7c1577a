package route

import (
	"cmp"
	"slices"
)

// withDefaults returns u with what it leaves out filled in.
func (u Uplink) withDefaults() Uplink {
	return Uplink{
		Cluster:            cmp.Or(u.Cluster, DefaultCluster),
		Streams:            cmp.Or(u.Streams, DefaultStreams),
		Spool:              cmp.Or(u.Spool, DefaultSpool),
		MaxBufferBytes:     cmp.Or(u.MaxBufferBytes, DefaultMaxBufferBytes),
		MaxBatchBytes:      cmp.Or(u.MaxBatchBytes, DefaultMaxBatchBytes),
		UnreachableTimeout: cmp.Or(u.UnreachableTimeout, DefaultUnreachableTimeout),
	}
}

// builtIn is what a document's defaults leave out. It has no topic: there is none for everybody.
func builtIn() Policy {
	return Policy{
		Mode:          DefaultMode,
		Ack:           LevelMemory,
		AckTimeout:    DefaultAckTimeout,
		MaxBody:       DefaultMaxBody,
		Answer:        &Answer{Status: DefaultAnswerStatus, Body: new(DefaultAnswerBody), ContentType: DefaultContentType},
		RecordHeaders: RecordHeaders{Deny: DefaultDeny()},
		Sample:        new(whole),
	}
}

// withDefaults returns the document's policy for routes, with everything filled in that has a default.
func (c Config) withDefaults() Policy {
	return c.Defaults.over(builtIn())
}

// over returns base with the fields that p gives.
func (p Policy) over(base Policy) Policy {
	return Policy{
		Mode:          cmp.Or(p.Mode, base.Mode),
		Topic:         cmp.Or(p.Topic, base.Topic),
		Key:           cmp.Or(p.Key, base.Key),
		Ack:           cmp.Or(p.Ack, base.Ack),
		AckTimeout:    cmp.Or(p.AckTimeout, base.AckTimeout),
		MaxBody:       cmp.Or(p.MaxBody, base.MaxBody),
		Answer:        p.Answer.over(base.Answer),
		RecordHeaders: p.RecordHeaders.over(base.RecordHeaders),
		Sample:        cmp.Or(p.Sample, base.Sample),
		RateLimit:     cmp.Or(p.RateLimit, base.RateLimit),
	}
}

// over returns base with the fields that a gives; either may be nil.
func (a *Answer) over(base *Answer) *Answer {
	switch {
	case a == nil:
		return base
	case base == nil:
		return a
	}
	full := Answer{
		Status:      cmp.Or(a.Status, base.Status),
		Body:        cmp.Or(a.Body, base.Body),
		ContentType: cmp.Or(a.ContentType, base.ContentType),
		Headers:     a.Headers,
	}
	if full.Headers == nil {
		full.Headers = base.Headers
	}
	return &full
}

// over returns base with the lists that h gives.
func (h RecordHeaders) over(base RecordHeaders) RecordHeaders {
	if h.Allow == nil {
		h.Allow = base.Allow
	}
	if h.Deny == nil {
		h.Deny = base.Deny
	}
	return h
}

// withDefaults returns b with what it leaves out filled in.
func (b TokenBucket) withDefaults() TokenBucket {
	b.TokensPerFill = cmp.Or(b.TokensPerFill, 1)
	return b
}

// Topics returns the topics of all routes, each once, in order.
func (c Config) Topics() []string {
	var topics []string
	for _, r := range c.Routes {
		topics = append(topics, r.over(c.Defaults).Topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}
