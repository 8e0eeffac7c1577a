package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"

	"github.com/marceloboeira/crowd/xds/route"
)

var update = flag.Bool("update", false, "rewrite routes.schema.json")

// TestSchemaIsUpToDate holds the schema against the types and comments of package route.
func TestSchemaIsUpToDate(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("routes.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(JSON)); diff != "" {
		t.Errorf("-want +got (go test -update rewrites):\n%s", diff)
	}
}

func generate(t *testing.T) []byte {
	t.Helper()
	reflector := jsonschema.Reflector{ExpandedStruct: true, Mapper: mapper}
	// The package's directory is .., and its types are known by the path of the module.
	t.Chdir("..")
	if err := reflector.AddGoComments("github.com/marceloboeira/crowd/xds/route", ".", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	t.Chdir("schema")
	for of, comment := range reflector.CommentMap {
		reflector.CommentMap[of] = strings.TrimSpace(strings.ReplaceAll(comment, "\n", " "))
	}
	s := reflector.Reflect(route.Config{})
	s.ID = "https://github.com/marceloboeira/crowd/blob/main/xds/route/schema/routes.schema.json"
	s.Title = "Routes of crowd"
	s.Required = nil // a file of a directory may lack routes
	refine(t, s.Definitions)
	for _, definition := range append(slices.Collect(maps.Values(s.Definitions)), s) {
		for p := definition.Properties.Oldest(); p != nil; p = p.Next() {
			if rest, ok := strings.CutPrefix(p.Value.Description, goName(p.Key)); ok {
				p.Value.Description = p.Key + rest // comments speak of fields as Go calls them
			}
		}
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(`\u003c`), []byte("<")), []byte(`\u003e`), []byte(">")), '\n')
}

func goName(field string) string {
	var name strings.Builder
	for word := range strings.SplitSeq(field, "_") {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return name.String()
}

// mapper describes what has a text of its own.
func mapper(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: examples}
	}
	oneOf := func(values ...any) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Enum: values} }
	switch t {
	case reflect.TypeFor[route.Size]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "1"}, text("^[0-9]+([KMG]i?B)?$", "64KiB", "1MiB"),
		}}
	case reflect.TypeFor[route.Duration]():
		return text(`^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`, "500ms", "30s", "1m30s")
	case reflect.TypeFor[route.Percent]():
		return text(`^0*(100(\.0{0,4})?|[0-9]{1,2}(\.[0-9]{0,4})?)%$`, "10%", "0.05%")
	case reflect.TypeFor[route.Level]():
		return oneOf(route.LevelMemory, route.LevelDisk, route.LevelKafka)
	case reflect.TypeFor[route.Mode]():
		return oneOf(route.ModeAbsorb, route.ModeMirror)
	case reflect.TypeFor[route.Spool]():
		s := oneOf(route.SpoolOn, route.SpoolOff)
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Type: "boolean"}}, Examples: s.Enum} // YAML 1.1 has on and off for them
	}
	return nil
}

// refine adds what Go's types do not say.
func refine(t *testing.T, types jsonschema.Definitions) {
	t.Helper()
	field := func(of, name string) *jsonschema.Schema {
		s, ok := types[of].Properties.Get(name)
		if !ok {
			t.Fatalf("%s has no field %s", of, name)
		}
		return s
	}
	for _, kind := range []string{"path", "prefix", "path_template", "safe_regex"} {
		types["Match"].OneOf = append(types["Match"].OneOf, &jsonschema.Schema{Required: []string{kind}})
	}
	types["ValueMatch"].MaxProperties = new(uint64(2)) // the name and a condition
	for _, path := range []string{"path", "prefix", "path_template"} {
		field("Match", path).Pattern = "^/[^?#]*$"
	}
	field("Match", "methods").Items.Pattern = "^[-A-Z0-9!#$%&'*+.^_`|~]+$"
	field("Route", "name").Pattern = "^[a-zA-Z0-9_.-]{1,64}$"
	for _, of := range []string{"Route", "Policy"} {
		field(of, "topic").Pattern = "^[a-zA-Z0-9._-]{1,249}$"
	}
	for of, bounds := range map[string][2]int{
		"Answer.status": {200, 299}, "Uplink.streams": {1, 8},
		"TokenBucket.max_tokens": {1, 1e9}, "TokenBucket.tokens_per_fill": {1, 1e9},
	} {
		of, name, _ := strings.Cut(of, ".")
		f := field(of, name)
		f.Minimum, f.Maximum = json.Number(fmt.Sprint(bounds[0])), json.Number(fmt.Sprint(bounds[1]))
	}
}
