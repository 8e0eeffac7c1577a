package xds_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/xds"
)

// bootstrap is one as JSON.
type bootstrap []byte

func (b bootstrap) JSON() ([]byte, error) { return b, nil }

// gateway is the bootstrap of a gateway that speaks a variant of the protocol, and with own gets its listeners and
// clusters from services of their own. What those refer to comes over ADS; so there is a listener and a cluster besides
// that ask services of their own for routes, filter and endpoints.
func gateway(t *testing.T, c control, node, apiType string, own bool) bootstrap {
	t.Helper()
	text, err := envoy.GatewayBootstrap{NodeID: node, XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	dynamic := doc["dynamicResources"].(map[string]any)
	dynamic["adsConfig"].(map[string]any)["apiType"] = apiType
	if own {
		source := map[string]any{
			"resource_api_version": "V3",
			"api_config_source": map[string]any{
				"api_type": apiType, "transport_api_version": "V3",
				"grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "crowd_xds"}}},
			},
		}
		dynamic["ldsConfig"], dynamic["cdsConfig"] = source, source
		static := doc["staticResources"].(map[string]any)
		static["clusters"] = append(static["clusters"].([]any), map[string]any{
			"name": "own", "type": "EDS",
			"eds_cluster_config": map[string]any{"service_name": "crowd_collector", "eds_config": source},
		})
		static["listeners"] = []any{map[string]any{
			"name":    "own",
			"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}},
			"filter_chains": []any{map[string]any{"filters": []any{map[string]any{
				"name": "http",
				"typed_config": map[string]any{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
					"stat_prefix": "own",
					"rds":         map[string]any{"route_config_name": "crowd_gateway_routes", "config_source": source},
					"http_filters": []any{
						map[string]any{"name": "crowd", "config_discovery": map[string]any{
							"config_source": source,
							"type_urls":     []any{"type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"},
						}},
						map[string]any{"name": "router", "typed_config": map[string]any{
							"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
						}},
					},
				},
			}}}},
		}}
	}
	if text, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return text
}

// stats returns the sum of each counter of Envoy's whose name a pattern matches.
func stats(t *testing.T, p *envoy.Process, patterns ...string) map[string]int {
	t.Helper()
	_, body := get(t, "http://"+p.Admin()+"/stats")
	sums := map[string]int{}
	for _, pattern := range patterns {
		sums[pattern] = 0
		for _, match := range regexp.MustCompile(`(?m)^(?:`+pattern+`): (\d+)$`).FindAllStringSubmatch(body, -1) {
			n, err := strconv.Atoi(match[1])
			if err != nil {
				t.Fatal(err)
			}
			sums[pattern] += n
		}
	}
	return sums
}

// awaitStatus waits until the server says so.
func (c control) awaitStatus(t *testing.T, what string, holds func(xds.Status) bool) xds.Status {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		status := c.Status()
		if holds(status) {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %s: %+v", what, status)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// quiet says that so many nodes have what they are to have, and no rollout is under way.
func quiet(nodes int) func(xds.Status) bool {
	return func(s xds.Status) bool {
		for _, n := range s.Nodes {
			if n.Wanted == "" || n.Acknowledged != n.Wanted {
				return false
			}
		}
		return len(s.Nodes) == nodes && s.Groups[0].Candidate == ""
	}
}

// The real Envoy takes all types over every variant of the protocol, and follows changes.
func TestProtocols(t *testing.T) {
	for _, variant := range []struct {
		name, apiType string
		own           bool
	}{
		{"state of the world over ADS", "GRPC", false},
		{"delta over ADS", "DELTA_GRPC", false},
		{"state of the world over services of their own", "GRPC", true},
		{"delta over services of their own", "DELTA_GRPC", true},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, xds.Config{Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"}})
			p, _ := start(t, gateway(t, c, "gateway", variant.apiType, variant.own), xds.GatewayListener)
			first := c.awaitStatus(t, "quiet", quiet(1)).Groups[0].Good

			counters := map[string]int{
				`listener_manager\.lds\.update_success`:                                         1,
				`cluster_manager\.cds\.update_success`:                                          1,
				`cluster\.crowd_collector\.update_success`:                                      1,
				`http\.crowd_gateway\.rds\.crowd_gateway_routes\.update_success`:                1,
				`.*extension_config_discovery.*crowd.*\.config_reload`:                          1,
				`.*(?:update_rejected|config_fail|config_conflict|update_failure|init_timeout)`: 0,
			}
			if variant.own {
				counters[`cluster\.own\.update_success`] = 1
				counters[`http\.own\.rds\.crowd_gateway_routes\.update_success`] = 1
			}
			var patterns []string
			for pattern := range counters {
				patterns = append(patterns, pattern)
			}
			for pattern, n := range stats(t, p, patterns...) {
				if (n > 0) != (counters[pattern] > 0) {
					t.Errorf("%s: %d", pattern, n)
				}
			}

			write(t, c.routes, track)
			second := c.awaitStatus(t, "at the second version", func(s xds.Status) bool {
				return quiet(1)(s) && s.Groups[0].Good != first
			})
			if got := filterNames(t, p); got != "track" && got != "track track" {
				t.Errorf("%q after a change of which the server says %+v", got, second)
			}
		})
	}
}

var routeNames = regexp.MustCompile(`\\"routes\\":\[\{\\"name\\":\\"(\w+)`)

// filterNames are the names of the routes in all of Envoy's filters, by its own account.
func filterNames(t *testing.T, p *envoy.Process) string {
	t.Helper()
	_, body := get(t, "http://"+p.Admin()+"/config_dump?resource=ecds_filters")
	var names []string
	for _, match := range routeNames.FindAllStringSubmatch(body, -1) {
		names = append(names, match[1])
	}
	return strings.Join(names, " ")
}

// What a canary rejects the others never get; the next change goes first to the canary and then to all.
func TestACanaryThatRejects(t *testing.T) {
	for _, apiType := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(apiType, func(t *testing.T) {
			t.Parallel()
			canaryRejects(t, apiType)
		})
	}
}

func canaryRejects(t *testing.T, apiType string) {
	c := serve(t, xds.Config{
		Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"},
		Name: "server-1", CanaryPercent: 33, CanaryHold: 300 * time.Millisecond,
	})
	envoys := map[string]*envoy.Process{}
	for _, id := range []string{"edge-0", "edge-1", "edge-2"} {
		envoys[id], _ = start(t, gateway(t, c, id, apiType, false), xds.GatewayListener)
	}
	good := c.awaitStatus(t, "quiet", quiet(3)).Groups[0].Good
	const taken = `.*extension_config_discovery.*crowd.*\.config_reload`
	before := map[string]int{}
	for id, p := range envoys {
		before[id] = stats(t, p, taken)[taken]
	}

	if err := os.Rename(c.filter, c.filter+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, c.routes, track)
	c.awaitLog(t, "rolled back")
	status := c.awaitStatus(t, "quiet", quiet(3))
	group := status.Groups[0]
	if group.Good != good || group.Stage != "rolled_back" || group.Rejection == nil ||
		group.Rejection.Type != "ecds" || !strings.Contains(group.Rejection.Reason, c.filter) {
		t.Fatalf("%+v, rejection %+v", group, group.Rejection)
	}
	for _, n := range status.Nodes {
		rejects := n.ID == group.Rejection.Node
		if n.Canary != rejects || len(n.Rejections) > 0 != rejects || n.Acknowledged != good {
			t.Errorf("%s rejected; status %+v", group.Rejection.Node, n)
		}
		p := envoys[n.ID]
		if got := filterNames(t, p); got != "leads" {
			t.Errorf("%s has %q", n.ID, got)
		}
		const refused = `.*extension_config_discovery.*crowd.*\.config_fail`
		if got := stats(t, p, taken, refused); !rejects && got[taken] != before[n.ID] || (got[refused] > 0) != rejects {
			t.Errorf("%s took and refused %v, before it had taken %d", n.ID, got, before[n.ID])
		}
	}
	said, err := xds.FetchStatus(t.Context(), c.AdminAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := xds.WriteStatus(&table, []xds.Status{said}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rolled back", "node " + group.Rejection.Node + ": ecds of " + group.Rejection.Version, "Invalid path: " + c.filter} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the status does not say %q:\n%s", want, table.String())
		}
	}

	if err := os.Rename(c.filter+".away", c.filter); err != nil {
		t.Fatal(err)
	}
	write(t, c.routes, `routes: [{name: next, match: {path: /next}, topic: next}]`)
	status = c.awaitStatus(t, "at the next version", func(s xds.Status) bool { return quiet(3)(s) && s.Groups[0].Good != good })
	for id, p := range envoys {
		if got := filterNames(t, p); got != "next" {
			t.Errorf("%s has %q", id, got)
		}
	}
	for _, n := range status.Nodes {
		if len(n.Rejections) > 0 {
			t.Errorf("%+v", n)
		}
	}
}
