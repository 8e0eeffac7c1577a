package flow

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rig is an engine that runs in a bubble of synctest, with a target.
type rig struct {
	*Engine
	t      *testing.T
	start  time.Time
	cancel context.CancelFunc
	ended  sync.WaitGroup
	feeds  sync.WaitGroup

	mu       sync.Mutex
	attempts []attempted
	buried   []letter
	running  int
	peak     int
}

type attempted struct {
	Attempt
	at time.Duration // since the start
}

type letter struct {
	*Message
	Letter
	at time.Duration
}

// unlimited has no limit but concurrency.
func unlimited(concurrency int) Limits {
	return Limits{Rate: math.Inf(1), KeyRate: math.Inf(1), Concurrency: concurrency}
}

// options are replay's defaults, with a target that answers at once.
func options() Options {
	return Options{
		Send:      func(context.Context, Attempt) Outcome { return Outcome{Verdict: Delivered, Status: 200} },
		Bury:      func(context.Context, *Message, Letter) error { return nil },
		Attempted: func(Attempt, Outcome) {}, Buried: func(*Message, Letter) {},
		Order: ByKey, MaxAttempts: 20, InitialBackoff: 500 * time.Millisecond, MaxBackoff: time.Minute,
		Failures: 10, Of: 20, Delay: 5 * time.Second, MaxDelay: 5 * time.Minute,
		MaxBufferBytes: 256 << 20, Log: slog.New(slog.DiscardHandler),
	}
}

// run has a test use an engine, and checks that it ends with nothing left.
func run(t *testing.T, o Options, l Limits, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, start: time.Now()}
		send, bury := o.Send, o.Bury
		o.Send = func(ctx context.Context, a Attempt) Outcome {
			r.mu.Lock()
			r.attempts = append(r.attempts, attempted{a, time.Since(r.start)})
			r.running++
			r.peak = max(r.peak, r.running)
			r.mu.Unlock()
			defer func() {
				r.mu.Lock()
				r.running--
				r.mu.Unlock()
			}()
			return send(ctx, a)
		}
		o.Bury = func(ctx context.Context, m *Message, l Letter) error {
			err := bury(ctx, m, l)
			if err == nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.buried = append(r.buried, letter{m, l, time.Since(r.start)})
			}
			return err
		}
		r.Engine = New(o, l)
		ctx, cancel := context.WithCancel(t.Context())
		r.cancel = cancel
		r.ended.Go(func() { r.Run(ctx) })
		test(r)
		r.stop()
	})
}

// stop ends the engine.
func (r *rig) stop() {
	r.cancel()
	r.ended.Wait()
	if s := r.State(); s.UnderWay != 0 || r.running != 0 {
		r.t.Errorf("at the end: %+v", s)
	}
	for _, p := range slices.Clone(r.queue.partitions) {
		(&Partition{r.Engine, p}).Close(r.t.Context())
	}
	r.feeds.Wait()
	if s := r.State(); s.Held != 0 || s.HeldBytes != 0 || s.Waiting != 0 || r.queue.doomed != 0 || r.queue.burying != 0 ||
		r.queue.ring.len() != 0 || r.queue.graves.len() != 0 || len(r.queue.alarms.heap) > len(r.queue.routes) {
		r.t.Errorf("left at the end: %+v", s)
	}
}

// commit commits at once whatever is done, as long as the engine runs.
func (r *rig) commit() {
	r.ended.Go(func() {
		for {
			select {
			case <-r.ctx.Done():
				return
			case <-r.CommitWanted():
				r.Committed(r.Uncommitted())
			}
		}
	})
}

// feed opens a partition and offers it messages.
func (r *rig) feed(id int32, messages ...*Message) *Partition {
	r.t.Helper()
	p, err := r.Open("leads", id, 0, "")
	if err != nil {
		r.t.Fatal(err)
	}
	r.offer(p, messages...)
	return p
}

func (r *rig) offer(p *Partition, messages ...*Message) {
	r.feeds.Go(func() {
		for _, m := range messages {
			m.Partition = p.id
			if p.Offer(r.t.Context(), m) != nil {
				return
			}
		}
	})
}

// after waits until a time since the start, and until nothing more happens then.
func (r *rig) after(d time.Duration) {
	time.Sleep(time.Until(r.start.Add(d)))
	synctest.Wait()
}

// sent returns what has been sent so far.
func (r *rig) sent() []attempted {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.attempts)
}

// times returns when a key's messages were sent.
func (r *rig) times(key string) []time.Duration {
	var times []time.Duration
	for _, a := range r.sent() {
		if string(a.Record.Key) == key {
			times = append(times, a.at)
		}
	}
	return times
}

func (r *rig) letters() []letter {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.buried)
}

// expect fails unless n messages have been sent.
func (r *rig) expect(n int) {
	r.t.Helper()
	if got := len(r.sent()); got != n {
		r.t.Errorf("after %v: %d attempts, want %d", time.Since(r.start), got, n)
	}
}

// from returns n messages from an offset on, with keys as key says; "" is the null key.
func from(offset, n int, key func(i int) string) []*Message {
	messages := make([]*Message, n)
	for i := range messages {
		messages[i] = &Message{Topic: "leads", Offset: int64(offset + i)}
		messages[i].Record.Received = time.Now()
		if k := key(i); k != "" {
			messages[i].Record.Key = []byte(k)
		}
	}
	return messages
}

// all is the key of all messages; each is one for each message.
func all(key string) func(int) string { return func(int) string { return key } }
func each(i int) string               { return fmt.Sprint("key ", i) }

func failed(status int) Outcome {
	return Outcome{Verdict: Failed, Status: status, Reason: "it failed"}
}

// hang is a target that never answers.
func hang(ctx context.Context, _ Attempt) Outcome {
	<-ctx.Done()
	return Outcome{Verdict: Canceled}
}

func keyed(a Attempt, key string) bool { return string(a.Record.Key) == key }

func ok(context.Context, Attempt) Outcome { return Outcome{Verdict: Delivered, Status: 200} }
