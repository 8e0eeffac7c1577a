package resources

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/xds/route"
)

var update = flag.Bool("update", false, "rewrite the results in testdata")

// divider stands between a case's input and its result.
const divider = "--- # resources\n"

// TestBuild runs the cases in testdata: the input above the divider, what comes of it below.
func TestBuild(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given, want, _ := strings.Cut(string(data), divider)
			got := result(t, parseInput(t, given))
			if *update {
				if err := os.WriteFile(file, []byte(given+divider+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got (go test -update rewrites):\n%s", diff)
			}
		})
	}
}

// parseInput reads an Input as testdata has it: addresses as host:port, the routes as people write them.
func parseInput(t *testing.T, text string) Input {
	t.Helper()
	var raw struct {
		Routes  any    `yaml:"routes"`
		Path    string `yaml:"path"`
		Code    string `yaml:"code"`
		Gateway *struct {
			Listen     string   `yaml:"listen"`
			Collectors []string `yaml:"collectors"`
			Upstream   string   `yaml:"upstream"`
		} `yaml:"gateway"`
	}
	if err := yaml.Load([]byte(text), &raw, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(raw.Routes)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := route.ParseJSON(document)
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Routes: routes, Filter: Filter{Path: raw.Path, Code: []byte(raw.Code)}}
	if raw.Gateway == nil {
		return in
	}
	in.Gateway = &Gateway{Listen: address(t, raw.Gateway.Listen)}
	for _, c := range raw.Gateway.Collectors {
		in.Gateway.Collectors = append(in.Gateway.Collectors, address(t, c))
	}
	if raw.Gateway.Upstream != "" {
		upstream := address(t, raw.Gateway.Upstream)
		in.Gateway.Upstream = &upstream
	}
	return in
}

func address(t *testing.T, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// result writes what Build makes of in as YAML, after checking that it is valid by Envoy's rules and comes out
// the same twice.
func result(t *testing.T, in Input) string {
	t.Helper()
	r, err := Build(in)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	again, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	first, second := messages(r), messages(again)
	var docs []any
	for i, m := range first {
		if err := m.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
			t.Errorf("%T is not valid: %v", m, err)
		}
		if !bytes.Equal(marshal(t, m), marshal(t, second[i])) {
			t.Errorf("%T differs between two builds", m)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var doc any
		if err := yaml.Load(text, &doc); err != nil { // JSON is YAML, and read as YAML integers stay integers
			t.Fatal(err)
		}
		docs = append(docs, map[string]any{string(m.ProtoReflect().Descriptor().Name()): doc})
	}
	out, err := yaml.Dump(docs)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func messages(r Resources) []proto.Message {
	var all []proto.Message
	for _, m := range r.ExtensionConfigs {
		all = append(all, m)
	}
	for _, m := range r.Listeners {
		all = append(all, m)
	}
	for _, m := range r.Routes {
		all = append(all, m)
	}
	for _, m := range r.Clusters {
		all = append(all, m)
	}
	for _, m := range r.Endpoints {
		all = append(all, m)
	}
	return all
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseAddress(t *testing.T) {
	tests := []struct {
		in   string
		want Address
		ip   bool
		err  string
	}{
		{in: "127.0.0.1:9001", want: Address{"127.0.0.1", 9001}, ip: true},
		{in: "[::1]:9001", want: Address{"::1", 9001}, ip: true},
		{in: "collector:9001", want: Address{"collector", 9001}},
		{in: ":10000", want: Address{"", 10000}},
		{in: "127.0.0.1", err: `address "127.0.0.1": want host:port`},
		{in: "::1:9001", err: `address "::1:9001": want host:port`},
		{in: "a:http", err: `address "a:http": port "http" is not a number from 0 to 65535`},
		{in: "a:65536", err: `address "a:65536": port "65536" is not a number from 0 to 65535`},
	}
	for _, tt := range tests {
		got, err := ParseAddress(tt.in)
		if text := errorText(err); text != tt.err {
			t.Errorf("ParseAddress(%q): error %q, want %q", tt.in, text, tt.err)
		}
		if got != tt.want || got.IsIP() != tt.ip {
			t.Errorf("ParseAddress(%q) = %+v (IP %t), want %+v (IP %t)", tt.in, got, got.IsIP(), tt.want, tt.ip)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// An address that is read and written again is the same address.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:9001", "[::1]:9001", "[fe80::1%eth0]:1", "collector:9001", ":0", "[]:1", "a:b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))))
		if err != nil || again != a {
			t.Errorf("%q is %+v, and that is %+v (%v)", s, a, again, err)
		}
	})
}
