package flow

import (
	"container/heap"
	"time"
)

// alarm is a time at which something is to be looked at. The zero value is not set.
type alarm struct {
	at    time.Time
	ring  func(now time.Time)
	index int // in alarms, from 1; 0: not set
}

// alarms are those that are set, the first one first.
type alarms struct{ heap alarmHeap }

func (a *alarms) set(alarm *alarm, at time.Time) {
	alarm.at = at
	if alarm.index > 0 {
		heap.Fix(&a.heap, alarm.index-1)
		return
	}
	heap.Push(&a.heap, alarm)
}

func (a *alarms) stop(alarm *alarm) {
	if alarm.index > 0 {
		heap.Remove(&a.heap, alarm.index-1)
	}
}

// ring rings those whose time has come.
func (a *alarms) ring(now time.Time) {
	for len(a.heap) > 0 && !a.heap[0].at.After(now) {
		heap.Pop(&a.heap).(*alarm).ring(now)
	}
}

// next returns when the first one rings, zero if none is set.
func (a *alarms) next() time.Time {
	if len(a.heap) == 0 {
		return time.Time{}
	}
	return a.heap[0].at
}

type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	*h = append(*h, a)
	a.index = len(*h)
}

func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.index = 0
	return a
}
