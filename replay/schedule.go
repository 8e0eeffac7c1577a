package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
	_ "time/tzdata" // images without a zone database, such as scratch's, have schedules too

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// location returns the schedule's time zone.
func (l Limits) location() (*time.Location, error) {
	zone, err := time.LoadLocation(l.TimeZone)
	if err != nil || l.TimeZone == "Local" { // which is the machine's own
		return nil, fmt.Errorf(`%.80q is not a time zone (allowed: a name of the IANA database, such as "Europe/Berlin")`, l.TimeZone)
	}
	return zone, nil
}

// schedule says which limits hold when.
type schedule struct {
	limits Limits // valid
	zone   *time.Location
}

func newSchedule(valid Limits) schedule {
	zone, err := valid.location()
	if err != nil {
		panic("BUG: valid limits without a time zone: " + err.Error())
	}
	return schedule{valid, zone}
}

// at returns the limits that hold at a time.
//
// Windows are read off the zone's clock: where it skips the hour in which one begins, that begins with the hour after it,
// and an hour that comes twice is twice in a window, or twice is not.
func (s schedule) at(t time.Time) flow.Limits {
	rate, concurrency := s.limits.Rate, s.limits.Concurrency
	if w := s.window(t); w != nil {
		rate, concurrency = cmp.Or(w.Rate, rate), cmp.Or(w.Concurrency, concurrency)
	}
	limits := flow.Limits{
		Rate:        float64(*rate),
		Concurrency: cmp.Or(concurrency, DefaultConcurrency),
		KeyRate:     math.Inf(1),
		Adaptive:    s.limits.Adaptive,
	}
	if s.limits.KeyRate != nil {
		limits.KeyRate = float64(*s.limits.KeyRate)
	}
	for _, of := range s.limits.RouteRates {
		if limits.RouteRates == nil {
			limits.RouteRates = map[string]float64{}
		}
		limits.RouteRates[of.Route] = float64(*of.Rate)
	}
	return limits
}

// window returns the first window that holds t, nil if none does.
func (s schedule) window(t time.Time) *Window {
	today, clock := s.clock(t)
	for i := range s.limits.Schedule {
		w := &s.limits.Schedule[i]
		begins := func(weekday time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[weekday]) }
		from, to := *w.From, *w.To
		var holds bool
		if from < to {
			holds = clock >= from && clock < to && begins(today)
		} else {
			holds = clock >= from && begins(today) || clock < to && begins((today+6)%7)
		}
		if holds {
			return w
		}
	}
	return nil
}

// clock returns what a clock in the zone shows.
func (s schedule) clock(t time.Time) (time.Weekday, TimeOfDay) {
	t = t.In(s.zone)
	hour, minute, second := t.Clock()
	sinceMidnight := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
	return t.Weekday(), TimeOfDay(sinceMidnight + time.Duration(t.Nanosecond()))
}
