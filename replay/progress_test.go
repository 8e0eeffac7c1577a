package replay

import (
	"strings"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	var m meter
	start := time.Unix(0, 0)
	if got := m.rate(); got != 0 {
		t.Errorf("without readings %v", got)
	}
	m.read(start, 100)
	if got := m.rate(); got != 0 {
		t.Errorf("with one reading %v", got)
	}
	for i := range 100 { // 5 a second, and from 50 s on 7
		count := 100 + 5*float64(i+1)
		if i >= 50 {
			count += 2 * float64(i-50+1)
		}
		m.read(start.Add(time.Duration(i+1)*time.Second), count)
		if want := 5.0; i < 50 && m.rate() != want {
			t.Fatalf("after %d s %v, want %v", i+1, m.rate(), want)
		}
	}
	if got := m.rate(); got != 7 {
		t.Errorf("after half a minute of another pace %v, want 7", got)
	}
}

func TestLine(t *testing.T) {
	now := time.Unix(1000, 0)
	for want, s := range map[string]Status{
		"g: waiting for Kafka and the group": {Group: "g", CircuitBreaker: "closed"},
		"g: 12 delivered  3.0/s (no limit)  0 to go  1 of 10 under way": {
			Group: "g", Ready: true, Delivered: 12, PerSecond: 3, ConcurrencyLimit: 10, UnderWay: 1, CircuitBreaker: "closed", SecondsLeft: new(0.0),
		},
		"g: circuit breaker open, next try in 5s  12 delivered  3.0/s (of 25/s)  90 to go  30s left  1 given up  2 wait for a retry  0 of 10 under way": {
			Group: "g", Ready: true, Delivered: 12, DeadLettered: 1, PerSecond: 3, RateLimit: new(25.0), ConcurrencyLimit: 10, Waiting: 2, Lag: 90,
			SecondsLeft: new(30.0), CircuitBreaker: "open", RetryAt: new(now.Add(5 * time.Second)),
		},
	} {
		if got := s.line(now); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// The line stays below what is written, on one row.
func TestTerminal(t *testing.T) {
	var out strings.Builder
	width := 6
	terminal := &Terminal{out: &out, width: func() int { return width }}
	write := func(s string) {
		t.Helper()
		if n, err := terminal.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	write("a\n")
	terminal.show("one")
	write("b\n")
	terminal.show("longer than that")
	width = 0
	terminal.show(strings.Repeat("-", 100))
	terminal.Close()
	write("c\n")
	want := "a\n" + "\r\x1b[Kone" + "\r\x1b[Kb\none" + "\r\x1b[Klonge" + "\r\x1b[K" + strings.Repeat("-", 79) + "\n" + "c\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
