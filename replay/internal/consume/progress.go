package consume

// Progress is how far the group is.
type Progress struct {
	// Partitions is how many this member has, and All how many there are.
	Partitions, All int
	// Lag is how many records of this member's partitions are not done: what is in Kafka and has not been read, as far as Kafka
	// has said lately, and what has been read and is not done. Offsets that no record has count as records until they are
	// passed, and so do records that will not be wanted.
	Lag int64
	// Skipped is how many records were not wanted.
	Skipped int64
	// Lost is how many records Kafka had deleted before they were done (retention), of which the group had been told. Those
	// count that had been done out of order.
	Lost int64
	// Ready is whether the group has been joined.
	Ready bool
}

// Progress returns how far it is. It asks nobody.
func (c *Consumer) Progress() Progress {
	p := Progress{Skipped: c.skipped.Load(), Lost: c.lost.Load()}
	m := c.member.Load()
	if m == nil {
		return p
	}
	claims := m.claimed()
	p.Partitions, p.All, p.Ready = len(claims), int(m.all.Load()), m.joined.Load()
	for _, claim := range claims {
		if next := claim.next.Load(); next >= 0 {
			p.Lag += max(0, claim.end()-next)
		}
	}
	p.Lag += int64(m.engine.State().Held)
	return p
}

// end is up to where there is something to read.
func (c *claim) end() int64 {
	newest := max(c.newest.Load(), c.from.HighWaterMarkOffset())
	select {
	case <-c.ends.known():
		return min(newest, max(0, c.ends.of(c.place)))
	default:
		return newest
	}
}
