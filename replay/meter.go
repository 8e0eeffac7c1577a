package replay

import "time"

// meterSpan is over how long a meter averages.
const meterSpan = 30

// meter is how fast a count has grown lately, from readings of it, about one a second. It is not safe for concurrent use.
type meter struct {
	at     [meterSpan + 1]time.Time
	counts [meterSpan + 1]float64
	n      int // readings so far
}

// read takes a reading.
func (m *meter) read(now time.Time, count float64) {
	m.at[m.n%len(m.at)], m.counts[m.n%len(m.at)] = now, count
	m.n++
}

// rate returns the growth per second over the readings of the last half minute, 0 with fewer than two.
func (m *meter) rate() float64 {
	if m.n < 2 {
		return 0
	}
	last, first := (m.n-1)%len(m.at), max(0, m.n-len(m.at))%len(m.at)
	seconds := m.at[last].Sub(m.at[first]).Seconds()
	if seconds <= 0 {
		return 0
	}
	return (m.counts[last] - m.counts[first]) / seconds
}
