// Package imports_test holds the directions of the design: what a part of crowd must not reach, by whatever
// detour. The linter's depguard sees the imports of one file; this sees all that gets linked.
package imports_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const crowd = "github.com/marceloboeira/crowd"

// rule forbids what matches pattern.
type rule struct{ pattern, why string }

func TestReach(t *testing.T) {
	for _, part := range []struct {
		packages  string // relative to the module
		env       []string
		allowed   []string // patterns, before forbidden
		forbidden []rule
	}{
		{
			packages: "/filter",
			env:      []string{"GOOS=wasip1", "GOARCH=wasm"},
			allowed:  []string{crowd + "/filter/...", crowd + "/collector/record", crowd + "/xds/route"},
			forbidden: []rule{
				{crowd + "/...", "the filter shares with crowd only the two contracts"},
				{"net/http/...", "Envoy speaks HTTP for the filter"},
				{"google.golang.org/grpc/...", "Envoy speaks gRPC for the filter"},
				{"google.golang.org/protobuf/reflect/...", "reflection costs megabytes of Wasm"},
				{"github.com/IBM/sarama/...", "the collector speaks to Kafka"},
				{"github.com/envoyproxy/...", "the filter reads its configuration as JSON"},
				{"go.yaml.in/...", "the filter reads its configuration as JSON"},
			},
		},
		{
			packages:  "/collector/record",
			allowed:   []string{crowd + "/collector/record"},
			forbidden: []rule{{crowd + "/...", "both sides of a contract depend on it"}},
		},
		{
			packages:  "/xds/route",
			allowed:   []string{crowd + "/xds/route"},
			forbidden: []rule{{crowd + "/...", "both sides of a contract depend on it"}},
		},
		{
			packages:  "/collector/...",
			forbidden: []rule{{crowd + "/xds/...", "data plane and control plane are deployed and fail apart"}},
		},
		{
			packages:  "/xds/...",
			forbidden: []rule{{crowd + "/collector/...", "data plane and control plane are deployed and fail apart"}},
		},
		{
			packages: "/replay/...",
			allowed: []string{
				crowd + "/replay/...", crowd + "/collector/record", crowd + "/collector/kafka", crowd + "/collector/admin",
				crowd + "/xds/route/...",
			},
			forbidden: []rule{{crowd + "/...", "replay needs records and the words of routes, and neither plane"}},
		},
	} {
		t.Run(strings.TrimPrefix(part.packages, "/"), func(t *testing.T) {
			roots, imports := list(t, part.env, crowd+part.packages)
			for _, r := range part.forbidden {
				chain := shortest(roots, imports, func(pkg string) bool {
					return matches(r.pattern, pkg) && !slices.ContainsFunc(part.allowed, func(p string) bool { return matches(p, pkg) })
				})
				if chain != nil {
					t.Errorf("%s: %s\n\t%s", r.pattern, r.why, strings.Join(chain, "\n\timports "))
				}
			}
		})
	}
}

// list returns the packages that pattern names, and what each package that they link imports.
func list(t *testing.T, env []string, pattern string) (roots []string, imports map[string][]string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,DepOnly", pattern)
	cmd.Env = append(os.Environ(), env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list %s: %v\n%s", pattern, err, &problems)
	}
	imports = map[string][]string{}
	for d := json.NewDecoder(&out); ; {
		var p struct {
			ImportPath string
			Imports    []string
			DepOnly    bool
		}
		err := d.Decode(&p)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("reading go list %s: %v", pattern, err)
		}
		imports[p.ImportPath] = p.Imports
		if !p.DepOnly {
			roots = append(roots, p.ImportPath)
		}
	}
	if len(roots) == 0 {
		t.Fatalf("go list %s: no packages", pattern)
	}
	return roots, imports
}

// shortest returns the shortest chain of imports from one of roots to a package that is bad; nil if there is none.
func shortest(roots []string, imports map[string][]string, bad func(string) bool) []string {
	from := map[string]string{} // who imports it, first seen; "" for a root
	for _, r := range roots {
		from[r] = ""
	}
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		pkg := queue[0]
		if bad(pkg) {
			var chain []string
			for ; pkg != ""; pkg = from[pkg] {
				chain = append(chain, pkg)
			}
			slices.Reverse(chain)
			return chain
		}
		for _, next := range imports[pkg] {
			if _, seen := from[next]; !seen {
				from[next] = pkg
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// matches is go's meaning of a pattern: with "/..." at its end also all packages below.
func matches(pattern, pkg string) bool {
	dir, below := strings.CutSuffix(pattern, "/...")
	return pkg == dir || below && strings.HasPrefix(pkg, dir+"/")
}

func TestShortest(t *testing.T) {
	imports := map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"a", "d/e"}, "d": {"d/e"}}
	for _, c := range []struct {
		pattern string
		want    []string
	}{
		{"d/e", []string{"a", "c", "d/e"}},
		{"d/...", []string{"a", "b", "d"}},
		{"a", []string{"a"}},
		{"e", nil},
	} {
		got := shortest([]string{"a"}, imports, func(pkg string) bool { return matches(c.pattern, pkg) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("to %s (-want +got):\n%s", c.pattern, diff)
		}
	}
}
