package collector

import (
	"math"
	"testing"
)

func TestUnwrittenBytes(t *testing.T) {
	for _, c := range []struct{ maxBuffer, limit, want int64 }{
		{leastBuffer, math.MaxInt64, 256 << 10},
		{DefaultMaxBufferBytes, math.MaxInt64, 32 << 20},
		{1 << 40, math.MaxInt64, 32 << 20}, // it is for Go's garbage collector, not for records
		{DefaultMaxBufferBytes, 128 << 20, 16 << 20},
		{DefaultMaxBufferBytes, 0, 0},
	} {
		if got := unwrittenBytes(c.maxBuffer, c.limit); got != c.want {
			t.Errorf("a buffer of %d bytes, a limit of %d: %d, want %d", c.maxBuffer, c.limit, got, c.want)
		}
	}
}
