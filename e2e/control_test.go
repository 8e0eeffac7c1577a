package e2e

import (
	"fmt"
	"net/http"
	"testing"
)

// TestRoutesChange follows the routes file: a new route takes its requests, a broken file changes nothing.
func TestRoutesChange(t *testing.T) {
	t.Parallel()
	s := newStack(t, absorbRoutes, 1)
	client := newClient(false)
	status := func(path string) int {
		r := request{path: path, kind: kindJSON, body: []byte("{}")}
		a := r.send(t.Context(), client, s.gateway)
		if a.err != nil && a.status != http.StatusOK {
			t.Fatal(a.err)
		}
		return a.status
	}
	const added = "\n  - {name: new, match: {path: /new}, topic: new, answer: {status: 201}}\n"
	if got := status("/new"); got != http.StatusOK { // the backend's
		t.Fatalf("/new: %d before there is such a route", got)
	}
	s.writeRoutes(absorbRoutes + added)
	s.eventually("the new route is active", func() bool { return status("/new") == http.StatusCreated })

	s.writeRoutes(absorbRoutes + "  - {name: new, match: {path: /new}}\n")
	s.xds.waitFor(`routes\[3\].topic`)
	if got := status("/new"); got != http.StatusCreated {
		t.Errorf("/new: %d after a broken file", got)
	}
	s.writeRoutes(absorbRoutes)
	s.eventually("the route is gone", func() bool { return status("/new") == http.StatusOK })
}

// TestNothingIsLostWhenRoutesChange changes the routes again and again under load. Each change ends a plugin
// context in every worker, with its streams.
func TestNothingIsLostWhenRoutesChange(t *testing.T) {
	t.Parallel()
	const requests, changes = 10_000, 20
	s := newStack(t, absorbRoutes, 1)
	loaded := make(chan []answer)
	due := make(chan int, changes)
	go func() {
		loaded <- sendLoad(t, s.gateway, "/leads", requests, 16, 300_000, func(done int) {
			if done%(requests/changes) == 0 {
				due <- done
			}
		})
	}()
	for range changes {
		n := <-due
		s.writeRoutes(absorbRoutes + fmt.Sprintf("\n  - {name: n%d, match: {path: /n%d}, topic: n}\n", n, n))
	}
	answers := <-loaded
	allAnswered(t, answers)
	s.drained(requests)
	if o := verify(t, s.kafka, "leads", "/leads", answers, 300_000); o.repeats != 0 {
		t.Errorf("%d repeats", o.repeats)
	}
}

// TestNothingIsLostWhenRoutesGoBackAndForth changes the routes and back while Kafka hangs, so that nothing is
// acknowledged and contexts of the same configuration wait for their end side by side.
func TestNothingIsLostWhenRoutesGoBackAndForth(t *testing.T) {
	t.Parallel()
	const requests, changes = 2_000, 10
	s := newStackOn(t, ownKafka(t, nil), absorbRoutes, 1)
	warm := sendLoad(t, s.gateway, "/orders/large", 10, 2, 100, func(int) {}) // so that the topics' partitions are known
	s.drained(len(warm))
	s.kafka.Pause()
	client := newClient(false)
	answers := loadWhile(t, s.gateway, "/leads", requests, 8, 10_000, requests/4, func() {
		for n := range changes {
			name := fmt.Sprint("/probe", n%2)
			s.writeRoutes(absorbRoutes + fmt.Sprintf("  - {name: probe, match: {path: %s}, topic: probe, answer: {status: 201}}\n", name))
			s.eventually("the change is active", func() bool {
				r := request{path: name}
				return r.send(t.Context(), client, s.gateway).status == http.StatusCreated
			})
		}
	})
	s.kafka.Continue()
	allAnswered(t, answers)
	s.allStored(requests)
	verify(t, s.kafka, "leads", "/leads", answers, 10_000)
}

// TestNothingIsLostWhenTheCollectorsClusterChanges renames the cluster of the collectors under load, the second time
// while there is no collector: the old cluster is gone from Envoy at once, with what was under way on it.
func TestNothingIsLostWhenTheCollectorsClusterChanges(t *testing.T) {
	t.Parallel()
	const requests = 6_000
	s := newStack(t, absorbRoutes, 1)
	rename := func(cluster string) {
		s.writeRoutes("uplink: {cluster: " + cluster + "}\n" + absorbRoutes +
			"  - {name: probe, match: {path: /" + cluster + "}, topic: probe, answer: {status: 201}}\n")
		client := newClient(false)
		s.eventually("the change is active", func() bool {
			r := request{path: "/" + cluster}
			return r.send(t.Context(), client, s.gateway).status == http.StatusCreated
		})
	}
	answers := loadWhile(t, s.gateway, "/leads", requests, 8, 10_000, requests/4, func() {
		rename("second")
		s.collectors[0].kill()
		rename("third")
		s.collectors[0].start()
	})
	allAnswered(t, answers)
	s.allStored(requests)
	verify(t, s.kafka, "leads", "/leads", answers, 10_000)
}
