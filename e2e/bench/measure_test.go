package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecordsAreAwaited has records come in steps of a second, and compares them with 100 answers.
func TestRecordsAreAwaited(t *testing.T) {
	for name, c := range map[string]struct {
		steps   []int
		arrived int
		took    time.Duration // at least; and at most a step more
		kept    bool
	}{
		"at once":       {[]int{100}, 100, 0, true},
		"late":          {[]int{10, 50, 50, 100}, 100, 3 * time.Second, true},
		"some twice":    {[]int{99, 101}, 101, time.Second, true},
		"one is lost":   {[]int{10, 99}, 99, time.Second + standstill, false},
		"all are lost":  {[]int{0}, 0, standstill, false},
		"after a break": {[]int{10, 10, 10, 10, 10, 10, 10, 10, 10, 100}, 100, 9 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := &system{arrived: func(context.Context) (int, error) {
					return c.steps[min(int(time.Since(began)/time.Second), len(c.steps)-1)], nil
				}}
				m := Measurement{Answered: 100}
				if err := s.settle(t.Context(), &m); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); m.Arrived != c.arrived || took < c.took || took > c.took+time.Second {
					t.Errorf("%d arrived after %v; want %d after %v", m.Arrived, took, c.arrived, c.took)
				}
				if err := (contestant{promises: true}).kept(m); (err == nil) != c.kept {
					t.Errorf("error %v; want none: %v", err, c.kept)
				}
				if err := (contestant{}).kept(m); err != nil {
					t.Errorf("nothing was promised, and yet %v", err)
				}
			})
		})
	}
}
