package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// canary is the node that becomes the only one among these.
const (
	canary = "h"
	other1 = "d"
	other2 = "g"
)

// oneOfThree waits for ever once the canary has acknowledged.
var oneOfThree = rollout.Policy{CanaryPercent: 33, Hold: time.Hour}

func (s serving) restore(t *testing.T, routeName string, gateway bool) (version string) {
	t.Helper()
	version, err := s.Restore("default", build(t, routeName, gateway))
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func (s serving) awaitGood(t *testing.T, version string) {
	t.Helper()
	select {
	case got := <-s.good:
		if want := "default " + version; got != want {
			t.Fatalf("good: %s, want %s", got, want)
		}
	case <-patience():
		t.Fatalf("%s did not become good: %+v", version, s.Status())
	}
}

// awaitStatus waits for what no event tells of.
func (s serving) awaitStatus(t *testing.T, what string, holds func(Status) bool) Status {
	t.Helper()
	deadline := patience()
	for {
		status := s.Status()
		if holds(status) {
			return status
		}
		select {
		case <-deadline:
			t.Fatalf("not %s: %+v", what, status)
		case <-time.After(time.Millisecond):
		}
	}
}

func allAcknowledged(s Status) bool {
	for _, n := range s.Nodes {
		if n.Acknowledged != n.Wanted {
			return false
		}
	}
	return true
}

// forEach runs a test for every protocol, with Envoys of a gateway, which subscribe to everything there is, and of the
// filter alone.
func forEach(t *testing.T, test func(t *testing.T, p protocol, types int, gateway bool)) {
	for _, p := range protocols {
		t.Run(p.name+", gateway", func(t *testing.T) { t.Parallel(); test(t, p, len(everything), true) })
		t.Run(p.name+", filter", func(t *testing.T) { t.Parallel(); test(t, p, 1, false) })
	}
}

func TestTheFirstVersionGoesToEveryone(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, oneOfThree)
		one := s.set(t, "one", gateway)
		r := s.robot(t, "first", p, types, takesAll)
		r.gets(t, "one")
		s.awaitGood(t, one)
		s.robot(t, "second", p, types, takesAll).gets(t, "one")
	})
}

func TestCanariesThenTheRest(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{CanaryPercent: 33, Hold: 200 * time.Millisecond})
		s.restore(t, "one", gateway)
		var robots []*robot
		for _, id := range []string{other1, canary, other2} {
			robots = append(robots, s.robot(t, id, p, types, takesAll))
			robots[len(robots)-1].gets(t, "one")
		}
		s.awaitStatus(t, "all acknowledged", allAcknowledged)
		start := time.Now()
		two := s.set(t, "two", gateway)
		robots[1].gets(t, "two")
		robots[0].gets(t, "two")
		robots[2].gets(t, "two")
		if passed := time.Since(start); passed < 200*time.Millisecond {
			t.Errorf("the rest got it after %v", passed)
		}
		s.awaitGood(t, two)
		for _, n := range s.Status().Nodes {
			if n.Wanted != two || n.Acknowledged != two || n.Canary != (n.ID == canary) {
				t.Errorf("%+v", n)
			}
		}
	})
}

func TestACanaryThatRejectsEndsTheRollout(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, oneOfThree)
		one := s.restore(t, "one", gateway)
		first := s.robot(t, canary, p, types, refuses("two"))
		others := []*robot{s.robot(t, other1, p, types, takesAll), s.robot(t, other2, p, types, takesAll)}
		for _, r := range append(others, first) {
			r.gets(t, "one")
		}
		s.awaitStatus(t, "all acknowledged", allAcknowledged)
		two := s.set(t, "two", gateway)
		first.gets(t, "two")
		first.gets(t, "one")
		s.awaitLog(t, "rolled back")
		status := s.awaitStatus(t, "all acknowledged", allAcknowledged)

		rejection := rollout.Rejection{Node: canary, Version: two, Type: "ecds", Reason: "no such file"}
		now := cmpopts.EquateApproxTime(time.Minute)
		want := Status{
			Server: "test",
			Groups: []GroupStatus{{
				Name: "default", Stage: rollout.RolledBack, Since: time.Now(), Good: one, Rejection: &rejection,
			}},
		}
		rejection.At = time.Now()
		for _, id := range []string{canary, other1, other2} {
			n := NodeStatus{
				ID: id, Cluster: "robots", Group: "default", ConnectedSince: time.Now(), Wanted: one, WantedSince: time.Now(),
				Acknowledged: one, AcknowledgedSince: time.Now(),
			}
			if id == canary {
				n.Canary, n.Rejections = true, []rollout.Rejection{rejection}
			}
			want.Nodes = append(want.Nodes, n)
		}
		byID := cmpopts.SortSlices(func(a, b NodeStatus) bool { return a.ID < b.ID })
		if diff := cmp.Diff(want, status, now, byID); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}

		// The same again is not tried; another one is, and settles the rejection.
		if again := s.set(t, "two", gateway); again != two {
			t.Errorf("version %s, and before %s", again, two)
		}
		s.awaitLog(t, "not rolled out again what was rejected; offer something else first")
		s.set(t, "three", gateway)
		first.gets(t, "three")
		s.awaitStatus(t, "without rejections", func(s Status) bool {
			return s.Groups[0].Stage == rollout.Holding && s.Groups[0].Rejection == nil && len(s.Nodes[0].Rejections) == 0
		})
		s.set(t, "four", gateway)
		first.gets(t, "four")
		for _, r := range others {
			r.gotNothing(t)
		}
		if n := testutil.ToFloat64(s.metrics.rollouts.WithLabelValues("default", "replaced")); n != 1 {
			t.Errorf("%v rollouts replaced, want 1", n)
		}
		if n := testutil.ToFloat64(s.metrics.rollouts.WithLabelValues("default", "rolled_back")); n != 1 {
			t.Errorf("%v rollouts rolled back, want 1", n)
		}
		if n := testutil.ToFloat64(s.metrics.stage.WithLabelValues("default", "done")); n != 0 {
			t.Errorf("stage done is %v, want 0", n)
		}
	})
}

func TestWithoutCanariesARejectionRollsEverybodyBack(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{})
		s.restore(t, "one", gateway)
		robots := []*robot{s.robot(t, "a", p, types, takesAll), s.robot(t, "b", p, types, refuses("two"))}
		for _, r := range robots {
			r.gets(t, "one")
		}
		s.awaitStatus(t, "all acknowledged", allAcknowledged)
		s.set(t, "two", gateway)
		robots[1].gets(t, "two")
		robots[1].gets(t, "one")
		s.awaitLog(t, "rolled back")
		status := s.awaitStatus(t, "all acknowledged", allAcknowledged)
		if got := status.Groups[0]; got.Stage != rollout.RolledBack || got.Rejection.Node != "b" {
			t.Errorf("%+v", got)
		}
		three := s.set(t, "three", gateway)
		robots[1].gets(t, "three")
		s.awaitGood(t, three)
		s.stop() // so that nothing more comes
		var last string
		for len(robots[0].got) > 0 {
			last = <-robots[0].got
		}
		if last != "three" {
			t.Errorf("the one that takes all has %q", last)
		}
	})
}

// A newcomer that rejects what is good does not hold up what comes, as long as that is no other of what it rejects.
func TestWhatANewcomerRejectsIsItsOwnProblem(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{})
		one := s.restore(t, "one", gateway)
		s.robot(t, "a", p, types, takesAll).gets(t, "one")
		s.robot(t, "newcomer", p, types, refuses("one")).gets(t, "one")
		status := s.awaitStatus(t, "rejected", func(s Status) bool {
			return len(s.Nodes) == 2 && len(s.Nodes[1].Rejections) == 1 && s.Nodes[0].Acknowledged == one
		})
		if got := status.Groups[0]; got.Stage != rollout.Done || got.Rejection != nil {
			t.Errorf("%+v", got)
		}
		if got := status.Nodes[1]; got.Acknowledged != "" || got.Rejections[0].Version != one {
			t.Errorf("%+v", got)
		}
		if !gateway {
			return
		}
		// Other clusters, with the filter as it is: what the newcomer rejects is not new.
		r := build(t, "one", true)
		r.Clusters[0].AltStatName = "other"
		two, err := s.Offer("default", r)
		if err != nil {
			t.Fatal(err)
		}
		s.awaitGood(t, two)
	})
}

// After a restart the canary is whoever comes first, and the others get what is good.
func TestCanariesGuardARestart(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, oneOfThree)
		s.restore(t, "one", gateway)
		s.set(t, "two", gateway)
		s.robot(t, "first", p, types, refuses("two")).gets(t, "two")
		s.awaitLog(t, "rolled back")
		second := s.robot(t, "second", p, types, takesAll)
		second.gets(t, "one")
		second.gotNothing(t)
	})
}

// What another server has rolled out is not taken back from Envoys that come from there, by one that tried it with nobody.
func TestWhoComesWithTheCandidateKeepsIt(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{CanaryPercent: 33, Hold: 200 * time.Millisecond})
		s.restore(t, "old", gateway)
		two := s.set(t, "two", gateway)
		elsewhere := serveWith(t, rollout.Policy{})
		elsewhere.set(t, "two", gateway)
		var robots []*robot
		for _, id := range []string{other1, canary, other2} {
			r := elsewhere.robot(t, id, p, types, takesAll)
			r.gets(t, "two")
			elsewhere.awaitStatus(t, "all acknowledged", allAcknowledged)
			r.leave()
			robots = append(robots, s.robotThatHas(t, r, types))
		}
		s.awaitGood(t, two)
		for _, r := range robots {
			for len(r.got) > 0 { // go-control-plane may send once more what they have
				r.gets(t, "two")
			}
		}
	})
}

func TestACanaryThatGoesEndsTheRollout(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{CanaryPercent: 33, Hold: 50 * time.Millisecond})
		s.restore(t, "one", gateway)
		first := s.robot(t, canary, p, types, func(name string) string {
			if name == "two" {
				<-t.Context().Done() // neither acknowledges nor rejects
			}
			return ""
		})
		second := s.robot(t, other1, p, types, takesAll)
		first.gets(t, "one")
		second.gets(t, "one")
		s.awaitStatus(t, "all acknowledged", allAcknowledged)
		s.set(t, "two", gateway)
		first.gets(t, "two")
		first.leave()
		s.awaitLog(t, "rolled back")
		second.gotNothing(t)
		status := s.Status()
		if got := status.Groups[0].Rejection; got.Node != canary || got.Type != "" {
			t.Errorf("%+v", got)
		}
		if got := status.Nodes[1]; got.ID != canary || got.DisconnectedSince.IsZero() || !status.Nodes[0].DisconnectedSince.IsZero() {
			t.Errorf("%+v", status.Nodes)
		}
	})
}

// Envoys that share an id are one node, which has what all of them have.
func TestEnvoysThatShareAnID(t *testing.T) {
	forEach(t, func(t *testing.T, p protocol, types int, gateway bool) {
		s := serveWith(t, rollout.Policy{})
		one := s.restore(t, "one", gateway)
		twins := []*robot{s.robot(t, "twin", p, types, takesAll), s.robot(t, "twin", p, types, refuses("two"))}
		for _, r := range twins {
			r.gets(t, "one")
		}
		if !p.own {
			s.awaitLog(t, `envoys share a node id and count as one, also for canaries; give each its own, such as --service-node "$(hostname)"`)
		}
		s.awaitStatus(t, "all acknowledged", allAcknowledged)
		s.set(t, "two", gateway)
		twins[1].gets(t, "two")
		twins[1].gets(t, "one")
		s.awaitLog(t, "rolled back")
		twins[0].leave()
		twins[1].gotNothing(t)
		status := s.awaitStatus(t, "all acknowledged", allAcknowledged)
		if len(status.Nodes) != 1 || status.Nodes[0].Acknowledged != one {
			t.Errorf("%+v", status.Nodes)
		}
	})
}
