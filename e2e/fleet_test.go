package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// fleet is several gateways in groups, one Kafka and one collector for all.
type fleet struct {
	*stack
	dir      string // with groups.yaml and a routes file for each group
	upstream string
}

// newFleet starts Kafka and a collector. Each group's Envoys have ids that begin with its name and a hyphen.
func newFleet(t *testing.T, groups ...string) *fleet {
	t.Helper()
	s := &stack{t: t, kafka: kafka.Borrow(t), backend: echo}
	s.addCollectors(1)
	s.collectors[0].start()
	backend := httptest.NewServer(echo)
	t.Cleanup(backend.Close)
	f := &fleet{stack: s, dir: t.TempDir(), upstream: strings.TrimPrefix(backend.URL, "http://")}
	text := "groups:\n"
	for _, g := range groups {
		text += fmt.Sprintf("  - {name: %[1]s, match: {id: {prefix: %[1]s-}}, routes: %[1]s.yaml}\n", g)
		f.write(g, 0)
	}
	replaceFile(t, filepath.Join(f.dir, "groups.yaml"), text)
	return f
}

// write gives a group routes that can be told apart: its probe answers with the group and the number.
func (f *fleet) write(group string, n int) {
	f.t.Helper()
	replaceFile(f.t, filepath.Join(f.dir, group+".yaml"), fmt.Sprintf(`
routes:
  - {name: leads, match: {path: /leads, methods: [POST]}, topic: leads-%[1]s}
  - {name: probe, match: {path: /probe}, topic: probes, answer: {body: "%[1]s %[2]d"}}
`, group, n))
}

// serve starts an xDS server for the fleet; it listens at the address, or anywhere.
func (f *fleet) serve(address string, flags ...string) *process {
	f.t.Helper()
	return crowd(f.t, append([]string{
		"xds", "--groups", filepath.Join(f.dir, "groups.yaml"), "--listen", address, "--admin", "127.0.0.1:0",
		"--filter", absolute(f.t, crowdModule), "--gateway", "127.0.0.1:0", "--collector", f.collectors[0].address, "--upstream", f.upstream,
	}, flags...)...)
}

// xdsAddress and xdsAdmin are where a server listens.
func xdsAddress(server *process) string { return server.waitFor(`xds listening.* address=(\S+)`) }
func xdsAdmin(server *process) string   { return server.waitFor(`xds listening.* admin=(\S+)`) }

// join starts an Envoy and returns a stack that has it and all else of the fleet.
func (f *fleet) join(id string, servers ...string) *stack {
	f.t.Helper()
	member := *f.stack
	var err error
	member.envoyConfig, err = envoy.GatewayBootstrap{NodeID: id, XDS: servers, Admin: "127.0.0.1:0"}.JSON()
	if err != nil {
		f.t.Fatal(err)
	}
	member.startEnvoy()
	return &member
}

// probes are connections to one gateway, enough of them that each of its workers has some.
type probes struct {
	gateway string
	clients []*http.Client
}

const probeConnections = 12

func newProbes(s *stack) *probes {
	p := &probes{gateway: s.gateway}
	for range probeConnections {
		p.clients = append(p.clients, newClient(false))
	}
	p.agree(s.t, "")
	active := regexp.MustCompile(`worker_\d\.downstream_cx_active: [1-9]`)
	workers := active.FindAllString(get(s.t, "http://"+s.envoy.Admin()+"/stats?filter=listener.*worker_.*downstream_cx_active"), -1)
	if len(workers) != 2 {
		s.t.Fatalf("connections to %v, not to both workers", workers)
	}
	return p
}

// agree waits until every connection gets this answer to the probe, or any if it is empty, and returns how long that took.
func (p *probes) agree(t testing.TB, want string) time.Duration {
	t.Helper()
	began := time.Now()
	for _, client := range p.clients {
		for {
			r := request{path: "/probe"}
			status, text, err := r.text(t, client, p.gateway)
			if err != nil || status != http.StatusOK {
				t.Fatalf("probe: %d %s %v", status, text, err)
			}
			if want == "" || text == want {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("still %q after %v, want %q", text, patience, want)
			}
			time.Sleep(2 * time.Millisecond) // nothing announces it
		}
	}
	return time.Since(began)
}

// TestGroupsChangeUnderLoad changes the routes of two groups in turn, each time waits until every worker has the change, and
// has all requests of both answered meanwhile.
func TestGroupsChangeUnderLoad(t *testing.T) {
	changes := 100
	if *long {
		changes = 500
	}
	groups := []string{"shop", "api"}
	f := newFleet(t, groups...)
	server := xdsAddress(f.serve("127.0.0.1:0", "--state", "off"))
	members, connections, traffics := map[string]*stack{}, map[string]*probes{}, map[string]*traffic{}
	for _, g := range groups {
		members[g] = f.join(g+"-1", server)
		connections[g] = newProbes(members[g])
		traffics[g] = startTraffic(t, members[g].base, "/leads", 4, 10*time.Millisecond, 10_000)
	}
	var took []time.Duration
	for n := range changes {
		g := groups[n%2]
		f.write(g, n+1)
		took = append(took, connections[g].agree(t, fmt.Sprint(g, " ", n+1)))
	}
	last := map[string]int{groups[(changes-2)%2]: changes - 1, groups[(changes-1)%2]: changes}
	slices.Sort(took)
	p99 := took[(len(took)*99+99)/100-1]
	t.Logf("%d changes, each active on all workers after %v (median), %v (p99), %v at most", changes, took[len(took)/2], p99, took[len(took)-1])
	if p99 > time.Second {
		t.Errorf("p99 of the changes is %v", p99)
	}
	answers := map[string][]answer{}
	for _, g := range groups {
		connections[g].agree(t, fmt.Sprint(g, " ", last[g])) // and not the other group's
		answers[g] = traffics[g].end()
		allAnswered(t, answers[g])
	}
	for _, g := range groups {
		members[g].settled()
		if o := verify(t, f.kafka, "leads-"+g, "/leads", answers[g], 10_000); o.repeats > 0 {
			t.Errorf("%s: %d repeats", g, o.repeats)
		}
		t.Logf("%s: %d requests, all answered", g, len(answers[g]))
	}
}

// TestServersStandInForEachOther takes one of two xDS servers away, restarts an Envoy, changes the routes, and does the same
// the other way round.
func TestServersStandInForEachOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "shop")
	first, second := f.serve("127.0.0.1:0", "--name", "first", "--state", "off"), f.serve("127.0.0.1:0", "--name", "second", "--state", "off")
	addresses := []string{xdsAddress(first), xdsAddress(second)}
	version := func(server *process) string { // what a server serves, whether or not there is an Envoy to say that it is good
		status := get(t, "http://"+xdsAdmin(server)+"/status")
		found := regexp.MustCompile(`"(good|candidate)": ?"([0-9a-f]{16})"`).FindStringSubmatch(status)
		if found == nil {
			t.Fatalf("no version in %s", status)
		}
		return found[2]
	}
	s := f.join("shop-1", addresses...)
	answers := startTraffic(t, s.base, "/leads", 2, 10*time.Millisecond, 1000)
	answers.flows(t, 20)
	s.eventually("both serve the same version", func() bool { return version(first) == version(second) })

	first.kill()
	f.write("shop", 1)
	newProbes(s).agree(t, "shop 1")
	time.Sleep(lasting(time.Minute, time.Second)) // is the outage
	allAnswered(t, answers.end())
	if err := s.envoy.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.startEnvoy() // where the routes come from the second server alone
	newProbes(s).agree(t, "shop 1")

	first = f.serve(addresses[0], "--name", "first", "--state", "off")
	xdsAddress(first)
	s.eventually("both serve the same version again", func() bool { return version(first) == version(second) })
	answers = startTraffic(t, s.base, "/leads", 2, 10*time.Millisecond, 1000)
	second.kill()
	f.write("shop", 2)
	newProbes(s).agree(t, "shop 2")
	answers.flows(t, 20)
	allAnswered(t, answers.end())
}

// TestARejectedChangeIsRolledBack lets one of two Envoys be the canary of a change that it rejects, and then of a good one.
func TestARejectedChangeIsRolledBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "shop")
	module := filepath.Join(f.dir, "crowd.wasm")
	data, err := os.ReadFile(absolute(t, crowdModule))
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, module, string(data))
	flags := []string{"--filter", module, "--canary", "50%", "--canary-hold", "1s", "--state", filepath.Join(f.dir, "state")}
	server := f.serve("127.0.0.1:0", flags...)
	address, admin := xdsAddress(server), xdsAdmin(server)
	status := func(want ...string) string {
		t.Helper()
		var p *process
		f.eventually(fmt.Sprintf("the status says %q", want), func() bool {
			p = crowd(t, "xds", "status", "--admin", admin)
			p.succeed()
			return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(p.out.String(), part) })
		})
		return p.out.String()
	}
	var all []*probes
	var traffics []*traffic
	for _, id := range []string{"shop-1", "shop-2"} {
		s := f.join(id, address)
		all = append(all, newProbes(s))
		traffics = append(traffics, startTraffic(t, s.base, "/leads", 2, 10*time.Millisecond, 1000))
	}

	if err := os.Rename(module, module+".away"); err != nil { // Envoys read it with every change
		t.Fatal(err)
	}
	f.write("shop", 1)
	status("shop", "crowd.wasm", "ecds")
	for _, p := range all {
		p.agree(t, "shop 0")
	}
	if err := os.Rename(module+".away", module); err != nil {
		t.Fatal(err)
	}
	f.write("shop", 2)
	for _, p := range all {
		p.agree(t, "shop 2")
	}
	t.Log(status("shop-1", "shop-2"))
	for _, tr := range traffics {
		allAnswered(t, tr.end())
	}

	// What the rollout ended with outlives a restart over a broken file.
	server.stop()
	replaceFile(t, filepath.Join(f.dir, "shop.yaml"), "routes: [")
	server = f.serve(address, flags...)
	server.waitFor(`shop.yaml:\d+:\d+: not YAML`)
	if text := get(t, "http://"+xdsAdmin(server)+"/metrics"); !strings.Contains(text, `crowd_xds_config_valid{group="shop"} 0`) {
		t.Error("the broken file is not in the metrics")
	}
	newProbes(f.join("shop-3", address)).agree(t, "shop 2")
}
