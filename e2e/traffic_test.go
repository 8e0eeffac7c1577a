package e2e

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// traffic is a load at a steady pace that goes on until it is ended, whatever happens to the stack.
type traffic struct {
	path    string
	largest int
	stop    chan struct{}
	all     sync.WaitGroup

	mu       sync.Mutex
	answers  []answer
	answered int           // 200
	more     chan struct{} // closed and replaced at every answer
}

// startTraffic sends requests to wherever base says over some connections, one every pace on each.
func startTraffic(t testing.TB, base func() string, path string, connections int, pace time.Duration, largest int) *traffic {
	tr := &traffic{path: path, largest: largest, stop: make(chan struct{}), more: make(chan struct{})}
	for c := range connections {
		client := newClient(c%2 == 1)
		tr.all.Go(func() {
			defer client.CloseIdleConnections()
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			for {
				select {
				case <-tr.stop:
					return
				case <-t.Context().Done():
					return
				case <-ticks.C:
				}
				r := makeRequest(path, tr.begin(), largest)
				tr.note(r.id, r.send(t.Context(), client, base()))
			}
		})
	}
	return tr
}

func (tr *traffic) begin() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.answers = append(tr.answers, answer{})
	return len(tr.answers) - 1
}

func (tr *traffic) note(id int, a answer) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.answers[id] = a
	if a.status == http.StatusOK {
		tr.answered++
	}
	close(tr.more)
	tr.more = make(chan struct{})
}

// count returns how many requests have been answered with 200.
func (tr *traffic) count() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.answered
}

// flows waits until so many more requests have been answered with 200.
func (tr *traffic) flows(t testing.TB, requests int) {
	t.Helper()
	late := time.After(patience)
	tr.mu.Lock()
	for enough := tr.answered + requests; tr.answered < enough; {
		more := tr.more
		tr.mu.Unlock()
		select {
		case <-more:
		case <-late:
			t.Fatalf("%s: not %d more requests answered within %v", tr.path, requests, patience)
		}
		tr.mu.Lock()
	}
	tr.mu.Unlock()
}

// end lets what is under way end and returns all answers.
func (tr *traffic) end() []answer {
	close(tr.stop)
	tr.all.Wait()
	return tr.answers
}

// tally counts answers: 200, 503, and those that did not come or were something else.
func tally(answers []answer) (ok, shed, failed int) {
	for _, a := range answers {
		switch {
		case a.err == nil && a.status == http.StatusOK:
			ok++
		case a.err == nil && a.status == http.StatusServiceUnavailable:
			shed++
		default:
			failed++
		}
	}
	return ok, shed, failed
}

// percentile returns how long the given part of the answers took at most.
func percentile(answers []answer, part float64) time.Duration {
	took := make([]time.Duration, len(answers))
	for i, a := range answers {
		took[i] = a.took
	}
	slices.Sort(took)
	return took[min(int(float64(len(took))*part), len(took)-1)]
}
