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

// goldenCase is a file in testdata: the input above the divider, what comes of it below.
type goldenCase struct{ name, path, text string }

func cases(t *testing.T) []goldenCase {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases in testdata (%v)", err)
	}
	var all []goldenCase
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, goldenCase{strings.TrimSuffix(filepath.Base(path), ".yaml"), path, string(data)})
	}
	return all
}

func TestBuild(t *testing.T) {
	for _, c := range cases(t) {
		t.Run(c.name, func(t *testing.T) {
			given, want, _ := strings.Cut(c.text, divider)
			got := result(t, given)
			if *update {
				if err := os.WriteFile(c.path, []byte(given+divider+got), 0o644); err != nil {
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
func parseInput(t *testing.T, text string) (Input, error) {
	t.Helper()
	var raw struct {
		Routes  any    `yaml:"routes"`
		Path    string `yaml:"path"`
		Code    string `yaml:"code"`
		Gateway struct {
			Listen string `yaml:"listen"`
			TLS    struct {
				Cert string `yaml:"cert"`
				Key  string `yaml:"key"`
			} `yaml:"tls"`
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
	in := Input{Filter: Filter{Path: raw.Path, Code: []byte(raw.Code)}}
	if in.Routes, err = route.ParseJSON(document); err != nil {
		t.Fatal(err)
	}
	in.Gateway, err = ParseGateway(GatewayText{
		Listen: raw.Gateway.Listen, TLS: TLS(raw.Gateway.TLS), Collectors: raw.Gateway.Collectors, Upstream: raw.Gateway.Upstream,
	})
	return in, err
}

// result writes what Build makes of a case as YAML, after checking that it comes out the same twice.
func result(t *testing.T, given string) string {
	t.Helper()
	in, err := parseInput(t, given)
	var r Resources
	if err == nil {
		r, err = Build(in)
	}
	if err != nil {
		return "error:\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  ") + "\n"
	}
	again, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	first, second := messages(r), messages(again)
	var docs []any
	for i, m := range first {
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
	for _, m := range r.Secrets {
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
