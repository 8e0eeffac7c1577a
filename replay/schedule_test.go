package replay

import (
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
		for minute := -36 * 60; minute < 36*60; minute++ {
			at := middle.Add(time.Duration(minute)*time.Minute + time.Duration(random.IntN(60))*time.Second)
			today, clock, _ := strings.Cut(strings.ToLower(at.In(s.zone).Format("Mon 15:04")), " ")
			want := float64(-1)
			for _, w := range slices.Backward(l.Schedule) {
				if model(w, today, clock) {
					want = float64(*w.Rate)
				}
			}
			if got := s.at(at).Rate; got != want {
				t.Fatalf("%s in %q (%s %s) with %+v: %v, want %v", at, l.TimeZone, today, clock, l.Schedule, got, want)
			}
		}
	}
}

// model goes through a window minute by minute, on each of its days.
func model(w Window, today, clock string) bool {
	at, err := time.Parse("15:04", clock)
	if err != nil {
		panic(err)
	}
	now := at.Hour()*60 + at.Minute()
	days := w.Days
	if len(days) == 0 {
		days = weekdays
	}
	for _, d := range days {
		index := slices.Index(weekdays, d)
		minutes := func(t TimeOfDay) int { return int(time.Duration(t) / time.Minute) }
		for minute := minutes(*w.From); minute != minutes(*w.To); {
			if string(weekdays[index]) == today && minute == now {
				return true
			}
			if minute++; minute == 24*60 {
				minute, index = 0, (index+1)%7
			}
		}
	}
	return false
}
