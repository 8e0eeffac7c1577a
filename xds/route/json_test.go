package route

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// full has every field of the language.
const full = `{
	"uplink": {
		"cluster": "outbound|9001||collector.crowd", "streams": 3, "spool": "on",
		"max_buffer_bytes": "128MiB", "max_batch_bytes": 65536, "unreachable_timeout": "1m0s"
	},
	"defaults": {
		"mode": "absorb", "topic": "all", "key": "all", "ack": "disk", "ack_timeout": "10s", "max_body": "2MiB",
		"answer": {"status": 202, "body": "", "content_type": "text/plain", "headers": []},
		"record_headers": {"deny": []}, "sample": "50%", "rate_limit": {"max_tokens": 1, "fill_interval": "1s"}
	},
	"routes": [{
		"name": "orders",
		"match": {
			"path": "/orders", "hosts": ["*.shop.example"], "methods": ["POST"],
			"headers": [
				{"name": "a", "exact": ""}, {"name": "b", "prefix": "x"}, {"name": "c", "safe_regex": "[0-9]+"},
				{"name": "d", "present": false}, {"name": "e"}
			],
			"query_parameters": [{"name": "p", "exact": "1"}]
		},
		"topic": "orders", "key": "%REQ(x-customer)%", "ack": "kafka", "ack_timeout": "1m30s", "max_body": 512,
		"answer": {"status": 200, "body": "ok", "headers": [{"name": "location", "value": "/orders/%RECORD_ID%"}]},
		"record_headers": {"allow": ["x-*"], "deny": ["x-secret"]}, "sample": "0%",
		"rate_limit": {"max_tokens": 100, "tokens_per_fill": 10, "fill_interval": "100ms"}
	}, {
		"name": "copies", "match": {"path_template": "/shops/{shop}/**"}, "mode": "mirror"
	}]
}`

func TestParseJSON(t *testing.T) {
	got, err := ParseJSON([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Uplink: Uplink{
			Cluster: "outbound|9001||collector.crowd", Streams: 3, Spool: SpoolOn,
			MaxBufferBytes: 128 << 20, MaxBatchBytes: 64 << 10, UnreachableTimeout: 60e9,
		},
		Defaults: Policy{
			Mode: ModeAbsorb, Topic: "all", Key: "all", Ack: LevelDisk, AckTimeout: 10e9, MaxBody: 2 << 20,
			Answer:        &Answer{Status: 202, Body: new(""), ContentType: "text/plain", Headers: []AnswerHeader{}},
			RecordHeaders: RecordHeaders{Deny: []string{}}, Sample: new(Percent(500_000)),
			RateLimit: &TokenBucket{MaxTokens: 1, FillInterval: 1e9},
		},
		Routes: []Route{{
			Name: "orders",
			Match: Match{
				Path: "/orders", Hosts: []string{"*.shop.example"}, Methods: []string{"POST"},
				Headers: []ValueMatch{
					{Name: "a", Exact: new("")},
					{Name: "b", Prefix: new("x")},
					{Name: "c", SafeRegex: new("[0-9]+")},
					{Name: "d", Present: new(false)},
					{Name: "e"},
				},
				QueryParameters: []ValueMatch{{Name: "p", Exact: new("1")}},
			},
			Policy: Policy{
				Topic: "orders", Key: "%REQ(x-customer)%", Ack: LevelKafka, AckTimeout: 90e9, MaxBody: 512,
				Answer:        &Answer{Status: 200, Body: new("ok"), Headers: []AnswerHeader{{"location", "/orders/%RECORD_ID%"}}},
				RecordHeaders: RecordHeaders{Allow: []string{"x-*"}, Deny: []string{"x-secret"}}, Sample: new(Percent(0)),
				RateLimit: &TokenBucket{MaxTokens: 100, TokensPerFill: 10, FillInterval: 100e6},
			},
		}, {
			Name: "copies", Match: Match{PathTemplate: "/shops/{shop}/**"}, Policy: Policy{Mode: ModeMirror},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkRoundTrip(t, got)
}

// checkRoundTrip checks that a document which was read is the same after writing and reading it again.
func checkRoundTrip(t *testing.T, c Config) {
	t.Helper()
	written, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseJSON(written)
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("after writing and reading (-first +second):\n%s", diff)
	}
}

func TestParseJSONErrors(t *testing.T) {
	for document, want := range map[string][]string{
		"":                      {"the document is empty (allowed: uplink, defaults, routes)"},
		" \n":                   {"the document is empty (allowed: uplink, defaults, routes)"},
		"null":                  {"the document is empty (allowed: uplink, defaults, routes)"},
		"{}":                    {"routes: is missing (allowed: a list of routes, [] for none)"},
		"[]":                    {"is a list (allowed: a group of fields: uplink, defaults, routes)"},
		`{"routes":[]`:          {"read routes as JSON: jsontext: unexpected EOF after offset 12"},
		`{"routes":[]} {}`:      {"read routes as JSON: byte 15: something follows the document"},
		"{\"routes\":\"\xff\"}": {"read routes as JSON: jsontext: invalid UTF-8 within \"/routes\" after offset 11"},
		strings.Repeat("[", 40) + strings.Repeat("]", 40): {"read routes as JSON: nested deeper than 32"},
		`{"Routes":[]}`: {
			"Routes: unknown field, did you mean routes? (allowed: uplink, defaults, routes)",
		},
		`{"routes":[],"routes":[]}`: {"routes: is given twice (allowed: once)"},
		`{"routes":[{"name":"a","match":{"path":"/a"},"topic":"t","max_body":1.5,"answer":{"status":2e2}}], "uplink": null}`: {
			`routes[0].max_body: "1.5" is not a size (allowed: bytes, or a whole number with KiB, MiB, GiB, KB, MB or GB)`,
			`routes[0].answer.status: "2e2" is not a whole number (allowed: digits)`,
		},
		`{"routes":[{"match":{"path":"a","x\n":1}}]}`: {
			`routes[0].match."x\n": unknown field (allowed: path, prefix, path_template, safe_regex, hosts, methods, headers, query_parameters)`,
			"routes[0].name: is missing (allowed: a name of its own for each route)",
			`routes[0].match.path: "a" is not a path (allowed: to begin with /)`,
			"routes[0].topic: is missing (allowed: the name of a Kafka topic, here or in defaults)",
		},
	} {
		_, err := ParseJSON([]byte(document))
		if err == nil {
			t.Errorf("%q: no error", document)
			continue
		}
		if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", document, diff)
		}
	}
}

// Mistakes by the hundred thousand are found in seconds, where comparing each with all others takes minutes.
func TestManyMistakes(t *testing.T) {
	const many = 200_000
	var fields, routes strings.Builder
	for i := range many {
		fmt.Fprintf(&fields, `"f%d":1,`, i)
	}
	for i := range many / 40 {
		fmt.Fprintf(&routes, `,{"name":"%d","match":{"path":"/"},"record_headers":{"allow":["a"]}}`, i)
	}
	denied := strings.Repeat(`"x",`, many)
	for name, document := range map[string]string{
		"fields":  "{" + fields.String() + `"routes":[]}`,
		"headers": `{"defaults":{"topic":"t","record_headers":{"deny":[` + denied + `"x"]}},"routes":[` + routes.String()[1:] + "]}",
	} {
		began := time.Now()
		if _, err := ParseJSON([]byte(document)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, document := range []string{"", "null", "{}", full,
		`{"uplink":{"spool":"off"},"defaults":{"ack":"disk","ack_timeout":"2h"},"routes":[]}`,
		`{"routes":[{"name":7,"name":"a"}],"x":[{}]}`} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := ParseJSON(document)
		if err != nil {
			return
		}
		table, err := Compile(c)
		if err != nil {
			t.Fatalf("read and not compiled: %v", err)
		}
		for _, route := range c.Routes {
			r := Request{Method: "POST", Authority: "a.b:80", Path: route.Match.Path + route.Match.Prefix + route.Match.PathTemplate}
			taken := slices.ContainsFunc(table.Explain(&r), Step.Takes)
			if rule := table.Match(&r); taken && rule == nil {
				t.Errorf("%s is explained to be taken, and is not", r.Path)
			}
		}
		c.Warnings()
		checkRoundTrip(t, c)
	})
}
