package produce

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/collector/record"
)

func startAlarm(t *testing.T) *alarm {
	t.Helper()
	kafkatest.NoGoroutinesLeft(t)
	a, err := newAlarm(promptAlarm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

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
	a := startAlarm(t)
	without, with := fastestTimer(promptLinger, func() {}), fastestTimer(promptLinger, a.set)
	if t.Logf("%v take %v without an alarm, %v with it", promptLinger, without, with); with >= time.Millisecond {
		t.Errorf("%v take %v", promptLinger, with)
	}
}

// A record that a client waits for is there before a process that has nothing else to do would have sent it.
func TestWhatAClientWaitsForIsSentInTime(t *testing.T) {
	p := startWith(t, kafkatest.Start(t, kfake.SeedTopics(1, "leads")))
	awaited := post("leads", []byte("x"))
	awaited.Ack = record.LevelKafka
	least := time.Hour
	for range 100 {
		began := time.Now()
		awaitStored(t, send(p, awaited))
		least = min(least, time.Since(began))
	}
	if t.Logf("it takes %v", least); least >= time.Millisecond {
		t.Errorf("it takes %v", least)
	}
}

// However many set an alarm, it goes off for the last of them, and rests then.
func TestAnAlarmServesMany(t *testing.T) {
	a := startAlarm(t)
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
