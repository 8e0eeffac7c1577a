package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const hold = 30 * time.Second

// group is one where nodes become canaries in the order of the alphabet, at least a to e.
const group = "group-45"

// scenario is a group with a clock of its own, which starts at 0.
type scenario struct {
	*Rollout
	t   *testing.T
	now time.Time
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newScenario(t *testing.T, canaryPercent int, nodes ...string) *scenario {
	s := &scenario{New(group, Policy{CanaryPercent: canaryPercent, Hold: hold}), t, epoch}
	for _, id := range nodes {
		s.connect(id)
	}
	return s
}

// good makes v1 good, as after a restart.
func (s *scenario) good() *scenario {
	s.Restore("v1")
	return s
}

func (s *scenario) offer(version string)    { s.Offer(version, s.now) }
func (s *scenario) connect(id string)       { s.Connected(id, s.now) }
func (s *scenario) disconnect(id string)    { s.Disconnected(id, s.now) }
func (s *scenario) nack(id, version string) { s.Nacked(id, version, "ecds", "no such file", s.now) }

func (s *scenario) ack(version string, ids ...string) {
	for _, id := range ids {
		s.Acked(id, version, s.now)
	}
}

func (s *scenario) wait(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.now)
}

func (s *scenario) is(stage Stage, wanted map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	for id := range wanted {
		got[id] = s.Wanted(id)
	}
	if s.State().Stage != stage {
		s.t.Errorf("stage %s, want %s", s.State().Stage, stage)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		s.t.Errorf("wanted by the test (-) and by the rollout (+):\n%s", diff)
	}
}

var abcd = []string{"a", "b", "c", "d"}

func all(version string) map[string]string {
	return map[string]string{"a": version, "b": version, "c": version, "d": version}
}

func TestWithoutAGoodVersionEveryoneGetsTheFirst(t *testing.T) {
	s := newScenario(t, 25, abcd...)
	s.is(Idle, all(""))
	s.offer("v1")
	s.is(Everyone, all("v1"))
	s.ack("v1", "a", "b", "c")
	s.nack("d", "v1") // there is nothing to go back to
	s.is(Everyone, all("v1"))
	s.ack("v1", "d")
	s.is(Done, all("v1"))
	if s.State().Good != "v1" || s.State().Candidate != "" {
		t.Errorf("%+v", s.State())
	}
}

func TestCanariesThenTheRest(t *testing.T) {
	s := newScenario(t, 25, abcd...).good()
	s.offer("v2")
	s.is(Canaries, map[string]string{"a": "v2", "b": "v1", "c": "v1", "d": "v1"})
	s.wait(AckTimeout - 1)
	s.ack("v2", "a")
	s.is(Holding, map[string]string{"a": "v2", "b": "v1", "c": "v1", "d": "v1"})
	s.wait(hold - 1)
	s.is(Holding, map[string]string{"a": "v2", "b": "v1", "c": "v1", "d": "v1"})
	s.wait(1)
	s.is(Everyone, all("v2"))
	s.connect("e") // has to acknowledge as well
	s.ack("v2", "b", "c", "d")
	s.is(Everyone, map[string]string{"e": "v2"})
	s.ack("v2", "e")
	s.is(Done, all("v2"))
}

func TestWithoutCanariesEveryoneAtOnce(t *testing.T) {
	s := newScenario(t, 0, abcd...).good()
	s.offer("v2")
	s.is(Everyone, all("v2"))
	s.ack("v2", "a", "b", "c")
	s.nack("d", "v2")
	s.is(RolledBack, all("v1"))
}

func TestARejectionEndsTheRollout(t *testing.T) {
	for stage, until := range map[Stage]func(*scenario){
		Canaries: func(*scenario) {},
		Holding:  func(s *scenario) { s.ack("v2", "a") },
		Everyone: func(s *scenario) { s.ack("v2", "a"); s.wait(hold) },
	} {
		t.Run(string(stage), func(t *testing.T) {
			s := newScenario(t, 25, abcd...).good()
			s.offer("v2")
			until(s)
			s.is(stage, map[string]string{"a": "v2"})
			s.nack("a", "v2")
			s.is(RolledBack, all("v1"))
			want := &Rejection{Node: "a", Version: "v2", Type: "ecds", Reason: "no such file", At: s.now}
			s.nack("b", "v2") // too late to matter
			s.connect("e")
			s.wait(time.Hour)
			s.is(RolledBack, map[string]string{"a": "v1", "b": "v1", "e": "v1"})
			if diff := cmp.Diff(want, s.State().Rejection); diff != "" {
				t.Errorf("rejection: -want +got:\n%s", diff)
			}
		})
	}
}

func TestARejectionOfTheGoodVersionIsTheNodesOwnProblem(t *testing.T) {
	s := newScenario(t, 25, abcd...).good()
	s.nack("b", "v1")
	s.is(Done, all("v1"))
	s.offer("v2")
	s.nack("b", "v1")
	s.is(Canaries, map[string]string{"a": "v2"})
}

func TestWhoRejectsTheGoodVersionTooIsNoWitness(t *testing.T) {
	s := newScenario(t, 25, abcd...).good()
	s.nack("a", "v1")
	s.offer("v2")
	s.is(Canaries, map[string]string{"a": "v1", "b": "v2"}) // nor is it a canary
	s.ack("v2", "b")
	s.wait(hold)
	s.nack("a", "v2")
	s.ack("v2", "c", "d")
	s.is(Everyone, all("v2"))
	s.wait(AckTimeout)
	s.is(Done, all("v2"))

	s.offer("v3")
	s.ack("v2", "a") // mended
	s.ack("v3", "b")
	s.wait(hold)
	s.nack("a", "v3")
	s.is(RolledBack, all("v2"))
}

func TestACanaryThatIsLostEndsTheRollout(t *testing.T) {
	tests := []struct {
		name, reason string
		happens      func(*scenario)
	}{
		{"never acknowledges", "did not acknowledge within 1m0s", func(s *scenario) {
			s.wait(AckTimeout - 1)
			s.is(Canaries, map[string]string{"a": "v2"})
			s.wait(1)
		}},
		{"goes before it acknowledges", "went away and was not back within 30s", func(s *scenario) {
			s.disconnect("a")
			s.wait(hold - 1)
			s.is(Canaries, map[string]string{"b": "v1", "c": "v1"}) // and nobody takes its place
			s.wait(1)
		}},
		{"goes after it acknowledged", "went away and was not back within 30s", func(s *scenario) {
			s.ack("v2", "a")
			s.wait(hold - 1)
			s.disconnect("a")
			s.is(Canaries, map[string]string{"b": "v1"})
			s.wait(hold)
		}},
		{"comes back but does not acknowledge", "did not acknowledge within 1m0s", func(s *scenario) {
			s.ack("v2", "a")
			s.disconnect("a")
			s.connect("a")
			s.wait(AckTimeout)
		}},
		{"goes again and again", "went away 3 times since it got the version", func(s *scenario) {
			for range 3 {
				s.is(Canaries, map[string]string{"a": "v2"})
				s.ack("v2", "a")
				s.disconnect("a")
				s.connect("a")
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScenario(t, 25, abcd...).good()
			s.offer("v2")
			tt.happens(s)
			s.is(RolledBack, all("v1"))
			r := s.State().Rejection
			if r == nil || r.Node != "a" || r.Version != "v2" || r.Reason != tt.reason {
				t.Errorf("rejection %+v, want %q", r, tt.reason)
			}
		})
	}
}

func TestACanaryThatComesBackIsHeldAnew(t *testing.T) {
	s := newScenario(t, 25, abcd...).good()
	s.offer("v2")
	s.ack("v2", "a")
	s.wait(hold - 1)
	s.disconnect("a")
	s.connect("a")
	s.is(Canaries, map[string]string{"a": "v2", "b": "v1"})
	s.ack("v2", "a")
	s.wait(hold - 1)
	s.is(Holding, map[string]string{"a": "v2", "b": "v1"})
	s.wait(1)
	s.is(Everyone, all("v2"))
}

// After a restart the candidate is there before the nodes are.
func TestCanariesAreChosenAsNodesConnect(t *testing.T) {
	s := newScenario(t, 50).good()
	s.offer("v2")
	s.is(Canaries, map[string]string{"x": "v1"})
	s.connect("d")
	s.connect("c")
	s.is(Canaries, map[string]string{"d": "v2", "c": "v1"})
	s.ack("v2", "d")
	s.is(Holding, map[string]string{"d": "v2", "c": "v1"})
	s.connect("b") // two of three: a comes before c
	s.is(Canaries, map[string]string{"d": "v2", "c": "v1", "b": "v2"})
	s.ack("v2", "b")
	s.is(Holding, map[string]string{"d": "v2", "c": "v1", "b": "v2"})
}

// What this server holds for good may be far older than what another one gave them.
func TestWhoComesWithTheCandidateKeepsIt(t *testing.T) {
	s := newScenario(t, 25).good()
	s.offer("v2")
	s.connect("c")
	for _, id := range []string{"a", "b", "d"} {
		s.connect(id)
		s.is(Canaries, map[string]string{id: "v1"})
		s.Has(id, "v2")
	}
	s.is(Canaries, all("v2"))
	s.disconnect("b") // is no canary, which would have to come back
	s.connect("b")
	s.is(Canaries, map[string]string{"b": "v1"})
	s.connect("e") // two of five, a of those that have it anyway
	s.is(Canaries, map[string]string{"a": "v2", "b": "v1", "c": "v2", "d": "v2", "e": "v1"})
	s.ack("v2", "a", "c")
	s.is(Holding, map[string]string{"b": "v1"})
	s.nack("d", "v2")
	s.is(RolledBack, all("v1"))
	s.Has("d", "v2")
	s.Has("d", "")
	s.is(RolledBack, all("v1"))
}

// One that hangs, or rejects the first version there is, does not hold up what comes after.
func TestWhoNeverAcknowledgesIsNotWaitedForForEver(t *testing.T) {
	s := newScenario(t, 25, abcd...)
	s.offer("v1")
	s.ack("v1", "a")
	s.nack("d", "v1")
	s.wait(AckTimeout)
	s.is(Everyone, all("v1")) // most have said nothing good of it
	if at, ok := s.Deadline(); ok {
		t.Errorf("deadline %v, with nothing to be done then", at)
	}
	s.ack("v1", "b")
	s.is(Done, all("v1"))
	s.offer("v2")
	s.is(Canaries, map[string]string{"a": "v2", "b": "v1", "c": "v1", "d": "v1"})
	s.ack("v2", "a")
	s.wait(hold)
	s.ack("v2", "b", "c")
	s.wait(AckTimeout - 1)
	s.is(Everyone, all("v2"))
	if at, ok := s.Deadline(); !ok || at != s.now.Add(1) {
		t.Errorf("deadline %v, %v; now %v", at, ok, s.now)
	}
	s.wait(1)
	s.is(Done, all("v2"))
}

func TestAVersionThatNobodyTriedIsNotGood(t *testing.T) {
	s := newScenario(t, 0)
	s.offer("v1")
	s.wait(time.Hour)
	s.is(Everyone, all("v1"))
	s.connect("b")
	s.disconnect("b")
	if s.State().Good != "" {
		t.Errorf("%+v", s.State())
	}
}

func TestOffers(t *testing.T) {
	tests := []struct {
		name   string
		offers func(*scenario)
		stage  Stage
		canary string // what the canary is to have
	}{
		{"the good version", func(s *scenario) { s.offer("v1") }, Done, "v1"},
		{"the candidate again", func(s *scenario) { s.offer("v2"); s.ack("v2", "a"); s.offer("v2") }, Holding, "v2"},
		{"another candidate", func(s *scenario) { s.offer("v2"); s.ack("v2", "a"); s.offer("v3") }, Canaries, "v3"},
		{"the good version while a candidate is out", func(s *scenario) { s.offer("v2"); s.offer("v1") }, Done, "v1"},
		{"the rejected version", func(s *scenario) { s.offer("v2"); s.nack("a", "v2"); s.offer("v2") }, RolledBack, "v1"},
		{"another than the rejected version", func(s *scenario) { s.offer("v2"); s.nack("a", "v2"); s.offer("v3") }, Canaries, "v3"},
		{"the good version after a rejection", func(s *scenario) { s.offer("v2"); s.nack("a", "v2"); s.offer("v1") }, Done, "v1"},
		{"the rejected version after another",
			func(s *scenario) { s.offer("v2"); s.nack("a", "v2"); s.offer("v1"); s.offer("v2") }, Canaries, "v2"},
		{"an acknowledgement of what is no longer offered",
			func(s *scenario) { s.offer("v2"); s.offer("v3"); s.ack("v2", "a") }, Canaries, "v3"},
		{"a rejection of what is no longer offered",
			func(s *scenario) { s.offer("v2"); s.offer("v3"); s.nack("a", "v2") }, Canaries, "v3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScenario(t, 25, abcd...).good()
			tt.offers(s)
			s.is(tt.stage, map[string]string{"a": tt.canary, "b": "v1", "c": "v1", "d": "v1"})
		})
	}
}

func TestCanariesAreChosenAlikeEverywhere(t *testing.T) {
	for percent, want := range map[int][]string{1: {"a"}, 25: {"a"}, 26: {"a", "b"}, 75: {"a", "b", "c"}, 100: abcd} {
		for _, connected := range [][]string{abcd, {"d", "c", "b", "a"}, {"c", "a", "d", "b"}} {
			s := newScenario(t, percent, connected...).good()
			s.offer("v2")
			var got []string
			for _, id := range abcd {
				if s.Canary(id) {
					got = append(got, id)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d%% of %v: -want +got:\n%s", percent, connected, diff)
			}
		}
	}
}

func TestCanaryShare(t *testing.T) {
	for _, tt := range []struct{ percent, connected, want int }{
		{0, 10, 0}, {10, 0, 0}, {1, 1, 1}, {10, 10, 1}, {10, 11, 2}, {50, 3, 2}, {99, 100, 99}, {100, 7, 7},
	} {
		if got := (Policy{CanaryPercent: tt.percent}).canaries(tt.connected); got != tt.want {
			t.Errorf("%d%% of %d: %d canaries, want %d", tt.percent, tt.connected, got, tt.want)
		}
	}
}

func TestRestoreComesFirst(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); got != "BUG: a version is restored after others were offered" {
			t.Errorf("recovered %v", got)
		}
	}()
	s := newScenario(t, 0)
	s.offer("v1")
	s.Restore("v1")
}
