package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

func timeOfDay(t *testing.T, text string) *TimeOfDay {
	t.Helper()
	var at TimeOfDay
	if err := at.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return &at
}

func TestLimitsAtATime(t *testing.T) {
	night := Window{From: timeOfDay(t, "22:00"), To: timeOfDay(t, "06:00"), Rate: new(Rate(200)), Concurrency: 40}
	weekend := Window{Days: []Weekday{"sat", "sun"}, From: timeOfDay(t, "08:00"), To: timeOfDay(t, "20:00"), Rate: new(Rate(0))}
	friday := Window{Days: []Weekday{"fri"}, From: timeOfDay(t, "23:00"), To: timeOfDay(t, "10:00"), Concurrency: 1}
	s := newSchedule(Limits{
		Rate: new(Rate(50)), Concurrency: 10, KeyRate: new(Rate(1)), RouteRates: []RouteRate{{"a", new(Rate(5))}, {"b", &Unlimited}}, Adaptive: true,
		Schedule: []Window{friday, night, weekend}, TimeZone: "Europe/Berlin",
	})
	for at, want := range map[string]struct {
		rate        float64
		concurrency int
	}{
		"2026-11-27T21:59:59.999+01:00": {50, 10},  // a Friday
		"2026-11-27T21:00:00Z":          {200, 40}, // 22:00 in Berlin
		"2026-11-27T23:00:00+01:00":     {50, 1},
		"2026-11-28T09:59:00+01:00":     {50, 1}, // the window began on Friday
		"2026-11-28T10:00:00+01:00":     {0, 10},
		"2026-11-28T20:00:00+01:00":     {50, 10},
		"2026-11-29T05:59:00+01:00":     {200, 40},
		"2026-11-29T06:00:00+01:00":     {50, 10},
		"2026-11-29T08:00:00+01:00":     {0, 10},
	} {
		moment, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		wanted := flow.Limits{Rate: want.rate, Concurrency: want.concurrency, KeyRate: 1, RouteRates: map[string]float64{"a": 5, "b": math.Inf(1)}, Adaptive: true}
		if diff := cmp.Diff(wanted, s.at(moment)); diff != "" {
			t.Errorf("at %s (-want +got):\n%s", at, diff)
		}
	}
	got := newSchedule(Limits{Rate: &Unlimited}).at(time.Now())
	if diff := cmp.Diff(flow.Limits{Rate: math.Inf(1), Concurrency: DefaultConcurrency, KeyRate: math.Inf(1)}, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// At every minute around the changes of the clock the limits are those of a model that knows nothing but what people read
// off a clock: a day's name and a time.
func TestScheduleIsWhatTheClockSays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	zones := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu", "UTC", ""}
	changes := []string{"2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-09-06T04:00:00Z"}
	for range 30 {
		l := Limits{Rate: new(Rate(-1)), TimeZone: zones[random.IntN(len(zones))]}
		for i := range random.IntN(4) {
			w := Window{From: new(TimeOfDay(random.IntN(24*60)) * TimeOfDay(time.Minute)), To: new(TimeOfDay(random.IntN(24*60)) * TimeOfDay(time.Minute)), Rate: new(Rate(i))}
			if *w.From == *w.To {
				continue
			}
			for _, d := range weekdays {
				if random.IntN(2) == 0 {
					w.Days = append(w.Days, d)
				}
			}
			l.Schedule = append(l.Schedule, w)
		}
		s := newSchedule(l)
		middle, err := time.Parse(time.RFC3339, changes[random.IntN(len(changes))])
		if err != nil {
			t.Fatal(err)
		}
		wanted := model(l)
		for minute := -36 * 60; minute < 36*60; minute++ {
			at := middle.Add(time.Duration(minute)*time.Minute + time.Duration(random.IntN(60))*time.Second)
			clock := strings.ToLower(at.In(s.zone).Format("Mon 15:04"))
			if got := s.at(at).Rate; got != wanted[clock] {
				t.Fatalf("%s in %q (%s) with %+v: %v, want %v", at, l.TimeZone, clock, l.Schedule, got, wanted[clock])
			}
		}
	}
}

// model returns the rate at every minute of a week, going through the windows minute by minute, the first one last.
func model(l Limits) map[string]float64 {
	const day = 24 * 60
	name := func(minute int) string {
		minute %= 7 * day
		return fmt.Sprintf("%s %02d:%02d", weekdays[minute/day], minute%day/60, minute%60)
	}
	rates := map[string]float64{}
	for minute := range 7 * day {
		rates[name(minute)] = float64(*l.Rate)
	}
	for _, w := range slices.Backward(l.Schedule) {
		from, to := int(time.Duration(*w.From)/time.Minute), int(time.Duration(*w.To)/time.Minute)
		if to < from {
			to += day
		}
		for i, d := range weekdays {
			if len(w.Days) > 0 && !slices.Contains(w.Days, d) {
				continue
			}
			for minute := from; minute < to; minute++ {
				rates[name(i*day+minute)] = float64(*w.Rate)
			}
		}
	}
	return rates
}
