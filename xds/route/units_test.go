package route

import (
	"encoding"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

func TestSizeText(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "512": 512, "64KiB": 64 << 10, "1MiB": 1 << 20, "1GiB": 1 << 30,
		"64KB": 64e3, "1MB": 1e6, "2GB": 2e9, "9223372036854775807": math.MaxInt64,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, error %v; want %d", text, got, err, want)
		}
	}
}

func TestSizeString(t *testing.T) {
	for size, want := range map[Size]string{
		0: "0", 512: "512", 1 << 10: "1KiB", 1536 << 10: "1536KiB", 64 << 20: "64MiB", 1 << 30: "1GiB", 1e6: "1MB", 1e9 + 1: "1000000001",
	} {
		if got := size.String(); got != want {
			t.Errorf("Size(%d) is %q, want %q", size, got, want)
		}
	}
}

func TestUnitsRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		into  encoding.TextUnmarshaler
		texts []string
		want  string
	}{
		"size":     {new(Size), []string{"", "-1", "+1", "1.5MiB", "1 MiB", "1mib", "MiB", "1KiBKiB", "0x10", "1_000", "١"}, "is not a size (allowed: "},
		"overflow": {new(Size), []string{"9223372036854775808", "8589934592GiB", strings.Repeat("9", 100) + "KB"}, "is too large (allowed: "},
		"duration": {new(Duration), []string{"", "-1s", "30", "1d", "s", "9999999999h"}, "is not a duration (allowed: "},
		"level":    {new(Level), []string{"", "Memory", "tape", "disk "}, "is not a level (allowed: memory, disk, kafka)"},
		"spool":    {new(Spool), []string{"", "Off", "false", "on "}, "is neither on nor off (allowed: on, off)"},
	} {
		for _, text := range test.texts {
			if err := test.into.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s %q: error %v, want one with %q", name, text, err, test.want)
			}
		}
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	size := func(n int64) bool {
		var got Size
		text, err := Size(n & math.MaxInt64).MarshalText()
		return err == nil && got.UnmarshalText(text) == nil && got == Size(n&math.MaxInt64)
	}
	duration := func(n int64) bool {
		var got Duration
		text, err := Duration(n & math.MaxInt64).MarshalText()
		return err == nil && got.UnmarshalText(text) == nil && got == Duration(n&math.MaxInt64)
	}
	for name, property := range map[string]any{"size": size, "duration": duration} {
		if err := quick.Check(property, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnitsAreStringsInJSON(t *testing.T) {
	got, err := json.Marshal(Config{
		Uplink:   Uplink{Streams: 3, Spool: SpoolOff, MaxBatchBytes: 256 << 10, UnreachableTimeout: Duration(30 * time.Second)},
		Defaults: Policy{Ack: LevelMemory, AckTimeout: Duration(time.Second), MaxBody: 1 << 20},
		Routes:   []Route{},
	})
	want := `{"uplink":{"streams":3,"spool":"off","max_batch_bytes":"256KiB","unreachable_timeout":"30s"},` +
		`"defaults":{"ack":"memory","ack_timeout":"1s","max_body":"1MiB"},"routes":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, error %v; want %s", got, err, want)
	}
	for _, unreadable := range []any{Policy{Ack: "tape"}, Uplink{Spool: "maybe"}} {
		if _, err := json.Marshal(unreadable); err == nil {
			t.Errorf("%+v was written, and nobody could read it", unreadable)
		}
	}
}
