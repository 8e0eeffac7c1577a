package backend

import (
	"slices"
	"time"
)

// Concurrency returns how many of the requests were under way at once at most.
func Concurrency(requests []Request) int {
	type change struct {
		at time.Time
		by int
	}
	var changes []change
	for _, r := range requests {
		changes = append(changes, change{r.Began, 1})
		if !r.Ended.IsZero() {
			changes = append(changes, change{r.Ended, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { // at one time, ends first
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.by - b.by
	})
	now, highest := 0, 0
	for _, c := range changes {
		now += c.by
		highest = max(highest, now)
	}
	return highest
}

// Window returns how many requests came at least and at most in any time of length d between the first and the last of them,
// which must be further apart.
func Window(requests []Request, d time.Duration) (least, most int) {
	least = len(requests)
	last := requests[len(requests)-1].Began
	for from, to := 0, 0; from < len(requests); from++ {
		end := requests[from].Began.Add(d)
		for to < len(requests) && requests[to].Began.Before(end) {
			to++
		}
		most = max(most, to-from)
		if !end.After(last) {
			least = min(least, to-from)
		}
	}
	return least, most
}

// Repeats returns how many requests were of records that had been delivered before.
func Repeats(requests []Request) int {
	delivered, repeats := map[string]bool{}, 0
	for _, r := range requests {
		if delivered[r.ID] {
			repeats++
		}
		if r.Delivered() {
			delivered[r.ID] = true
		}
	}
	return repeats
}
