package replay

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Order is what is sent one after another.
type Order string

// The orders. In each of them a record that is to be tried again holds up only those behind it in its order.
const (
	OrderKey       Order = "key"       // records of one key; those without a key have no order
	OrderPartition Order = "partition" // records of one partition
	OrderNone      Order = "none"      // none
)

// UnmarshalText implements encoding.TextUnmarshaler. It leaves o as it was when it returns an error.
func (o *Order) UnmarshalText(text []byte) error {
	return oneOf(o, text, OrderKey, OrderPartition, OrderNone)
}

// MarshalText implements encoding.TextMarshaler.
func (o Order) MarshalText() ([]byte, error) { return []byte(o), nil }

// Protocol is how to speak with a target.
type Protocol string

// The protocols.
const (
	ProtocolAuto  Protocol = "auto"  // over TLS HTTP/2 where the target has it, otherwise HTTP/1.1
	ProtocolHTTP1 Protocol = "http1" // HTTP/1.1
	ProtocolHTTP2 Protocol = "http2" // HTTP/2, also without TLS
)

// UnmarshalText implements encoding.TextUnmarshaler. It leaves p as it was when it returns an error.
func (p *Protocol) UnmarshalText(text []byte) error {
	return oneOf(p, text, ProtocolAuto, ProtocolHTTP1, ProtocolHTTP2)
}

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p), nil }

// Weekday is a day of the week: mon to sun.
type Weekday string

var weekdays = []Weekday{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // in the order of time.Weekday

// UnmarshalText implements encoding.TextUnmarshaler. It leaves d as it was when it returns an error.
func (d *Weekday) UnmarshalText(text []byte) error { return oneOf(d, text, weekdays...) }

func oneOf[T ~string](v *T, text []byte, allowed ...T) error {
	if !slices.Contains(allowed, T(text)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		return fmt.Errorf("%.80q is none of these (allowed: %s)", text, strings.Join(names, ", "))
	}
	*v = T(text)
	return nil
}

// Rate is a number of requests a second; +Inf is no limit. Its text is a number, or one with /s, /m or /h, or "unlimited".
type Rate float64

// Unlimited is no limit.
var Unlimited = Rate(math.Inf(1))

var rateUnits = []struct {
	suffix  string
	seconds float64
}{{"/s", 1}, {"/m", 60}, {"/h", 3600}}

// UnmarshalText implements encoding.TextUnmarshaler. It leaves r as it was when it returns an error.
func (r *Rate) UnmarshalText(text []byte) error {
	if string(text) == "unlimited" {
		*r = Unlimited
		return nil
	}
	number, seconds := string(text), 1.0
	for _, unit := range rateUnits {
		if before, ok := strings.CutSuffix(number, unit.suffix); ok {
			number, seconds = before, unit.seconds
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || n > 1e6 || math.IsNaN(n) || strings.ContainsAny(number, "xXpP_+-") {
		return fmt.Errorf(`%.80q is not a rate (allowed: a number of requests a second, up to 1000000; one with /s, /m or /h; "unlimited")`, text)
	}
	*r = Rate(n / seconds)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Rate) MarshalText() ([]byte, error) {
	if r == Unlimited {
		return []byte("unlimited"), nil
	}
	return strconv.AppendFloat(nil, float64(r), 'f', -1, 64), nil
}

// String returns the text that UnmarshalText reads.
func (r Rate) String() string {
	text, _ := r.MarshalText() // never an error
	return string(text)
}

// Statuses are some of HTTP's statuses: From to To. Their text is one of them (409), a class (5xx) or a range (500-504).
type Statuses struct{ From, To int }

// UnmarshalText implements encoding.TextUnmarshaler. It leaves s as it was when it returns an error.
func (s *Statuses) UnmarshalText(text []byte) error {
	from, to, ok := strings.Cut(string(text), "-")
	if class, isClass := strings.CutSuffix(from, "xx"); isClass && !ok {
		from, to = class+"00", class+"99"
	} else if !ok {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || len(from) != 3 || len(to) != 3 || a < 200 || b > 599 || a > b {
		return fmt.Errorf("%.80q are not statuses (allowed: one of 200 to 599, a class such as 5xx, a range such as 500-504)", text)
	}
	*s = Statuses{int(a), int(b)}
	return nil
}

// TimeOfDay is a time after midnight. Its text is 22:00.
type TimeOfDay time.Duration

// UnmarshalText implements encoding.TextUnmarshaler. It leaves t as it was when it returns an error.
func (t *TimeOfDay) UnmarshalText(text []byte) error {
	at, err := time.Parse("15:04", string(text))
	if err != nil || len(text) != len("15:04") {
		return fmt.Errorf("%.80q is not a time of day (allowed: 00:00 to 23:59)", text)
	}
	*t = TimeOfDay(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
	return nil
}
