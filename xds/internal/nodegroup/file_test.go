package nodegroup

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/xds/route/routefile"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata")

// separator stands between a file and the errors that it must give, one a line.
const separator = "=== errors\n"

func TestErrors(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := strings.Cut(string(content), separator)
			_, err = Parse("groups.yaml", []byte(text))
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(text+separator+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

const valid = `
groups:
  - name: checkout
    match:
      cluster: {exact: shop}
      id: {safe_regex: "checkout-[0-9]+"}
      metadata:
        - {path: [zone], value: {prefix: eu-}}
        - {path: [labels, tier], value: {exact: gold}}
    routes: checkout/
    filter: /opt/crowd.wasm
    gateway: 0.0.0.0:8080
    collectors: ["collector-a:9001", "10.0.0.1:9001"]
    upstream: checkout:80
  - name: rest
    routes: /etc/crowd/routes.yaml
`

func TestParse(t *testing.T) {
	groups, err := Parse(filepath.Join("config", "groups.yaml"), []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	matches := groups[0].Match
	groups[0].Match = Match{}
	want := Groups{
		{
			Name: "checkout", Routes: filepath.Join("config", "checkout"), Filter: "/opt/crowd.wasm", Gateway: "0.0.0.0:8080",
			Collectors: []string{"collector-a:9001", "10.0.0.1:9001"}, Upstream: "checkout:80",
		},
		{Name: "rest", Routes: "/etc/crowd/routes.yaml"},
	}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if *matches.Cluster.Exact != "shop" || matches.ID.SafeRegex.String() != `\A(?:checkout-[0-9]+)\z` || len(matches.Metadata) != 2 {
		t.Errorf("match: %+v", matches)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "groups.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "read groups: ") {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte(valid), 0o600); err != nil {
		t.Fatal(err)
	}
	if groups, err := Load(path); err != nil || len(groups) != 2 {
		t.Errorf("%d groups, %v", len(groups), err)
	}
}

// Whatever a file holds, it is taken whole or refused with every error at its place.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid, "checkout-1", "shop")
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		text, _, _ := strings.Cut(string(content), separator)
		f.Add(text, "id", "cluster")
	}
	f.Fuzz(func(t *testing.T, text, id, cluster string) {
		groups, err := Parse("groups.yaml", []byte(text))
		if err != nil {
			all := (routefile.Errors)(nil)
			if groups != nil || !errors.As(err, &all) {
				t.Fatalf("%v with %v", groups, err)
			}
			for _, problem := range all {
				if problem.File != "groups.yaml" || problem.Line < 1 || problem.Column < 1 || problem.Message == "" {
					t.Errorf("%+v", problem)
				}
			}
			return
		}
		names := map[string]bool{}
		for _, g := range groups {
			if names[g.Name] || g.Routes == "" || g.Name == "" || filepath.Base(g.Name) != g.Name {
				t.Errorf("%+v", g)
			}
			names[g.Name] = true
		}
		if of := groups.Of(&corev3.Node{Id: id, Cluster: cluster}); of != "" && !names[of] {
			t.Errorf("%q is no group", of)
		}
	})
}

// What README.md shows is a groups file.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```yaml\ngroups:\n")
	text, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("no groups file in README.md")
	}
	if _, err := Parse("README.md", []byte("groups:\n"+text)); err != nil {
		t.Error(err)
	}
}
