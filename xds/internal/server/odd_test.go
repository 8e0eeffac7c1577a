package server

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// A node that no group takes gets nothing, and is shown.
func TestANodeWithoutAGroup(t *testing.T) {
	s := serve(t)
	s.set(t, "one", true)
	e := s.envoy(t, "stranger")
	e.node.Cluster = "nobody"
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	s.awaitLog(t, "envoy connected, but no group takes it, and it gets nothing")
	status := s.Status()
	if len(status.Nodes) != 1 || status.Nodes[0].Group != "" || status.Nodes[0].Wanted != "" || status.Nodes[0].Cluster != "nobody" {
		t.Errorf("%+v", status.Nodes)
	}
	if n := testutil.ToFloat64(s.metrics.nodes.WithLabelValues("")); n != 1 {
		t.Errorf("%v nodes without a group, want 1", n)
	}
	if keys := s.cache.GetStatusKeys(); len(keys) != 1 || keys[0] != "/stranger" {
		t.Errorf("in the cache: %v", keys)
	}
}

// Groups know nothing of each other, even where ids are the same.
func TestGroups(t *testing.T) {
	s := New(Options{Group: (*corev3.Node).GetCluster}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	w := watch{s}
	one, err := s.Restore("shop", build(t, "one", false))
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Restore("bank", build(t, "two", false))
	if err != nil {
		t.Fatal(err)
	}
	for id, cluster := range []string{"shop", "bank"} {
		_ = w.OnStreamOpen(t.Context(), int64(id), "")
		_ = w.OnStreamRequest(int64(id), &discoveryv3.DiscoveryRequest{
			Node: &corev3.Node{Id: "same", Cluster: cluster}, TypeUrl: resource.ExtensionConfigType,
		})
	}
	three, err := s.Offer("shop", build(t, "three", false))
	if err != nil {
		t.Fatal(err)
	}
	status := s.Status()
	if got := []string{status.Nodes[0].Wanted, status.Nodes[1].Wanted}; got[0] != two || got[1] != three {
		t.Errorf("wanted %v; offered bank %s, shop %s and then %s", got, two, one, three)
	}
}

// A client that says something else of itself with every request stays who it was.
func TestANodeThatChangesItsID(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	e := s.envoy(t, "a")
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	one := e.receive()
	e.node = &corev3.Node{Id: "b", Cluster: "nobody"}
	e.ack(one, resources.FilterName)
	s.set(t, "two", false)
	e.receive()
	if keys := s.cache.GetStatusKeys(); len(keys) != 1 || keys[0] != "default/a" {
		t.Errorf("in the cache: %v", keys)
	}
}

// A client that says nothing of itself is one without an id.
func TestANodeThatSaysNothingOfItself(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	stream := openDelta(t, t.Context(), s.conn, resource.ExtensionConfigType)
	// Nor does it say the type, which the service implies.
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{resources.FilterName}}); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || len(r.GetResources()) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	status := s.Status()
	if len(status.Nodes) != 1 || status.Nodes[0].ID != "" || status.Nodes[0].Group != "default" {
		t.Errorf("%+v", status.Nodes)
	}
}

// Whatever else a client asks for, and however often, it does not hold up others.
func TestTypesThatAreNotServed(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	e := s.envoy(t, "odd")
	for i := range 100 {
		e.send(&discoveryv3.DiscoveryRequest{TypeUrl: fmt.Sprint("type", i), VersionInfo: "some", ResponseNonce: "1"})
	}
	delta := openDelta(t, t.Context(), s.conn, "")
	for i := range 100 {
		if err := delta.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "odd"}, TypeUrl: fmt.Sprint("type", i)}); err != nil {
			t.Fatal(err)
		}
	}
	s.robot(t, "even", protocols[0], 1, takesAll).gets(t, "one")
	s.set(t, "two", false)
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	if r := e.receive(); r.GetTypeUrl() != resource.ExtensionConfigType {
		t.Errorf("got %s", r.GetTypeUrl())
	}
}

// A delta client that comes back with what it is to have is sent nothing, and counts as having acknowledged it.
func TestADeltaNodeThatComesBack(t *testing.T) {
	s := serve(t)
	one := s.set(t, "one", false)
	subscribe := &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "back"}, TypeUrl: resource.ExtensionConfigType, ResourceNamesSubscribe: []string{resources.FilterName},
	}
	first := openDelta(t, t.Context(), s.conn, "")
	if err := first.Send(subscribe); err != nil {
		t.Fatal(err)
	}
	got, err := first.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Status().Nodes[0]; n.Acknowledged != "" {
		t.Errorf("acknowledged before it said so: %+v", n)
	}
	subscribe.InitialResourceVersions = map[string]string{resources.FilterName: got.GetResources()[0].GetVersion()}
	subscribe.Node.Id = "again"
	again := openDelta(t, t.Context(), s.conn, "")
	if err := again.Send(subscribe); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(t, "acknowledged", func(s Status) bool {
		return len(s.Nodes) == 2 && s.Nodes[0].ID == "again" && s.Nodes[0].Acknowledged == one
	})
}

// A starting Envoy asks for one type after another, so one that has all it asked for is believed only when no more is to
// be expected: otherwise a version could become good before the type was asked for that it breaks.
func TestANodeThatMayAskForMore(t *testing.T) {
	s := serve(t)
	one := s.set(t, "one", true)
	e := s.envoy(t, "starting")
	e.subscribe(resource.ExtensionConfigType, resources.FilterName)
	e.ack(e.receive(), resources.FilterName)
	e.subscribe(resource.RouteType, resources.RoutesName)
	e.ack(e.receive(), resources.RoutesName)
	e.subscribe(resource.ClusterType)
	e.receive() // not acknowledged
	s.mu.Lock()
	n := s.nodes[nodeKey{"default", "starting"}]
	later := n.settles
	if n.complies(later, nil) {
		t.Error("has acknowledged all without the clusters")
	}
	for b := range n.subscriptions() {
		b.unanswered = nil
		b.acknowledged = n.wanted.GetVersion(b.typeURL)
	}
	if n.complies(later.Add(-1), nil) {
		t.Error("is believed too early")
	}
	for i := range s.settling {
		s.settling[i].at = time.Now()
	}
	n.settles = time.Now()
	s.mu.Unlock()
	s.wake()
	s.awaitGood(t, one)
}

// An Envoy may say at any length why it rejects something.
func TestReasonsAreBounded(t *testing.T) {
	s := serve(t)
	s.set(t, "one", false)
	long := strings.Repeat("€", maxReason)
	s.robot(t, "verbose", protocols[0], 1, func(string) string { return long })
	status := s.awaitStatus(t, "rejected", func(s Status) bool { return len(s.Nodes) == 1 && len(s.Nodes[0].Rejections) == 1 })
	got, cut := strings.CutSuffix(status.Nodes[0].Rejections[0].Reason, "…")
	if !cut || !strings.HasPrefix(long, got) || len(got) < maxReason-len("€") || len(got) > maxReason {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
}

// What is remembered of nodes that went is bounded by time and number, and forgotten when they come back.
func TestNodesThatWent(t *testing.T) {
	s := New(Options{Group: (*corev3.Node).GetCluster}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	w := watch{s}
	visit := func(id int, name string) {
		_ = w.OnStreamOpen(t.Context(), int64(id), "")
		_ = w.OnStreamRequest(int64(id), &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: name, Cluster: "g"}})
	}
	for i := range maxGone + 10 {
		visit(i, fmt.Sprint(i))
		w.OnStreamClosed(int64(i), nil)
	}
	status := s.Status()
	if len(status.Nodes) != maxGone || status.Nodes[0].ID != "10" {
		t.Fatalf("%d nodes, the first %s", len(status.Nodes), status.Nodes[0].ID)
	}
	visit(0, "500")
	if status = s.Status(); len(status.Nodes) != maxGone || status.Nodes[0].ID != "500" {
		t.Errorf("%d nodes, the first %s", len(status.Nodes), status.Nodes[0].ID)
	}
	for i := range s.gone[:100] {
		s.gone[i].DisconnectedSince = time.Now().Add(-goneTime - time.Second)
	}
	if got := len(s.Status().Nodes); got != maxGone-100 {
		t.Errorf("%d nodes, want %d", got, maxGone-100)
	}
	if len(s.nodes) != 1 || len(s.streams) != 1 || len(s.groups["g"].nodes) != 1 {
		t.Errorf("%d nodes, %d streams and %d nodes of the group remembered, with one connected",
			len(s.nodes), len(s.streams), len(s.groups["g"].nodes))
	}
}

// The end of the server is not that of the nodes: what not all have acknowledged does not become good by it.
func TestTheEndMakesNothingGood(t *testing.T) {
	s := serveWith(t, rollout.Policy{})
	s.restore(t, "one", false)
	s.robot(t, "a", protocols[0], 1, takesAll).gets(t, "one")
	slow := s.robot(t, "b", protocols[0], 1, func(name string) string {
		if name == "two" {
			<-t.Context().Done()
		}
		return ""
	})
	slow.gets(t, "one")
	s.awaitStatus(t, "all acknowledged", allAcknowledged)
	two := s.set(t, "two", false)
	slow.gets(t, "two")
	s.awaitStatus(t, "acknowledged by one", func(s Status) bool { return s.Nodes[0].Acknowledged == two })
	s.stop()
	if state := s.Status().Groups[0]; state.Good == two || len(s.good) > 0 {
		t.Errorf("%+v", state)
	}
}

// Envoys of all kinds come, go, acknowledge and reject while versions are offered: nothing hangs, and in the end all
// have the same.
func TestAFleet(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := serveWith(t, rollout.Policy{CanaryPercent: 30, Hold: 2 * time.Millisecond})
	s.restore(t, "one", true)
	choosy := func(robot int) func(string) string {
		rnd := rand.New(rand.NewPCG(seed, uint64(robot)))
		return func(name string) string {
			if name != "one" && name != "last" && rnd.IntN(20) == 0 {
				return "not today"
			}
			return ""
		}
	}
	var comingAndGoing sync.WaitGroup
	for i := range 8 {
		comingAndGoing.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			for j := range 15 {
				// Two of them share their ids.
				r := s.robot(t, fmt.Sprint("guest-", i/2), protocols[rnd.IntN(4)], len(everything), choosy(1000*i+j))
				if rnd.IntN(3) > 0 {
					<-r.got
				}
				r.leave()
			}
		})
	}
	var stay []*robot
	for i := range 12 {
		stay = append(stay, s.robot(t, fmt.Sprint("resident-", i), protocols[i%4], len(everything), choosy(100+i)))
	}
	for i := range 100 {
		s.set(t, fmt.Sprint("v", i%7), true)
		s.Status()
		time.Sleep(time.Millisecond) // so that not only the last is of any interest
	}
	comingAndGoing.Wait()
	s.awaitStatus(t, "alone", func(s Status) bool { // lest one of those that went be a canary
		return !slices.ContainsFunc(s.Nodes, func(n NodeStatus) bool {
			return strings.HasPrefix(n.ID, "guest-") && n.DisconnectedSince.IsZero()
		})
	})
	s.set(t, "last", true)
	status := s.awaitStatus(t, "all at the last version", func(s Status) bool {
		g := s.Groups[0]
		for _, n := range s.Nodes {
			if n.DisconnectedSince.IsZero() && (n.Wanted != g.Good || n.Acknowledged != g.Good) {
				return false
			}
		}
		return g.Stage == rollout.Done
	})
	s.stop()
	for _, r := range stay {
		var last string
		for len(r.got) > 0 {
			last = <-r.got
		}
		if last != "last" {
			t.Errorf("%s has %q at last; status %+v", r.node.GetId(), last, status)
		}
	}
}
