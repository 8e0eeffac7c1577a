package resources

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
	"github.com/marceloboeira/crowd/xds/route"
)

// seen is what a filter in crowd's place answers to all that it sees.
const seen = http.StatusTeapot

// TestEnvoyShowsTheFilterItsRequests has a real Envoy, with a listener for each of many documents, show a filter in
// crowd's place exactly what is within the document's reach: so whatever a route takes.
func TestEnvoyShowsTheFilterItsRequests(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	var documents []route.Config
	for range 60 {
		documents = append(documents, d.document())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := startWith(ctx, t, documents)
	taken := 0
	for i, document := range documents {
		address, err := p.ListenerAddr(ctx, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		table, err := route.Compile(document)
		if err != nil {
			t.Fatal(err)
		}
		reach := document.Reach()
		for request, status := range ask(t, address, d.requests(50)) {
			path, _, _ := strings.Cut(request.Path, "?")
			want := slices.Contains(reach.Paths, path) ||
				slices.ContainsFunc(reach.Prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
			if (status == seen) != want {
				t.Errorf("%s of %+v: %d, and that it is in reach is %t", request.Path, document.Routes, status, want)
			}
			if table.Match(&request) != nil {
				taken++
				if status != seen {
					t.Errorf("%s of %+v: %d, though a route takes it", request.Path, document.Routes, status)
				}
			}
		}
	}
	if taken < 100 {
		t.Errorf("routes took only %d requests", taken)
	}
}

// TestEnvoyShowsTheFilterOddRequests is about paths that Envoy changes before it looks at its routes: the filter gets the
// changed one too.
func TestEnvoyShowsTheFilterOddRequests(t *testing.T) {
	document := route.Config{Defaults: route.Policy{Topic: "t"}, Routes: []route.Route{
		{Name: "path", Match: route.Match{Path: "/leads"}},
		{Name: "longer", Match: route.Match{Path: "/leads/new"}},
		{Name: "escaped", Match: route.Match{Path: "/%C3%BC"}},
		{Name: "prefix", Match: route.Match{Prefix: "/track/"}},
		{Name: "template", Match: route.Match{PathTemplate: "/shops/{shop}/orders"}},
		{Name: "regex", Match: route.Match{SafeRegex: "^/v[0-9]+$"}},
		{Name: "query", Match: route.Match{SafeRegex: `/leads\?all`}}, // which no path has
	}}
	if err := document.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address, err := startWith(ctx, t, []route.Config{document}).ListenerAddr(ctx, "0")
	if err != nil {
		t.Fatal(err)
	}
	for requested, want := range map[string]int{
		"POST /./leads": seen, "POST /track/../leads": seen, "POST /track/%2e%2e/leads": seen, "POST /../../leads": seen,
		"POST /%6ceads": seen, "POST /leads/%6eew": seen, "POST /%C3%BC": seen, "POST /track\\x": seen, "POST /v1?x": seen,
		"POST http://a.b/leads": seen, "POST http://a.b/v1?x=/leads": seen,
		"POST /leads?": seen, "POST /leads?/new": seen, "POST /leads?all": seen, "POST /leads?allowed": seen,
		"POST /leads/new?/leads": seen,

		"POST /LEADS": 404, "POST /leads/": 404, "POST //leads": 404, "POST /leads;x": 404, "POST /leads%2Fnew": 404, "POST /leads%3F": 404,
		"POST /leads/newer": 404, "POST /track": 404, "POST /track/..": 404, "POST /v/../lead": 404, "POST http://a.b": 404,
		"POST http://a.b?/leads": 404,
	} {
		if got := askOnce(t, address, requested); got != want {
			t.Errorf("%s: %d, want %d", requested, got, want)
		}
	}
}

// askOnce returns the status for a method and a target.
func askOnce(t *testing.T, address, requested string) int {
	t.Helper()
	conn := connect(t, address)
	if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nhost: a.b\r\ncontent-length: 0\r\n\r\n", requested); err != nil {
		t.Fatal(err)
	}
	status, err := readAnswer(bufio.NewReader(conn))
	if err != nil {
		t.Fatalf("%s: %v", requested, err)
	}
	return status
}

// connect returns a connection that lasts as long as the test, and a minute at most.
func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// startWith starts an Envoy with the gateway's listener for each document, named by its number.
func startWith(ctx context.Context, t *testing.T, documents []route.Config) *envoy.Process {
	t.Helper()
	b := &bootstrapv3.Bootstrap{
		Admin:           &bootstrapv3.Admin{Address: Address{"127.0.0.1", 0}.proto()},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
	}
	for i, document := range documents {
		r, err := Build(Input{Routes: document, Filter: Filter{Path: "/etc/crowd/crowd.wasm"}, Gateway: &Gateway{
			Listen: Address{"127.0.0.1", 0}, Collectors: []Address{{"127.0.0.1", 1}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		r.ExtensionConfigs = []*corev3.TypedExtensionConfig{{Name: FilterName, TypedConfig: packed(&faultv3.HTTPFault{
			Abort: &faultv3.FaultAbort{
				ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: seen},
				Percentage: &typev3.FractionalPercent{Numerator: 100},
			},
		})}}
		l := staticListener(t, r, r.Listeners[0])
		l.Name = fmt.Sprint(i)
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := envoy.Start(ctx, envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: text, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ask yields requests, sent byte for byte over one connection, with the status of their answers.
func ask(t *testing.T, address string, requests []route.Request) iter.Seq2[route.Request, int] {
	return func(yield func(route.Request, int) bool) {
		conn := connect(t, address)
		reader := bufio.NewReader(conn)
		for _, r := range requests {
			if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nhost: %s\r\n\r\n", r.Method, r.Path, r.Authority); err != nil {
				t.Fatal(err)
			}
			status, err := readAnswer(reader)
			if err != nil {
				t.Fatalf("%+v: %v", r, err)
			}
			if !yield(r, status) {
				return
			}
		}
	}
}

func readAnswer(from *bufio.Reader) (status int, err error) {
	response, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// dice make documents and requests of so few different parts that they meet.
type dice struct{ *rand.Rand }

func (d dice) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d dice) path() string {
	return "/" + d.pick("a", "b", "ab", "c", "") + d.pick("", "/", "/a", "/b", "/ab/c", "a", "//a", "/%C3%BC")
}

func (d dice) document() route.Config {
	c := route.Config{Defaults: route.Policy{Topic: "t"}, Routes: []route.Route{}}
	for i := range d.IntN(6) {
		var m route.Match
		switch d.IntN(10) {
		case 0:
			m.SafeRegex = d.pick("/a/.*", "/(a|ab)/?", "^/b/[a-z]+$", "/c|/ca", ".*b", "(?i)/A")
		case 1:
			m.PathTemplate = "/" + d.pick("a", "b", "c") + d.pick("/{x}", "/*/c", "/**", "")
		case 2, 3, 4:
			m.Prefix = d.path()
		default:
			m.Path = d.path()
		}
		if d.IntN(3) == 0 {
			m.Methods = []string{"POST"}
		}
		c.Routes = append(c.Routes, route.Route{Name: fmt.Sprint(i), Match: m})
	}
	return c
}

func (d dice) requests(n int) []route.Request {
	var list []route.Request
	for range n {
		list = append(list, route.Request{
			Method: d.pick("GET", "POST"), Authority: "a.b:80", Path: d.path() + d.pick("", "", "c", "?", "?/a", "?a=/b", "/ab?x=1"),
		})
	}
	return list
}
