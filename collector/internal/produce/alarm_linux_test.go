package produce

import (
	"sync"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
)

// fastestTimer is how long a timer of that long takes at least, in 50 attempts of a process that has nothing else to do.
func fastestTimer(of time.Duration, before func()) time.Duration {
	least := time.Hour
	for range 50 {
		began := time.Now()
		before()
		<-time.After(of)
		least = min(least, time.Since(began))
	}
	return least
}

func TestAnAlarmIsInTime(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	a, err := newAlarm(promptAlarm)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	without, with := fastestTimer(promptLinger, func() {}), fastestTimer(promptLinger, a.set)
	if t.Logf("%v take %v without an alarm, %v with it", promptLinger, without, with); with >= time.Millisecond {
		t.Errorf("%v take %v", promptLinger, with)
	}
}

// An alarm that others set all the time is in time for each of them.
func TestAnAlarmServesMany(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	a, err := newAlarm(promptAlarm)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				a.set()
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(patience); a.asked.Load() > 0; time.Sleep(promptAlarm) {
		if time.Now().After(deadline) {
			t.Fatal("an alarm that was set does not go off")
		}
	}
}

func TestNoAlarm(t *testing.T) {
	var none *alarm
	none.set()
	none.close()
}
