// Package load generates HTTP/1.1 load for measurements, and reads what processes use.
//
// It takes little of the processor itself, so that on a small machine most is left for what is measured: connections
// are plain, a request is a piece of memory that is written as it is, and of an answer only what is needed is parsed.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// patience is how long an answer may take that nobody waits for any more: a load ends with an error then.
const patience = 30 * time.Second

// Config is a load: a number of clients, each of which sends a request when it has the answer to the one before.
type Config struct {
	// Address is where to connect to, host:port.
	Address string
	// Request is what is sent again and again, as Post makes it.
	Request []byte
	// Connections is how many clients there are, each with a connection of its own that is kept alive.
	Connections int
	// Pace is the least time from one request of a client to its next; 0: none. Clients begin spread over it.
	Pace time.Duration
	// Requests is how many are sent in all; 0: as many as Duration allows.
	Requests int
	// Duration is for how long requests are sent; 0: until there were Requests. Answers to the last ones are
	// awaited on top.
	Duration time.Duration
}

// Result is what a load saw.
type Result struct {
	// Statuses is how many answers there were, by status.
	Statuses map[int]int
	// Unanswered is how many requests were, at least in part, sent on connections that then broke.
	Unanswered int
	// Elapsed is the time from the first request to the last answer.
	Elapsed time.Duration
	// Latency has the times from writing a request to the end of its answer, in microseconds, with two significant
	// digits. In a closed loop a server that is slow is asked less often.
	Latency *hdrhistogram.Histogram
}

// Answers returns how many there were, of all statuses.
func (r Result) Answers() int {
	sum := 0
	for _, n := range r.Statuses {
		sum += n
	}
	return sum
}

// Rate returns the answers of all statuses per second; of a load that did not begin it is not a number.
func (r Result) Rate() float64 { return float64(r.Answers()) / r.Elapsed.Seconds() }

// Quantile returns the latency that so many per cent of the answers took at most.
func (r Result) Quantile(percent float64) time.Duration {
	return time.Duration(r.Latency.ValueAtQuantile(percent)) * time.Microsecond
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 2)
}

// Run generates a load and returns when every request has its answer, so that answers can be counted against what a
// server took. A connection that breaks is replaced, and its request counts as unanswered. It fails where no connection
// can be made, an answer is none that it understands, ctx ends, or answers are still missing half a minute after
// Duration; what it has seen until then is returned too.
func Run(ctx context.Context, c Config) (Result, error) {
	result := Result{Statuses: map[int]int{}, Latency: newHistogram()}
	if c.Connections < 1 || c.Requests < 0 || c.Duration < 0 || c.Pace < 0 || c.Requests == 0 && c.Duration == 0 {
		return result, fmt.Errorf("load: %d connections, %d requests, %v, one every %v: want connections, and requests or a duration",
			c.Connections, c.Requests, c.Duration, c.Pace)
	}
	l := &load{Config: c}
	if c.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Duration+patience, errors.New("load: answers are missing"))
		defer cancel()
	}
	clients := make([]*client, c.Connections)
	for i := range clients {
		clients[i] = &client{load: l, statuses: map[int]int{}, latency: newHistogram()}
		defer func() { clients[i].hangUp() }()
		if err := clients[i].dial(ctx); err != nil {
			return result, err
		}
	}
	l.began = time.Now()
	for i, client := range clients {
		client.due = l.began.Add(c.Pace * time.Duration(i) / time.Duration(len(clients)))
	}
	errs := make([]error, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() { errs[i] = c.run(ctx) })
	}
	all.Wait()
	result.Elapsed = time.Since(l.began)
	for _, c := range clients {
		for status, n := range c.statuses {
			result.Statuses[status] += n
		}
		result.Unanswered += c.unanswered
		result.Latency.Merge(c.latency)
	}
	return result, errors.Join(errs...)
}

// load is what the clients share.
type load struct {
	Config
	began time.Time
	sent  atomic.Int64
}

// next says whether another request is to be sent.
func (l *load) next(now time.Time) bool {
	if l.Duration > 0 && now.Sub(l.began) >= l.Duration {
		return false
	}
	return l.Requests == 0 || l.sent.Add(1) <= int64(l.Requests)
}
