package flow

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

var (
	simulations = flag.Int("simulations", 200, "how many simulations to run")
	simulation  = flag.Uint64("simulation", 0, "the seed of the only simulation to run")
)

// world is a simulated group: a topic, what is committed, a target that is slow, fails, hangs and asks for time, a
// dead-letter topic that is away now and then, and members that are killed, or lose partitions and get them back.
type world struct {
	t           *testing.T
	seed        uint64
	order       Order
	concurrency int
	partitions  []*log
	left        int // messages that are neither delivered nor buried
	all         chan struct{}

	mu      sync.Mutex
	rnd     *rand.Rand
	mood    mood
	calm    bool // no more trouble
	running int
}

// log is a partition.
type log struct {
	mu       sync.Mutex // while it is committed, or changes hands
	id       int32
	messages []*sent
	state    offsets.State
	underWay map[string]*sent // by key
	last     map[string]int64 // offset that was sent of a key by this member
}

// sent is a message as the target sees it.
type sent struct {
	Message
	poison    Verdict
	skipped   bool
	delivered bool
	buried    bool
	reached   bool // the target, from this member
}

func (s *sent) done() bool { return s.delivered || s.buried || s.skipped }

type mood int

const (
	fast mood = iota
	slow
	failing
	hanging
	overloaded
	moods
)

func (w *world) random(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

func (w *world) fail(format string, args ...any) {
	w.t.Errorf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

func newWorld(t *testing.T, seed uint64) *world {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		t: t, seed: seed, rnd: rnd, order: Order(1 + rnd.IntN(3)), concurrency: 1 + rnd.IntN(10), all: make(chan struct{}),
	}
	for id := range int32(1 + rnd.IntN(3)) {
		l := &log{id: id}
		offset := int64(rnd.IntN(100))
		l.state.Offset = offset
		keys := 1 + rnd.IntN(30)
		for range 20 + rnd.IntN(200) {
			offset++
			for rnd.IntN(10) == 0 { // a gap
				offset++
			}
			s := &sent{skipped: rnd.IntN(10) == 0}
			s.Message = Message{Topic: "leads", Partition: id, Offset: offset}
			s.Record = record.Record{Received: time.Now(), Route: fmt.Sprint("route ", rnd.IntN(3)), Body: make([]byte, rnd.IntN(1000))}
			if rnd.IntN(5) > 0 {
				s.Record.Key = fmt.Append(nil, rnd.IntN(keys))
			}
			switch rnd.IntN(60) {
			case 0:
				s.poison = Failed
			case 1:
				s.poison = Rejected
			case 2:
				s.poison = Unsendable
			case 3:
				s.Unreadable = "it is not a request"
			}
			if !s.skipped {
				w.left++
			}
			l.messages = append(l.messages, s)
		}
		w.partitions = append(w.partitions, l)
	}
	return w
}

func (w *world) find(m *Message) (*log, *sent) {
	l := w.partitions[m.Partition]
	for _, s := range l.messages {
		if s.Offset == m.Offset {
			return l, s
		}
	}
	panic("no such message")
}

// lane is what a message has in common with those that it is sent one after another with; "" if there are none.
func (w *world) lane(s *sent) string {
	switch {
	case w.order == ByPartition:
		return "all"
	case w.order == ByKey && s.Record.Key != nil:
		return "key " + string(s.Record.Key)
	}
	return ""
}

func (w *world) finished(s *sent, was bool) {
	if !was && s.done() {
		if w.left--; w.left == 0 {
			close(w.all)
		}
	}
}

func (w *world) send(ctx context.Context, a Attempt) Outcome {
	w.mu.Lock()
	l, s := w.find(a.Message)
	lane := w.lane(s)
	if w.running++; w.running > w.concurrency {
		w.fail("%d under way, more than %d", w.running, w.concurrency)
	}
	if lane != "" {
		if other := l.underWay[lane]; other != nil {
			w.fail("%d and %d of %s are under way at once", other.Offset, s.Offset, lane)
		}
		if s.Offset < l.last[lane] {
			w.fail("%d of %s comes after %d", s.Offset, lane, l.last[lane])
		}
		l.underWay[lane], l.last[lane] = s, s.Offset
		for _, before := range l.messages {
			if before.Offset < s.Offset && w.lane(before) == lane && !before.done() {
				w.fail("%d of %s is not done, and %d is sent", before.Offset, lane, s.Offset)
			}
		}
	}
	if s.skipped || s.Unreadable != "" {
		w.fail("%d is sent", s.Offset)
	}
	mood, took := w.mood, time.Duration(w.rnd.ExpFloat64()*float64(20*time.Millisecond))
	unlucky := w.rnd.IntN(20) == 0 && !w.calm
	late := w.rnd.IntN(2) == 0
	w.mu.Unlock()

	o := Outcome{Verdict: Delivered, Status: 200}
	switch {
	case s.poison != 0:
		o = Outcome{Verdict: s.poison, Status: 500, Reason: "poison"}
	case unlucky || mood == failing:
		o = Outcome{Verdict: Failed, Reason: "connection refused"}
	case mood == overloaded:
		o = Outcome{Verdict: Failed, Status: 429, RetryAfter: 3 * time.Second, Reason: "too many"}
	case mood == hanging:
		o, took = Outcome{Verdict: Failed, Reason: "timeout"}, 30*time.Second
	case mood == slow:
		took *= 50
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if late && o.Verdict == Delivered { // the target has it, and nobody hears of that
			w.mu.Lock()
			defer w.mu.Unlock()
			w.running--
			delete(l.underWay, lane)
			s.reached = true
			return Outcome{Verdict: Canceled}
		}
		o = Outcome{Verdict: Canceled}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	if lane != "" {
		delete(l.underWay, lane)
	}
	if o.Verdict == Delivered {
		was := s.done()
		s.delivered, s.reached = true, true
		w.finished(s, was)
	}
	return o
}

func (w *world) bury(ctx context.Context, m *Message, letter Letter) error {
	for w.random(4) == 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(w.random(3000)) * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, s := w.find(m)
	was := s.done()
	s.buried = true
	w.finished(s, was)
	if s.poison == 0 && s.Unreadable == "" && letter.Class != ClassExhausted && letter.Class != ClassExpired {
		w.fail("%d is buried: %+v", s.Offset, letter)
	}
	return nil
}

// commit commits, unless it fails.
func (w *world) commit(e *Engine, sometimes bool) {
	for _, l := range w.partitions {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	commits := e.Uncommitted()
	if sometimes && w.random(3) == 0 {
		return
	}
	for _, c := range commits {
		w.partitions[c.Partition].state = c.state
	}
	e.Committed(commits)
}

// feed has a member have a partition, and lose it now and then, until ctx ends.
func (w *world) feed(ctx context.Context, e *Engine, l *log) {
	for ctx.Err() == nil {
		l.mu.Lock()
		p, err := e.Open("leads", l.id, l.state.Offset, l.state.Metadata)
		if err != nil {
			w.fail("%v", err)
		}
		w.mu.Lock()
		l.last, l.underWay = map[string]int64{}, map[string]*sent{}
		w.mu.Unlock()
		start := l.state.Offset
		l.mu.Unlock()
		patience := time.Duration(1+w.random(60_000)) * time.Millisecond
		if w.isCalm() { // attempts are counted anew by each member
			patience = time.Hour
		}
		claim, cancel := context.WithTimeout(ctx, patience)
		for _, s := range l.messages {
			if s.Offset < start {
				continue
			}
			if s.skipped {
				p.Skip(s.Offset)
			} else if err := p.Offer(claim, &s.Message); err != nil {
				break
			}
		}
		<-claim.Done()
		cancel()
		if ctx.Err() != nil {
			return
		}
		grace, cancel := context.WithTimeout(ctx, time.Duration(w.random(5000))*time.Millisecond)
		c := p.Close(grace)
		cancel()
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		if w.random(10) == 0 { // fenced: another member has had it
			e.Lost([]Commit{c})
		} else {
			l.state = c.state
			e.Committed([]Commit{c})
		}
		w.mu.Lock()
		for _, s := range l.messages { // what was cut off or fenced is sent again, and not for a crash
			s.reached = false
		}
		w.mu.Unlock()
		l.mu.Unlock()
	}
}

// crash returns how many messages the target has had from a member that has just been killed that another will send again.
func (w *world) crash() int {
	repeats := 0
	for _, l := range w.partitions {
		next, err := offsets.New(l.state.Offset, l.state.Metadata)
		if err != nil {
			w.fail("%v", err)
		}
		for _, s := range l.messages {
			if next.Read(s.Offset) && s.reached {
				repeats++
			}
			s.reached = false
		}
	}
	return repeats
}

// live has a member live until ctx ends.
func (w *world) live(ctx context.Context) {
	w.mu.Lock()
	o := Options{
		Send: w.send, Bury: w.bury, Attempted: func(Attempt, Outcome) {}, Buried: func(*Message, Letter) {},
		Order: w.order, MaxAttempts: 5, InitialBackoff: 100 * time.Millisecond, MaxBackoff: 5 * time.Second,
		Failures: 10, Of: 20, Delay: time.Second, MaxDelay: 10 * time.Second,
		MaxBufferBytes: 1000 + w.rnd.IntN(100_000), Log: slog.New(slog.DiscardHandler),
	}
	if w.rnd.IntN(4) == 0 {
		o.MaxAge = 10 * time.Minute
	}
	w.mu.Unlock()
	e := New(o, w.limits())
	var parts sync.WaitGroup
	parts.Go(func() { e.Run(ctx) })
	for _, l := range w.partitions {
		parts.Go(func() { w.feed(ctx, e, l) })
	}
	every := func(d time.Duration, do func()) {
		parts.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(d):
					do()
				}
			}
		})
	}
	every(3*time.Second, func() { w.commit(e, true) })
	every(7*time.Second, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mood = fast
		if !w.calm {
			w.mood = mood(w.rnd.IntN(int(moods)))
		}
	})
	every(11*time.Second, func() { e.SetLimits(w.limits()); e.SetShare(float64(1+w.random(4)) / 4) })
	parts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-e.CommitWanted():
				w.commit(e, true)
			}
		}
	})
	parts.Wait()
	if s := e.State(); s.UnderWay != 0 {
		w.fail("after the end %+v", s)
	}
	if repeats := w.crash(); repeats > 2*w.concurrency {
		w.fail("%d repeats with a concurrency of %d", repeats, w.concurrency)
	}
}

func (w *world) limits() Limits {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := Limits{Rate: math.Inf(1), KeyRate: math.Inf(1), Concurrency: w.concurrency, Adaptive: w.rnd.IntN(2) == 0}
	if w.rnd.IntN(2) == 0 {
		l.Rate = float64(10 + w.rnd.IntN(200))
		if !w.calm && w.rnd.IntN(5) == 0 {
			l.Rate = 0
		}
	}
	if w.rnd.IntN(3) == 0 {
		l.KeyRate = 5
	}
	if w.rnd.IntN(3) == 0 {
		l.RouteRates = map[string]float64{"route 0": float64(5 + w.rnd.IntN(20))}
	}
	return l
}

func TestSimulation(t *testing.T) {
	seeds := []uint64{*simulation}
	if *simulation == 0 {
		seeds = nil
		for range *simulations {
			seeds = append(seeds, rand.Uint64())
		}
	}
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	for lives := 0; ; lives++ {
		life := time.Duration(1+w.random(60_000)) * time.Millisecond
		if lives == 5 {
			w.mu.Lock()
			w.calm, w.mood = true, fast
			w.mu.Unlock()
			life = 4 * time.Hour
		}
		ctx, cancel := context.WithTimeout(t.Context(), life)
		var over sync.WaitGroup
		over.Go(func() {
			select {
			case <-w.all:
				cancel()
			case <-ctx.Done():
			}
		})
		w.live(ctx)
		timeout := errors.Is(ctx.Err(), context.DeadlineExceeded)
		cancel()
		over.Wait()
		if !timeout || t.Failed() {
			return
		}
		if lives == 5 {
			for _, l := range w.partitions {
				for _, s := range l.messages {
					if !s.done() {
						w.fail("%d of partition %d is left; committed is %d", s.Offset, l.id, l.state.Offset)
					}
				}
			}
			return
		}
	}
}
