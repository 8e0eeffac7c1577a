package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/xds/route/routefile"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(JSON))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("routes", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("routes")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check returns what the schema says of a YAML document.
func check(t *testing.T, s *jsonschema.Schema, document []byte) error {
	t.Helper()
	var value any
	if err := yaml.Load(document, &value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(instance)
}

// everything has each field of the language.
const everything = `
uplink: {cluster: c, streams: 2, spool: off, max_buffer_bytes: 64MiB, max_batch_bytes: 65536, unreachable_timeout: 1m30s}
defaults: {mode: absorb, topic: t, key: "%REQ(x-a)%", ack: kafka, ack_timeout: 2s, max_body: 1MiB, sample: 99.5%,
  answer: {status: 202, body: "%RECORD_ID%", content_type: text/plain, headers: [{name: x-id, value: "%RECORD_ID%"}]},
  record_headers: {allow: ["*"], deny: []}, rate_limit: {max_tokens: 10, tokens_per_fill: 5, fill_interval: 1s}}
routes:
  - {name: a, match: {path: /a, hosts: ["*.a"], methods: [POST], headers: [{name: x, exact: ""}, {name: y, prefix: z}]}}
  - {name: b, match: {prefix: /b, query_parameters: [{name: q, safe_regex: ".*"}, {name: r, present: false}]}, mode: mirror}
  - {name: c, match: {path_template: "/c/{d}"}, sample: 0%}
  - {name: d, match: {safe_regex: "/d+"}, topic: u, ack: memory}
`

func TestSchemaTakesWhatCrowdTakes(t *testing.T) {
	s := compiled(t)
	quickstart, err := os.ReadFile("../../../examples/quickstart/routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, document := range map[string][]byte{
		"quickstart": quickstart, "everything": []byte(everything), "nothing": []byte("routes: []"),
	} {
		config, err := routefile.Parse(routefile.File{Name: name, Text: document})
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, s, document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		written, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, s, written); err != nil {
			t.Errorf("%s, as the filter gets it: %v", name, err)
		}
	}
}

// All spellings of a number with a unit that crowd takes, and no others.
func TestSchemaSpellings(t *testing.T) {
	s := compiled(t)
	for field, texts := range map[string][]string{
		"sample":      {"0%", "100%", "100.0000%", "100.0001%", "101%", "99.9999%", "99.99999%", "10.%", "007%", ".5%", "-1%", "+1%", "1e1%", "10", "%"},
		"ack_timeout": {"1s", "1.5m", "1.h", ".5s", "+5s", "-5s", "1m30s", "1h1", "1", "5µs", "5μs", "1d", "1 s", "."},
		"max_body":    {"1", "512", "64KiB", "1MB", "1.5MiB", "1mib", "1 MiB", "+1", "0x1"},
	} {
		for _, text := range texts {
			document := []byte(`routes: [{name: a, match: {path: /a}, topic: t, ` + field + `: "` + text + `"}]`)
			_, refused := routefile.Parse(routefile.File{Name: "f", Text: document})
			if err := check(t, s, document); (err == nil) != (refused == nil) {
				t.Errorf("%s %q: the schema says %v, crowd %v", field, text, err, refused)
			}
		}
	}
}

// What is wrong in shape, each alone, must not pass: an editor has to show it.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for name, document := range map[string]string{
		"unknown field":      `routes: [{name: a, match: {path: /a}, topics: t}]`,
		"no name":            `routes: [{match: {path: /a}, topic: t}]`,
		"no match":           `routes: [{name: a, topic: t}]`,
		"no path":            `routes: [{name: a, match: {methods: [GET]}, topic: t}]`,
		"two paths":          `routes: [{name: a, match: {path: /a, prefix: /a}, topic: t}]`,
		"relative path":      `routes: [{name: a, match: {path: a}, topic: t}]`,
		"method":             `routes: [{name: a, match: {path: /a, methods: [post]}, topic: t}]`,
		"two conditions":     `routes: [{name: a, match: {path: /a, headers: [{name: x, exact: a, prefix: a}]}, topic: t}]`,
		"level":              `routes: [{name: a, match: {path: /a}, topic: t, ack: tape}]`,
		"mode":               `routes: [{name: a, match: {path: /a}, topic: t, mode: copy}]`,
		"size":               `routes: [{name: a, match: {path: /a}, topic: t, max_body: 1 MB}]`,
		"duration":           `routes: [{name: a, match: {path: /a}, topic: t, ack_timeout: 5}]`,
		"share":              `routes: [{name: a, match: {path: /a}, topic: t, sample: 101%}]`,
		"status":             `routes: [{name: a, match: {path: /a}, topic: t, answer: {status: 404}}]`,
		"bucket":             `routes: [{name: a, match: {path: /a}, topic: t, rate_limit: {max_tokens: 5}}]`,
		"streams":            `{routes: [], uplink: {streams: 9}}`,
		"routes by name":     `routes: {a: {match: {path: /a}, topic: t}}`,
		"name of a route":    `routes: [{name: "a b", match: {path: /a}, topic: t}]`,
		"an unknown default": `{routes: [], defaults: {name: a}}`,
	} {
		if err := check(t, s, []byte(document)); err == nil {
			t.Errorf("%s passes: %s", name, document)
		}
		if _, err := routefile.Parse(routefile.File{Name: "f", Text: []byte(document)}); err == nil {
			t.Errorf("%s is no mistake: %s", name, document)
		}
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	var document struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(JSON, &document); err != nil {
		t.Fatal(err)
	}
	fields := 0
	for of, definition := range document.Defs {
		for name, field := range definition.Properties {
			fields++
			if field.Description == "" {
				t.Errorf("%s.%s has no description", of, name)
			}
		}
	}
	if fields < 40 {
		t.Errorf("only %d fields in %d groups", fields, len(document.Defs))
	}
}
