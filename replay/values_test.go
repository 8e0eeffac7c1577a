package replay

import (
	"encoding"
	"math"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	for _, test := range []struct {
		into encoding.TextUnmarshaler
		text string
		is   func() bool
	}{
		{new(Order), "", nil},
		{new(Order), "KEY", nil},
		{new(Protocol), "http/2", nil},
		{new(Weekday), "monday", nil},
	} {
		if err := test.into.UnmarshalText([]byte(test.text)); err == nil {
			t.Errorf("%q is a %T", test.text, test.into)
		}
	}
	for text, want := range map[string]Order{"key": OrderKey, "partition": OrderPartition, "none": OrderNone} {
		var got Order
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]Protocol{"auto": ProtocolAuto, "http1": ProtocolHTTP1, "http2": ProtocolHTTP2} {
		var got Protocol
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"0": 0, "50": 50, "0.5": 0.5, ".5": 0.5, "50/s": 50, "300/m": 5, "36/h": 0.01, "1000000": 1e6, "1e3": 1000, "unlimited": Unlimited, "6e7/m": -1,
		"": -1, "-1": -1, "+1": -1, "-0": -1, "1_000": -1, "0x10": -1, "1e-3": -1, "inf": -1, "Infinity": -1, "nan": -1, "1000001": -1, "/s": -1, "5/d": -1, "5 /s": -1,
		"5/s/s": -1, "Unlimited": -1,
	} {
		r := Rate(-1)
		if err := r.UnmarshalText([]byte(text)); (err == nil) != (want >= 0) || r != want {
			t.Errorf("%q: %v, %v; want %v", text, r, err, want)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, text := range []string{"50", "300/m", "0.0001/h", "1000000", "unlimited", "1e3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r, again Rate
		if r.UnmarshalText([]byte(text)) != nil {
			return
		}
		if !(r >= 0) || float64(r) > 1e6 && !math.IsInf(float64(r), 1) {
			t.Errorf("%q is %v", text, r)
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q is %v, and that %v: %v", text, r, again, err)
		}
	})
}

func TestStatuses(t *testing.T) {
	for text, want := range map[string]Statuses{
		"200": {200, 200}, "409": {409, 409}, "5xx": {500, 599}, "500-504": {500, 504}, "200-599": {200, 599}, "299-299": {299, 299},
		"": {}, "1xx": {}, "6xx": {}, "99": {}, "600": {}, "504-500": {}, "5xx-6xx": {}, "200-": {}, "-200": {}, "0200": {}, "+200": {}, "xx": {}, "2x": {}, "2xx-299": {}, "200-300-400": {},
	} {
		var s Statuses
		if err := s.UnmarshalText([]byte(text)); (err == nil) != (want != Statuses{}) || s != want {
			t.Errorf("%q: %v, %v; want %v", text, s, err, want)
		}
	}
}

func TestTimeOfDay(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"00:00": 0, "23:59": 23*time.Hour + 59*time.Minute, "08:05": 8*time.Hour + 5*time.Minute,
		"24:00": -1, "8:05": -1, "08:5": -1, "08:60": -1, "": -1, "08:05:00": -1, "08.05": -1, " 8:05": -1,
	} {
		at := TimeOfDay(-1)
		if err := at.UnmarshalText([]byte(text)); (err == nil) != (want >= 0) || at != TimeOfDay(want) {
			t.Errorf("%q: %v, %v; want %v", text, time.Duration(at), err, want)
		}
	}
}
