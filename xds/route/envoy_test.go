package route

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
)

// The words of the language are Envoy's: a real one, with the same routes in its own route table, must take the same
// requests.

// message is JSON of one of Envoy's protobuf messages.
type message = map[string]any

func typed(name string, fields message) message {
	fields["@type"] = "type.googleapis.com/envoy." + name
	return fields
}

func loopback() message {
	return message{"socket_address": message{"address": "127.0.0.1", "port_value": 0}}
}

// envoyMatch returns Envoy's RouteMatch for a Match without hosts, which are its virtual hosts' matter.
func envoyMatch(m Match) message {
	match := message{}
	switch {
	case m.Path != "":
		match["path"] = m.Path
	case m.Prefix != "":
		match["prefix"] = m.Prefix
	case m.PathTemplate != "":
		match["path_match_policy"] = message{"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": typed(
			"extensions.path.match.uri_template.v3.UriTemplateMatchConfig", message{"path_template": m.PathTemplate})}
	default:
		match["safe_regex"] = message{"regex": m.SafeRegex}
	}
	var headers, parameters []message
	if len(m.Methods) > 0 {
		headers = append(headers, message{"name": ":method", "string_match": message{"safe_regex": message{"regex": strings.Join(m.Methods, "|")}}})
	}
	for _, h := range m.Headers {
		headers = append(headers, envoyValueMatch(h))
	}
	for _, p := range m.QueryParameters {
		parameters = append(parameters, envoyValueMatch(p))
	}
	match["headers"], match["query_parameters"] = headers, parameters
	return match
}

func envoyValueMatch(m ValueMatch) message {
	match := message{"name": m.Name}
	switch {
	case m.Exact != nil:
		match["string_match"] = message{"exact": *m.Exact}
	case m.Prefix != nil:
		match["string_match"] = message{"prefix": *m.Prefix}
	case m.SafeRegex != nil:
		match["string_match"] = message{"safe_regex": message{"regex": *m.SafeRegex}}
	default:
		match["present_match"] = m.Present == nil || *m.Present
	}
	return match
}

// envoyListener returns a listener that answers with the name of the virtual host's route that takes a request.
func envoyListener(name string, hosts []message) message {
	return message{
		"name": name, "address": loopback(),
		"filter_chains": []message{{"filters": []message{{
			"name": "hcm", "typed_config": typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", message{
				"stat_prefix": name,
				// A host is compared without its port.
				"route_config": message{"virtual_hosts": hosts, "ignore_port_in_host_matching": true},
				"http_filters": []message{{"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router", message{})}},
			}),
		}}}},
	}
}

func envoyHost(name, domain string, routes []Route) message {
	var all []message
	for _, r := range routes {
		all = append(all, message{"match": envoyMatch(r.Match), "direct_response": message{"status": 200, "body": message{"inline_string": r.Name}}})
	}
	return message{"name": name, "domains": []string{domain}, "routes": all}
}

// client has an HTTP/1.1 connection that it opens again when it has been closed.
type client struct {
	t       *testing.T
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

// ask sends a request byte for byte, and returns the name of the route that takes it; false where Envoy refuses it.
func (c *client) ask(r Request) (route string, ok bool) {
	c.t.Helper()
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			c.t.Fatal(err)
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	message := fmt.Sprintf("%s %s HTTP/1.1\r\nhost: %s\r\n", r.Method, r.Path, r.Authority)
	for _, h := range r.Headers {
		message += fmt.Sprintf("%s: %s\r\n", h[0], h[1])
	}
	_, err := io.WriteString(c.conn, message+"content-length: 0\r\n\r\n")
	if err != nil {
		c.t.Fatalf("%+v: %v", r, err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.t.Fatalf("%+v: %v", r, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("%+v: %v", r, err)
	}
	if response.Close {
		c.close()
	}
	switch response.StatusCode {
	case http.StatusOK:
		return string(body), true
	case http.StatusNotFound:
		return "no route", true
	}
	return "", false
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}

// wire returns a request of which implementations could think differently. Envoy's templates take in a segment only what
// RFC 3986 lets stand there, crowd's anything: so one for tables without templates may have more.
func (d dice) wire(authority string, templates bool) Request {
	r := Request{Method: d.pick("GET", "POST", "PUT", "post"), Authority: authority, Draw: d.Uint64()}
	segment := d.pick("a", "b", "ab", "%61", "a%2Fb", "a~", "a@b:1", "a*", "a;v=1", "A", ".", "..", "")
	if !templates {
		segment = d.pick(segment, "a|b", "\xc3\xbc", "a\"", "{x}", "a^", "a\\b")
	}
	r.Path = "/" + segment + d.pick("", "/", "/a", "/b", "//", "/a/b", "/..") +
		d.pick("", "", "?", "?p", "?p=1", "?q=2&p=1", "?p=1&p=2", "?p=2&p=1", "?p==1", "?&&p=1", "?=1", "?p=%31", "?%70=1", "?P=1",
			"?q=1;p=1", "?p=1?q=1", "?p=&q", "??p=1", "?p=1=1")
	for range d.IntN(3) {
		r.Headers = append(r.Headers, [2]string{d.pick("x-a", "x-b"), d.pick("1", "2", "", "1,2", "1, 2", "12", "\xc3\xbc", "a b")})
	}
	return r
}

// differential is a real Envoy with one listener for tables, each a virtual host of its own, and one for every pattern of
// hosts.
type differential struct {
	tables []Config
	hosts  []string
}

func (d differential) bootstrap(t *testing.T) []byte {
	t.Helper()
	var tables []message
	for i, c := range d.tables {
		tables = append(tables, envoyHost(fmt.Sprint(i), fmt.Sprintf("t%d.test", i), c.Routes))
	}
	listeners := []message{envoyListener("tables", tables)}
	for _, pattern := range d.hosts {
		all := envoyHost("all", pattern, []Route{{Name: "all", Match: Match{Prefix: "/"}}})
		listeners = append(listeners, envoyListener(pattern, []message{all}))
	}
	text, err := json.Marshal(message{
		"admin":            message{"address": loopback()},
		"static_resources": message{"listeners": listeners},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEnvoyMatchesAlike(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := dice{rand.New(rand.NewPCG(seed, 0))}
	const tables, routes, requests = 60, 12, 25
	d := differential{hosts: []string{"a.b", "*.b", "a.*", "A.B", "[::1]", "*", "*.a.c"}}
	templates := func(table int) bool { return table%2 == 0 }
	for i := range tables {
		c := Config{Routes: []Route{}}
		for len(c.Routes) < routes {
			m := dice.match()
			m.Hosts = nil // a virtual host's matter
			if m.PathTemplate == "" || templates(i) {
				c.Routes = append(c.Routes, Route{Name: fmt.Sprint(len(c.Routes)), Match: m, Policy: Policy{Topic: "t"}})
			}
		}
		d.tables = append(d.tables, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := envoy.Start(ctx, envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: d.bootstrap(t), Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	connect := func(listener string) *client {
		address, err := p.ListenerAddr(ctx, listener)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, address: address}
		t.Cleanup(c.close)
		return c
	}
	compared := 0
	compare := func(c *client, table *Table, r Request) {
		t.Helper()
		want, ok := c.ask(r)
		if !ok {
			return // Envoy refuses it before any filter or route
		}
		compared++
		got := "no route"
		if rule := table.Match(&r); rule != nil {
			got = rule.Name
		}
		if got != want {
			t.Errorf("%+v: Envoy takes %s, crowd %s", r, want, got)
			for _, rule := range table.rules {
				if rule.Name == got || rule.Name == want {
					t.Logf("%+v", rule)
				}
			}
		}
	}
	all := connect("tables")
	for i, config := range d.tables {
		table := compile(t, config)
		for range requests {
			compare(all, table, dice.wire(fmt.Sprintf("t%d.test:80", i), templates(i)))
		}
	}
	for _, pattern := range d.hosts {
		table := compile(t, Config{Routes: []Route{{Name: "all", Match: Match{Prefix: "/", Hosts: []string{pattern}}, Policy: Policy{Topic: "t"}}}})
		one := connect(pattern)
		for _, host := range []string{
			"a.b", "A.b:80", "x.b", "a.x:1", "x.a.c", "[::1]:80", "[::1]", ".b", "a.", "a.:80", "a.b.", "b", "::1", "a.b:", "a..b", "*.b", "[::1].b",
		} {
			compare(one, table, Request{Method: "GET", Authority: host, Path: "/"})
		}
	}
	if compared < tables*requests/2 {
		t.Errorf("Envoy refused all but %d requests", compared)
	}
}
