//go:build !linux

package produce

import "time"

// alarm is there for Linux: what Go waits with elsewhere takes nanoseconds, or crowd is only tried there.
type alarm struct{}

func newAlarm(time.Duration) (*alarm, error) { return nil, nil }

func (*alarm) set() {}

func (*alarm) close() {}
