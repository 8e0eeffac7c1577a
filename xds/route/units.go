package route

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. Its text is a whole number, with or without a unit: 512, 64KiB, 1MiB, 1GiB
// (powers of 1024), 64KB, 1MB, 1GB (powers of 1000).
type Size int64

// The larger unit of each kind comes first, and the powers of 1024 before those of 1000: MarshalText takes
// the first that divides.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
}

// String returns the text that UnmarshalText reads, in the largest unit that loses nothing.
func (s Size) String() string {
	if s != 0 {
		for _, unit := range sizeUnits {
			if int64(s)%unit.bytes == 0 {
				return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffix
			}
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves s as it was when it returns an error.
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := string(text), int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, unit.suffix); ok {
			number, factor = rest, unit.bytes
			break
		}
	}
	if !isDigits(number) {
		return fmt.Errorf("%s is not a size (allowed: bytes, or a whole number with KiB, MiB, GiB, KB, MB or GB)", quote(string(text)))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return fmt.Errorf("%s is too large (allowed: at most %d bytes)", quote(string(text)), int64(math.MaxInt64))
	}
	*s = Size(n * factor)
	return nil
}

func isDigits(s string) bool {
	return s != "" && digits.holds(s)
}

// Duration is a span of time. Its text is Go's: 500ms, 30s, 1m30s.
type Duration time.Duration

// String returns the text that UnmarshalText reads.
func (d Duration) String() string {
	return time.Duration(d).String()
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves d as it was when it returns an error.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed < 0 {
		return fmt.Errorf("%s is not a duration (allowed: a number with ms, s, m or h, as in 500ms, 30s or 1m30s)", quote(string(text)))
	}
	*d = Duration(parsed)
	return nil
}

// Level says where a record must be before the client is answered.
type Level string

// The levels, from the weakest promise to the strongest. Each includes those before it.
const (
	LevelMemory Level = "memory" // whole, in the filter's memory, inside its window
	LevelDisk   Level = "disk"   // synced to a collector's disk
	LevelKafka  Level = "kafka"  // acknowledged by all in-sync replicas
)

// MarshalText implements encoding.TextMarshaler. It fails for what UnmarshalText would refuse.
func (l Level) MarshalText() ([]byte, error) {
	return []byte(l), new(Level).UnmarshalText([]byte(l))
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves l as it was when it returns an error.
func (l *Level) UnmarshalText(text []byte) error {
	switch level := Level(text); level {
	case LevelMemory, LevelDisk, LevelKafka:
		*l = level
		return nil
	}
	return fmt.Errorf("%s is not a level (allowed: memory, disk, kafka)", quote(string(text)))
}

// Spool says whether the collectors have a spool: a disk on which records are safe before Kafka has them.
type Spool string

// The two kinds of collectors: with a spool, and diskless.
const (
	SpoolOn  Spool = "on"
	SpoolOff Spool = "off"
)

// MarshalText implements encoding.TextMarshaler. It fails for what UnmarshalText would refuse.
func (s Spool) MarshalText() ([]byte, error) {
	return []byte(s), new(Spool).UnmarshalText([]byte(s))
}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves s as it was when it returns an error.
func (s *Spool) UnmarshalText(text []byte) error {
	switch spool := Spool(text); spool {
	case SpoolOn, SpoolOff:
		*s = spool
		return nil
	}
	return fmt.Errorf("%s is neither on nor off (allowed: on, off)", quote(string(text)))
}
