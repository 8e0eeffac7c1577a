package route

import "cmp"

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

// withDefaults returns d with what the document leaves out filled in; every field of its Answer is given.
func (d Defaults) withDefaults() Defaults {
	builtIn := Answer{Status: DefaultAnswerStatus, Body: new(DefaultAnswerBody), ContentType: DefaultContentType}
	return Defaults{
		Ack:        cmp.Or(d.Ack, LevelMemory),
		AckTimeout: cmp.Or(d.AckTimeout, DefaultAckTimeout),
		MaxBody:    cmp.Or(d.MaxBody, DefaultMaxBody),
		Answer:     d.Answer.over(builtIn),
	}
}

// withDefaults returns r with what it leaves out taken from d, which has its own defaults filled in. An answer
// is filled in field by field.
func (r Route) withDefaults(d Defaults) Route {
	r.Ack = cmp.Or(r.Ack, d.Ack)
	r.AckTimeout = cmp.Or(r.AckTimeout, d.AckTimeout)
	r.MaxBody = cmp.Or(r.MaxBody, d.MaxBody)
	r.Answer = r.Answer.over(*d.Answer)
	return r
}

// over returns base with the fields that a gives; a may be nil.
func (a *Answer) over(base Answer) *Answer {
	if a == nil {
		return &base
	}
	return &Answer{
		Status:      cmp.Or(a.Status, base.Status),
		Body:        cmp.Or(a.Body, base.Body),
		ContentType: cmp.Or(a.ContentType, base.ContentType),
	}
}
