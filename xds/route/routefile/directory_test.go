package routefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// directory writes files and returns the path of the directory, which errors are relative to.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	leadsRoute    = "  - {name: leads, match: {path: /leads}}\n"
	trackingRoute = "  - {name: tracking, match: {prefix: /track/}}\n"
)

func TestDirectory(t *testing.T) {
	dir := directory(t, map[string]string{
		"20-tracking.yml":      "routes:\n" + trackingRoute,
		"10-leads.yaml":        "routes:\n" + leadsRoute,
		"30-defaults.json":     `{"defaults": {"topic": "all"}}`,
		"40-empty.yaml":        "# nothing yet\n",
		".hidden.yaml":         "not: routes",
		"README.md":            "not routes",
		"below.yaml/more.yaml": "not: routes",
	})
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 2 || c.Routes[0].Name != "leads" || c.Routes[1].Name != "tracking" || c.Defaults.Topic != "all" {
		t.Errorf("%+v", c)
	}
	if got := c.Topics(); !cmp.Equal(got, []string{"all"}) {
		t.Errorf("topics %v", got)
	}
}

// A ConfigMap is mounted as links to what a link beside them leads to.
func TestDirectoryOfLinks(t *testing.T) {
	dir := directory(t, map[string]string{"..2026/leads.yaml": "defaults: {topic: t}\nroutes:\n" + leadsRoute})
	for name, target := range map[string]string{"..data": "..2026", "leads.yaml": "..data/leads.yaml"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := Load(dir); err != nil || len(c.Routes) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestErrorsOfDirectories(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"one name in two files": {
			map[string]string{"a.yaml": "defaults: {topic: t}\nroutes:\n" + leadsRoute, "b.yaml": "routes:\n" + trackingRoute + leadsRoute},
			"b.yaml:3:12: routes[2].name: \"leads\" is the name of routes[0] too (allowed: a name of its own)",
		},
		"defaults twice": {
			map[string]string{"a.yaml": "defaults: {topic: t}\nroutes: []\n", "b.yaml": "defaults: {topic: u}\n"},
			"b.yaml:1:1: defaults: is given twice, first in line 1 of a.yaml (allowed: once)",
		},
		"all that are not YAML": {
			map[string]string{"a.yaml": "routes: [\n", "b.yaml": "routes: [}\n", "c.yaml": "routes: []\n"},
			"a.yaml:2:1: not YAML: while parsing a flow node: did not find expected node content\n" +
				"b.yaml:1:10: not YAML: while parsing a flow node: did not find expected node content",
		},
		"no routes": {
			map[string]string{"a.yaml": "uplink: {streams: 1}\n", "b.yaml": ""},
			"a.yaml:1:1: routes: is missing (allowed: a list of routes, [] for none)",
		},
		"text": {
			map[string]string{"a.yaml": "routes: []\n", "b.yaml": "routes"},
			"b.yaml:1:1: is text (allowed: a group of fields: uplink, defaults, routes)",
		},
		"routes that are no list": {
			map[string]string{"a.yaml": "routes: none\n", "b.yaml": "defaults: {topic: t}\n"},
			"a.yaml:1:9: routes: is text (allowed: a list)",
		},
		"nothing": {
			map[string]string{"a.yaml": "", "b.yaml": ""},
			"a.yaml:1:1: the document is empty (allowed: uplink, defaults, routes)",
		},
	} {
		t.Chdir(directory(t, test.files))
		_, err := Load(".")
		if err == nil || !errors.As(err, new(Errors)) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("an empty directory is routes")
	}
	dir := t.TempDir()
	if err := os.Symlink("nowhere", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nowhere: %v", err)
	}
}
