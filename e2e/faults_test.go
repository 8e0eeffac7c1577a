package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "let outages last as long as in the README's table, instead of just long enough")

// lasting is how long an outage lasts.
func lasting(full, short time.Duration) time.Duration {
	if *long {
		return full
	}
	return short
}

// levels are what routes ask for.
var levels = []string{"memory", "disk", "kafka"}

// Traffic of each level during a fault: 200 requests a second.
const (
	faultConnections = 4
	faultPace        = 20 * time.Millisecond
	faultLargest     = 100_000
)

// faults runs events on one stack under traffic of all levels. Each event has routes and topics of its own.
type faults struct {
	*stack
	gateway atomic.Pointer[string] // the stack's, for traffic that is under way when it changes
	rows    []string
}

// allowance is what an event may do beyond shedding requests; without one it may do nothing.
type allowance struct {
	failures bool // requests without an answer: Envoy ends
	shed     bool
	lost     bool // records of level memory that were answered
	repeats  bool // marked as such
	ledger   bool // that is not exact: what a process counts in its last moments nobody has read
}

func faultRoutes(events []string) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for _, e := range events {
		for _, l := range levels {
			fmt.Fprintf(&b, "  - {name: %[1]s-%[2]s, match: {path: /%[1]s/%[2]s}, topic: %[1]s-%[2]s, ack: %[2]s}\n", e, l)
		}
	}
	return b.String()
}

func (f *faults) base() string { return *f.gateway.Load() }

// run has traffic of all levels flow, lets the event happen, waits until the traffic flows again and everything is in
// Kafka, and compares.
func (f *faults) run(event string, may allowance, do func(t *testing.T)) {
	f.t.(*testing.T).Run(event, func(t *testing.T) {
		loads := map[string]*traffic{}
		for _, l := range levels {
			loads[l] = startTraffic(t, f.base, "/"+event+"/"+l, faultConnections, faultPace, faultLargest)
		}
		all := func(n int) {
			for _, l := range levels {
				loads[l].flows(t, n)
			}
		}
		all(50)
		do(t)
		all(50)
		answers := map[string][]answer{}
		for _, l := range levels {
			answers[l] = loads[l].end()
		}
		f.settled()
		ledger := f.ledger()
		ledger.observe()
		for _, l := range levels {
			topic := event + "-" + l
			o := inspect(t, f.kafka, topic, "/"+event+"/"+l, answers[l], faultLargest)
			ok, shed, failed := tally(answers[l])
			route := fmt.Sprintf("route=%q", topic)
			counted := [3]int{}
			for i, name := range []string{"crowd_answered_total", "crowd_stored_total", "crowd_delivered_total"} {
				counted[i] = int(ledger.total(name, route))
			}
			f.rows = append(f.rows, fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %d | %d | %d, %d, %d |", event, l, ok, shed,
				failed, o.stored, o.missing, o.repeats, counted[0], counted[1], counted[2]))
			if want := [3]int{ok, o.stored, o.stored}; counted != want && !may.ledger {
				t.Errorf("%s: the ledger says %v answered, stored and delivered, want %v", l, counted, want)
			}
			t.Logf("%s: %d answered, %d shed, %d failed, p99 %v; %+v", l, ok, shed, failed, percentile(answers[l], 0.99), o)
			if o.missing > 0 && (l != "memory" || !may.lost) {
				t.Errorf("%s: %d records were answered and are lost", l, o.missing)
			}
			if o.unmarked > 0 || o.repeats > 0 && !may.repeats {
				t.Errorf("%s: %d repeats, %d of them not marked", l, o.repeats, o.unmarked)
			}
			if failed > 0 && !may.failures || shed > 0 && !may.shed {
				t.Errorf("%s: %d requests shed, %d failed", l, shed, failed)
			}
			for _, a := range answers[l] {
				if a.status == http.StatusOK && a.ack != l {
					t.Errorf("%s: answered at level %q", l, a.ack)
					break
				}
			}
		}
	})
}

// TestFaults lets everything fail that can, under traffic of all levels, and compares what clients were told with what
// stands in Kafka, request by request.
func TestFaults(t *testing.T) {
	t.Parallel()
	events := []string{
		"collector-killed", "collectors-killed", "kafka-killed", "kafka-frozen", "collectors-restarted", "routes-changed",
		"envoy-restarted", "envoy-killed",
	}
	f := &faults{stack: newStackOn(t, ownKafka(t, nil), faultRoutes(events), 2)}
	moved := func() {
		gateway := f.stack.gateway
		f.gateway.Store(&gateway)
	}
	moved()
	restartEnvoy := func() {
		f.startEnvoy()
		moved()
	}

	f.run("collector-killed", allowance{repeats: true, ledger: true}, func(*testing.T) {
		f.collectors[0].kill()
		time.Sleep(time.Second) // an outage has a duration
		f.collectors[0].start()
	})
	f.run("collectors-killed", allowance{shed: true, repeats: true, ledger: true}, func(*testing.T) {
		for _, c := range f.collectors {
			c.kill()
		}
		time.Sleep(lasting(15*time.Second, 8*time.Second))
		for _, c := range f.collectors {
			c.start()
		}
	})
	f.run("kafka-killed", allowance{shed: true, repeats: true}, func(*testing.T) {
		f.kafka.Kill()
		time.Sleep(lasting(time.Minute, 8*time.Second))
		f.kafka.Restart()
	})
	f.run("kafka-frozen", allowance{shed: true, repeats: true}, func(*testing.T) {
		f.kafka.Pause()
		time.Sleep(lasting(20*time.Second, 8*time.Second))
		f.kafka.Continue()
	})
	f.run("collectors-restarted", allowance{ledger: true}, func(*testing.T) {
		for _, c := range f.collectors {
			c.stop()
			c.start()
		}
	})
	f.run("routes-changed", allowance{}, func(*testing.T) {
		every := time.NewTicker(500 * time.Millisecond)
		defer every.Stop()
		for n := range int(lasting(10*time.Second, 5*time.Second) / (500 * time.Millisecond)) {
			<-every.C
			f.writeRoutes(faultRoutes(append([]string{fmt.Sprint("change-", n)}, events...)))
		}
	})
	f.run("envoy-restarted", allowance{failures: true}, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := f.envoy.Stop(ctx); err != nil {
			t.Error(err)
		}
		restartEnvoy()
	})
	f.run("envoy-killed", allowance{failures: true, lost: true, ledger: true}, func(t *testing.T) {
		if err := f.envoy.Kill(); err != nil {
			t.Error(err)
		}
		restartEnvoy()
	})
	t.Logf("events:\n| event | level | answered | shed | failed | stored | lost | repeats | ledger |\n%s", strings.Join(f.rows, "\n"))
}
