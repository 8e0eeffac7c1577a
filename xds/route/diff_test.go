package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	document := func(change func(*Config)) Config {
		c := Config{Defaults: Policy{Topic: "t"}, Routes: []Route{
			{Name: "a", Match: Match{Path: "/a"}},
			{Name: "b", Match: Match{Path: "/b"}},
			{Name: "c", Match: Match{Path: "/c"}},
		}}
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   []Change
	}{
		"nothing": {func(*Config) {}, nil},
		"defaults written out": {func(c *Config) {
			c.Uplink.Streams, c.Defaults.Ack, c.Routes[0].Topic = DefaultStreams, LevelMemory, "t"
		}, nil},
		"uplink": {func(c *Config) { c.Uplink.Streams = 3 }, []Change{{Changed, "", "uplink.streams", "2", "3"}}},
		"a default of all": {func(c *Config) { c.Defaults.Ack = LevelDisk }, []Change{
			{Changed, "a", "ack", `"memory"`, `"disk"`}, {Changed, "b", "ack", `"memory"`, `"disk"`}, {Changed, "c", "ack", `"memory"`, `"disk"`},
		}},
		"fields": {func(c *Config) {
			c.Routes[1].Match = Match{Prefix: "/b", Methods: []string{"POST"}}
			c.Routes[1].RateLimit = &TokenBucket{MaxTokens: 2, FillInterval: 1e9}
		}, []Change{
			{Changed, "b", "match.methods", "", `["POST"]`}, {Changed, "b", "match.path", `"/b"`, ""}, {Changed, "b", "match.prefix", "", `"/b"`},
			{Changed, "b", "rate_limit.fill_interval", "", `"1s"`}, {Changed, "b", "rate_limit.max_tokens", "", "2"},
			{Changed, "b", "rate_limit.tokens_per_fill", "", "1"},
		}},
		"characters of HTML": {func(c *Config) { c.Routes[0].Match.Path = "/<&>" }, []Change{{Changed, "a", "match.path", `"/a"`, `"/<&>"`}}},
		"added and removed": {func(c *Config) {
			c.Routes = append([]Route{{Name: "new", Match: Match{Path: "/new"}}}, c.Routes[1:]...)
		}, []Change{{Kind: Added, Route: "new", After: "1"}, {Kind: Removed, Route: "a", Before: "1"}}},
		"moved": {func(c *Config) { slices.Reverse(c.Routes[:2]) }, []Change{{Kind: Moved, Route: "b", Before: "2", After: "1"}}},
		"to the front": {func(c *Config) {
			c.Routes = []Route{c.Routes[2], c.Routes[0], c.Routes[1]}
		}, []Change{{Kind: Moved, Route: "c", Before: "3", After: "1"}}},
		"an answer means nothing to a mirror": {func(c *Config) {
			c.Defaults.Mode, c.Defaults.Ack, c.Defaults.Answer = ModeMirror, LevelDisk, &Answer{Status: 201}
			c.Routes = c.Routes[:1]
		}, []Change{
			{Changed, "a", "ack", `"memory"`, ""}, {Changed, "a", "ack_timeout", `"5s"`, ""},
			{Changed, "a", "answer.body", `"{\"status\":\"OK\"}"`, ""}, {Changed, "a", "answer.content_type", `"application/json;charset=UTF-8"`, ""},
			{Changed, "a", "answer.status", "200", ""}, {Changed, "a", "mode", `"absorb"`, `"mirror"`},
			{Kind: Removed, Route: "b", Before: "2"}, {Kind: Removed, Route: "c", Before: "3"},
		}},
	} {
		if diff := cmp.Diff(test.want, Diff(document(func(*Config) {}), document(test.change))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What moved, taken out and put where it is now, is all there is to two orders of the same routes.
func TestDiffOfOrders(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		c := Config{Routes: []Route{}}
		for i := range random.IntN(12) {
			c.Routes = append(c.Routes, Route{Name: fmt.Sprint(i), Match: Match{Path: "/"}, Policy: Policy{Topic: "t"}})
		}
		shuffled := Config{Routes: slices.Clone(c.Routes)}
		random.Shuffle(len(c.Routes), func(i, j int) {
			shuffled.Routes[i], shuffled.Routes[j] = shuffled.Routes[j], shuffled.Routes[i]
		})
		moved := map[string]bool{}
		for _, change := range Diff(c, shuffled) {
			if change.Kind != Moved {
				t.Fatalf("%+v", change)
			}
			moved[change.Route] = true
		}
		stayed := func(c Config) (names []string) {
			for _, r := range c.Routes {
				if !moved[r.Name] {
					names = append(names, r.Name)
				}
			}
			return names
		}
		if diff := cmp.Diff(stayed(c), stayed(shuffled)); diff != "" {
			t.Fatalf("what did not move has another order (-before +after):\n%s", diff)
		}
	}
}
