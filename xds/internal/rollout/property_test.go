package rollout

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// world is what happens around a Rollout, and what must hold whatever does. It knows nothing of stages' innards: only
// who is there, who has said what, and what everyone was told.
type world struct {
	*Rollout
	policy Policy
	now    time.Time

	connected map[string]bool
	// acked and tried are about the present candidate: who has acknowledged it on the present connection, and who was
	// ever told to have it.
	acked, tried map[string]bool
	// came are those that came with it.
	came map[string]bool
	// ailing are those that have rejected the good version on this connection, and acknowledged nothing since.
	ailing map[string]bool
	// most is how many were connected at once since the candidate was offered.
	most int
	// calm is since when all that were told to have the candidate are there and have acknowledged it; zero if not.
	calm     time.Time
	rejected bool
	before   State
	wanted   map[string]string
	revision int
}

// observe fails where the last event led to what must not be.
func (w *world) observe(offered bool) error {
	s := w.State()
	if s.Candidate != w.before.Candidate && s.Candidate != "" {
		if !offered {
			return fmt.Errorf("candidate %q by itself", s.Candidate)
		}
		w.acked, w.tried, w.came, w.most, w.calm = map[string]bool{}, map[string]bool{}, map[string]bool{}, 0, time.Time{}
	}
	w.most = max(w.most, len(w.connected))

	for id := range w.connected {
		wanted := w.Wanted(id)
		if old, known := w.wanted[id]; known && old != wanted && w.Revision() == w.revision {
			return fmt.Errorf("%s is to have %q rather than %q, and nobody was told", id, wanted, old)
		}
		w.wanted[id] = wanted
		if wanted != s.Good && wanted != s.Candidate {
			return fmt.Errorf("%s is to have %q, which is neither good nor the candidate", id, wanted)
		}
	}
	w.revision = w.Revision()

	if s.Good != w.before.Good {
		if s.Good != w.before.Candidate && !(offered && w.before.Candidate != s.Good) {
			return fmt.Errorf("good %q was not the candidate", s.Good)
		}
		if len(w.connected) == 0 {
			return fmt.Errorf("good %q without anybody", s.Good)
		}
		acked := 0
		for id := range w.connected {
			if w.acked[id] {
				acked++
			}
		}
		late := w.before.Stage == Everyone && w.now.Sub(w.before.Since) >= AckTimeout
		if acked < len(w.connected) && (!late || 2*acked < len(w.connected)) {
			return fmt.Errorf("good %q, but only %d of %d have acknowledged it", s.Good, acked, len(w.connected))
		}
	}
	if (s.Stage == RolledBack) != (s.Rejection != nil) {
		return fmt.Errorf("%s with rejection %v", s.Stage, s.Rejection)
	}
	if w.rejected && s.Stage != RolledBack {
		return fmt.Errorf("a rejected candidate, and %s", s.Stage)
	}
	w.rejected = false
	if s.Candidate == "" {
		for id := range w.connected {
			if got := w.Wanted(id); got != s.Good {
				return fmt.Errorf("%s is to have %q, with nothing but %q offered", id, got, s.Good)
			}
		}
	} else if err := w.observeCandidate(s); err != nil {
		return err
	}

	if got := w.scan(); got != w.awaited {
		return fmt.Errorf("%d awaited, counted %d", got, w.awaited)
	}
	if most := len(w.connected) + len(w.canaries); len(w.nodes) > most {
		return fmt.Errorf("%d nodes remembered of at most %d", len(w.nodes), most)
	}
	w.before = s
	return nil
}

func (w *world) observeCandidate(s State) error {
	have := map[string]bool{}
	for id := range w.connected {
		if w.Wanted(id) == s.Candidate {
			have[id] = true
		}
	}
	if s.Good == "" || w.policy.CanaryPercent == 0 {
		if len(have) != len(w.connected) {
			return fmt.Errorf("%d of %d are to have %q, which all should", len(have), len(w.connected), s.Candidate)
		}
		return nil
	}
	if s.Stage != Everyone {
		for id := range have {
			if w.Canary(id) {
				w.tried[id] = true
			} else if !w.came[id] {
				return fmt.Errorf("%s is no canary and did not come with %q, and is to have it", id, s.Candidate)
			}
		}
		for id := range w.came {
			if !have[id] {
				return fmt.Errorf("%s came with %q, and is to have %q", id, s.Candidate, w.Wanted(id))
			}
		}
	}
	calm := len(w.tried) > 0
	for id := range w.tried {
		calm = calm && w.connected[id] && w.acked[id]
	}
	if !calm {
		w.calm = time.Time{}
	} else if w.calm.IsZero() {
		w.calm = w.now
	}
	if s.Stage == Everyone {
		if w.before.Stage != Everyone && (!calm || w.now.Sub(w.calm) < w.policy.Hold) {
			return fmt.Errorf("everyone gets %q at %v, with the canaries calm since %v", s.Candidate, w.now, w.calm)
		}
		return nil
	}
	if share := (w.most*w.policy.CanaryPercent + 99) / 100; len(w.tried) > share {
		return fmt.Errorf("%d nodes were given %q, with at most %d connected", len(w.tried), s.Candidate, w.most)
	}
	if len(w.connected) > 0 && len(w.tried) == 0 {
		return fmt.Errorf("nobody is a canary of %d", len(w.connected))
	}
	return nil
}

func (w *world) scan() int {
	awaited := 0
	for _, n := range w.nodes {
		if w.awaits(n) {
			awaited++
		}
	}
	return awaited
}

// event lets one thing happen.
func (w *world) event(rnd *rand.Rand) (what string, offered bool) {
	id := string(rune('a' + rnd.IntN(12)))
	// Sometimes about an old version, as answers overtake offers.
	version := fmt.Sprintf("v%d", rnd.IntN(5))
	if c := w.State().Candidate; c != "" && rnd.IntN(4) > 0 {
		version = c
	}
	switch rnd.IntN(12) {
	case 0:
		version = fmt.Sprintf("v%d", rnd.IntN(5))
		w.Offer(version, w.now)
		return "offer " + version, true
	case 1, 2, 3:
		w.connected[id] = true
		w.Connected(id, w.now)
		if rnd.IntN(4) > 0 {
			return "connect " + id, false
		}
		if s := w.State(); version == s.Candidate && s.Stage != Everyone {
			w.came[id] = true
		}
		w.Has(id, version)
		return "connect " + id + " with " + version, false
	case 4:
		delete(w.connected, id)
		delete(w.acked, id)
		delete(w.came, id)
		delete(w.ailing, id)
		delete(w.wanted, id)
		w.Disconnected(id, w.now)
		return "disconnect " + id, false
	case 5:
		if rnd.IntN(3) > 0 {
			return "nothing", false
		}
		s := w.State()
		if version == s.Candidate {
			w.rejected = s.Good != "" && !w.ailing[id]
			delete(w.acked, id)
		} else if version == s.Good && w.connected[id] {
			w.ailing[id] = true
		}
		w.Nacked(id, version, "ecds", "no", w.now)
		return "nack " + id + " " + version, false
	case 6, 7, 8, 9:
		w.ack(id, version)
		return "ack " + id + " " + version, false
	default:
		step := time.Duration(rnd.Int64N(int64(w.policy.Hold + time.Second)))
		if rnd.IntN(4) == 0 {
			step = AckTimeout
		}
		deadline, ok := w.Deadline()
		w.now = w.now.Add(step)
		early := !ok || w.now.Before(deadline)
		stage := w.State().Stage
		w.Tick(w.now)
		if early && w.State().Stage != stage {
			return fmt.Sprintf("BUG: tick before the deadline led from %s to %s", stage, w.State().Stage), true
		}
		return fmt.Sprintf("tick %v", step), false
	}
}

func (w *world) ack(id, version string) {
	if w.connected[id] && w.Wanted(id) == version {
		delete(w.ailing, id)
		if version == w.State().Candidate {
			w.acked[id] = true
		}
	}
	w.Acked(id, version, w.now)
}

// settle lets everyone who is there do as told until nothing is left to do.
func (w *world) settle() error {
	for range 100 {
		revision := w.Revision()
		for id := range w.connected {
			w.ack(id, w.Wanted(id))
			if err := w.observe(false); err != nil {
				return err
			}
		}
		deadline, ok := w.Deadline()
		if ok {
			w.now = deadline
			w.Tick(w.now)
			if err := w.observe(false); err != nil {
				return err
			}
		} else if w.Revision() == revision {
			break
		}
	}
	if len(w.connected) == 0 {
		return nil
	}
	switch s := w.State(); s.Stage {
	case Idle, Done, RolledBack: // everyone has the good version, as observed
		return nil
	default:
		return fmt.Errorf("still %s when all is quiet", s.Stage)
	}
}

func TestWhateverHappens(t *testing.T) {
	seed := rand.Uint64()
	stages := map[Stage]int{}
	for i := range uint64(1000) {
		rnd := rand.New(rand.NewPCG(seed, i))
		policy := Policy{CanaryPercent: []int{0, 1, 10, 30, 50, 100}[rnd.IntN(6)], Hold: []time.Duration{0, time.Second, hold}[rnd.IntN(3)]}
		w := &world{
			Rollout: New("g", policy), policy: policy, now: epoch,
			connected: map[string]bool{}, acked: map[string]bool{}, tried: map[string]bool{}, came: map[string]bool{}, ailing: map[string]bool{}, wanted: map[string]string{},
		}
		if rnd.IntN(2) == 0 {
			w.Restore("v0")
			w.before = w.State()
		}
		var history []string
		var err error
		for range 150 {
			what, offered := w.event(rnd)
			history = append(history, what)
			if err = w.observe(offered); err != nil {
				break
			}
			stages[w.State().Stage]++
		}
		if err == nil {
			err = w.settle()
		}
		if err != nil {
			t.Fatalf("seed %d, run %d, %+v: %v after\n%v", seed, i, policy, err, history)
		}
	}
	for _, stage := range Stages {
		if stages[stage] < 100 {
			t.Errorf("only %d events at stage %s: the simulation does not get around (seed %d)", stages[stage], stage, seed)
		}
	}
}
