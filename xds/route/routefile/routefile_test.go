package routefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marceloboeira/crowd/xds/route"
)

const quickstart = "../../../examples/quickstart/routes.yaml"

func TestQuickstart(t *testing.T) {
	c, err := Load(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Read(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	if _, warnings, _ := Check(files...); warnings != nil {
		t.Errorf("warnings: %v", warnings)
	}
	table, err := route.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	shop := [][2]string{{"x-customer", "42"}, {"x-api-version", "2"}}
	for _, test := range []struct {
		request   route.Request
		name, key string
		status    int
	}{
		{route.Request{Method: "POST", Path: "/leads?a=b"}, "leads", "", 200},
		{route.Request{Method: "GET", Path: "/track/a.gif"}, "tracking", "", 200},
		{route.Request{Method: "POST", Path: "/track/"}, "tracking", "", 200},
		{route.Request{Method: "POST", Path: "/orders", Authority: "shop.example:8080", Headers: shop}, "orders", "42", 202},
		{route.Request{Method: "POST", Path: "/orders", Authority: "eu.shop.example", Headers: shop}, "orders", "42", 202},
	} {
		rule := table.Match(&test.request)
		if rule == nil {
			t.Errorf("%+v takes no route", test.request)
			continue
		}
		key := string(rule.Key(&test.request))
		if rule.Name != test.name || rule.Topic != test.name || key != test.key || rule.Status != test.status {
			t.Errorf("%+v: route %s, topic %s, key %q, status %d", test.request, rule.Name, rule.Topic, key, rule.Status)
		}
	}
	for _, request := range []route.Request{
		{Method: "GET", Path: "/leads"},
		{Method: "POST", Path: "/orders", Authority: "shop.example"},
	} {
		if rule := table.Match(&request); rule != nil {
			t.Errorf("%+v takes %s", request, rule.Name)
		}
	}
}

// The example writes the defaults out and says that they are: they must be.
func TestQuickstartWritesTheDefaultsOut(t *testing.T) {
	c, err := Load(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	want := route.Config{
		Uplink: route.Uplink{
			Cluster:            route.DefaultCluster,
			Streams:            route.DefaultStreams,
			Spool:              route.DefaultSpool,
			MaxBufferBytes:     route.DefaultMaxBufferBytes,
			MaxBatchBytes:      route.DefaultMaxBatchBytes,
			UnreachableTimeout: route.DefaultUnreachableTimeout,
		},
		Defaults: route.Policy{
			Mode:       route.DefaultMode,
			Ack:        route.LevelMemory,
			AckTimeout: route.DefaultAckTimeout,
			MaxBody:    route.DefaultMaxBody,
			Answer: &route.Answer{
				Status:      route.DefaultAnswerStatus,
				Body:        new(route.DefaultAnswerBody),
				ContentType: route.DefaultContentType,
			},
			RecordHeaders: route.RecordHeaders{Deny: route.DefaultDeny()},
		},
		Routes: c.Routes,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The plugin configuration, which is JSON, loads from a file as the YAML that it came from.
func TestJSONIsYAML(t *testing.T) {
	want, err := Load(quickstart)
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.MarshalIndent(want, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, written, 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := route.ParseJSON(written)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]route.Config{"Load": fromFile, "ParseJSON": fromJSON} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWarnings(t *testing.T) {
	const document = `
routes:
  - name: all
    match: {prefix: /}
    topic: t
  - name: leads
    topic: t
    match:
      path: /leads
`
	var got []string
	_, warnings, err := Check(File{"routes.yaml", []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	for _, warning := range warnings {
		got = append(got, warning.Error())
	}
	want := []string{"routes.yaml:9:7: routes[1].match: never matches: routes[0] (all) comes before it and takes all that it would"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, got, _ := Check(File{"routes.yaml", []byte("routes: 1")}); got != nil {
		t.Errorf("warnings of what is refused: %v", got)
	}
}

// YAML 1.1 has off for false, and people leave its quotes away.
func TestOffIsText(t *testing.T) {
	for text, want := range map[string]route.Spool{
		"on": route.SpoolOn, "off": route.SpoolOff, `"off"`: route.SpoolOff, "'on'": route.SpoolOn, "!!str off": route.SpoolOff,
	} {
		c, err := Parse(File{"routes.yaml", []byte("uplink: {spool: " + text + "}\nroutes: []\n")})
		if err != nil || c.Uplink.Spool != want {
			t.Errorf("%s is %q, error %v; want %q", text, c.Uplink.Spool, err, want)
		}
	}
}

func TestAliases(t *testing.T) {
	const document = `
routes:
  - name: a
    match: &match {path: /a, hosts: &hosts [a.example, b.example]}
    topic: t
  - name: b
    match: {path: /b, hosts: *hosts}
    topic: t
`
	c, err := Parse(File{"routes.yaml", []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Routes[0].Match.Hosts, c.Routes[1].Match.Hosts); diff != "" {
		t.Errorf("(-anchor +alias):\n%s", diff)
	}
}

// TestTextOfAliases has a text of 1 MiB stand in a document 17 times.
func TestTextOfAliases(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "defaults: {topic: t, answer: {body: &b %q}}\nroutes:\n", strings.Repeat("x", 1<<20))
	for i := range 16 {
		fmt.Fprintf(&b, "  - {name: r%d, match: {path: /%d}, answer: {body: *b}}\n", i, i)
	}
	if _, err := Parse(File{"routes.yaml", []byte(b.String())}); err == nil || !strings.Contains(err.Error(), "of text, with aliases expanded") {
		t.Errorf("error %v", err)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, err := Parse(File{"routes.yaml", []byte("routes:\n  - {name: a, match: {path: b}, topic: t}\n")})
	var problem Problem
	if !errors.As(err, &problem) || problem.File != "routes.yaml" || problem.Line != 2 || problem.Column != 29 {
		t.Errorf("no Problem with its position in %#v", err)
	}
	var field route.FieldError
	if !errors.As(err, &field) || field.Path != "routes[0].match.path" {
		t.Errorf("no FieldError in %#v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
}

// What cannot stand in a text file of testdata.
func TestNotText(t *testing.T) {
	for document, want := range map[string]string{
		"a: b\nc: \xff":                      "f:2:4: not text: a control character, or not UTF-8",
		"a: é\x00":                           "f:1:5: not text: a control character, or not UTF-8",
		strings.Repeat("#", maxBytes) + "\n": "f:1:1: the document has 16777217 bytes (allowed: at most 16777216)",
	} {
		if _, err := Parse(File{"f", []byte(document)}); err == nil || err.Error() != want {
			t.Errorf("%.20q: error %v, want %s", document, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, quickstart) {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		document, _, _ := strings.Cut(string(content), separator)
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := Parse(File{"routes.yaml", document})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "routes.yaml:") || strings.HasPrefix(line, "routes.yaml:0:") {
					t.Errorf("a line without its position: %q", line)
				}
			}
			return
		}
		if _, _, err := Check(File{"routes.yaml", document}); err != nil {
			t.Errorf("checked, it is refused: %v", err)
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := route.ParseJSON(written)
		if err != nil {
			t.Fatalf("as JSON: %s: %v", written, err)
		}
		if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("as JSON (-yaml +json):\n%s", diff)
		}
	})
}
