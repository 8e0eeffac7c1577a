package route

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Percent is a share, in millionths. Its text is a number from 0 to 100, with at most four digits after the point, and
// a percent sign: 10%, 0.05%.
type Percent uint32

// whole is 100%.
const whole Percent = 1_000_000

// String returns the text that UnmarshalText reads.
func (p Percent) String() string {
	return strconv.FormatFloat(float64(p)/1e4, 'f', -1, 64) + "%"
}

// MarshalText implements encoding.TextMarshaler.
func (p Percent) MarshalText() ([]byte, error) {
	return []byte(p.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves p as it was when it returns an error.
func (p *Percent) UnmarshalText(text []byte) error {
	number, isPercent := strings.CutSuffix(string(text), "%")
	integer, fraction, _ := strings.Cut(number, ".")
	value, err := strconv.ParseFloat(number, 64)
	if !isPercent || err != nil || !isDigits(integer) || !digits.holds(fraction) || len(fraction) > 4 || value > 100 {
		return fmt.Errorf("%s is not a share (allowed: 0%% to 100%%, as in 10%% or 0.05%%)", quote(string(text)))
	}
	*p = Percent(math.Round(value * 1e4))
	return nil
}

// takes reports whether a share of p, of the rule with this number, takes the request that drew this. Rules must not
// draw the same: the second of two with 10% would never take anything.
func (p Percent) takes(draw uint64, rule int) bool {
	if p >= whole {
		return true
	}
	// The finalizer of SplitMix64 (Steele, Lea and Flood: Fast splittable pseudorandom number generators, 2014).
	x := draw + uint64(rule+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return x%uint64(whole) < uint64(p)
}
