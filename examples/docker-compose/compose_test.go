// Package compose_test reads the example as Docker Compose would, with Compose's own library, and holds it
// together with what it leans on: versions, files, ports, Envoy's bootstrap.
package compose_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/marceloboeira/crowd/e2e/kafka"
	"github.com/marceloboeira/crowd/envoy"
)

// load reads compose.yaml as Compose does: against its schema, then checked for consistency.
func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"compose.yaml"}, cli.WithConsistency(true), cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestNoVariables: where one is unset, Compose only warns and takes it for empty. The example needs none.
func TestNoVariables(t *testing.T) {
	file, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if variables := regexp.MustCompile(`\$\{?\w+`).FindAll(file, -1); variables != nil {
		t.Errorf("compose.yaml has variables: %q", variables)
	}
}

func TestImages(t *testing.T) {
	project := load(t)
	got := map[string]string{}
	for name, s := range project.Services {
		got[name] = s.Image
		if s.Build == nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := map[string]string{
		"envoy":     "envoyproxy/envoy:v" + envoy.Version,
		"xds":       "crowd",
		"collector": "crowd",
		"replay":    "crowd",
		"kafka":     "apache/kafka:" + kafka.Version,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images of the services (-want +got):\n%s", diff)
	}
}

// TestRuns checks what Compose would find out only when it starts the services.
func TestRuns(t *testing.T) {
	project := load(t)
	for name, s := range project.Services {
		if s.HealthCheck == nil {
			t.Errorf("%s: no health check, so nothing can wait for it", name)
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s: %s is mounted writable", name, v.Source)
			}
		}
	}
}

// TestSpool: what the collector has acknowledged outlives its container.
func TestSpool(t *testing.T) {
	s := load(t).Services["collector"]
	for _, v := range s.Volumes {
		if v.Type == types.VolumeTypeVolume && v.Source != "" && slices.Contains(s.Command, "--spool="+v.Target) {
			return
		}
	}
	t.Errorf("no named volume among %+v is the directory in %q", s.Volumes, s.Command)
}

// TestPorts compares what is published with what README.md tells people to use.
func TestPorts(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`localhost:(\d+)`).FindAllSubmatch(readme, -1) {
		documented[string(m[1])] = true
	}
	published := map[string]bool{}
	for name, s := range load(t).Services {
		for _, p := range s.Ports {
			published[p.Published] = true
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published on %q", name, p.Published, p.HostIP)
			}
		}
	}
	if diff := cmp.Diff(documented, published); diff != "" {
		t.Errorf("ports (-documented +published):\n%s", diff)
	}
}

// TestBootstrap holds envoy.yaml to the gateway's bootstrap: it differs only in where things are.
func TestBootstrap(t *testing.T) {
	want, err := envoy.GatewayBootstrap{NodeID: "crowd-compose", XDS: []string{"xds:18000"}, Admin: "0.0.0.0:9901"}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Unmarshal(file, &tree); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parse(t, want), parse(t, got), protocmp.Transform()); diff != "" {
		t.Errorf("envoy.yaml (-bootstrap-gateway.yaml with other addresses +got):\n%s", diff)
	}
}

func parse(t *testing.T, bootstrap []byte) *bootstrapv3.Bootstrap {
	t.Helper()
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(bootstrap, b); err != nil {
		t.Fatal(err)
	}
	return b
}
