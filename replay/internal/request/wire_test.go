package request

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

var received = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// id is of every record in tests.
var id = func() record.ID {
	id, err := record.ParseID("01936f5e-7c00-7abc-8def-0123456789ab")
	if err != nil {
		panic(err)
	}
	return id
}()

func attempt(r record.Record) flow.Attempt {
	if r.ID == (record.ID{}) {
		r.ID = id
	}
	r.Received = received
	return flow.Attempt{
		Message: &flow.Message{Topic: "leads", Partition: 3, Offset: 42, Record: r}, Number: 2, Age: 90*time.Second + 999*time.Millisecond,
	}
}

// config sends to target, and takes 2xx for success, and 5xx for worth another attempt.
func config(target string) Config {
	return Config{
		Target: target, HTTP1: true, Timeout: 10 * time.Second,
		Expected:  func(status int) bool { return status/100 == 2 },
		Retriable: func(status int) bool { return status/100 == 5 },
		Log:       slog.New(slog.DiscardHandler),
	}
}

func newSender(t testing.TB, c Config) *Sender {
	t.Helper()
	s, err := NewSender(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// listen serves connections until the test ends, and returns the address.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// readHead reads the bytes of a request up to the empty line.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return head.String(), err
		}
	}
	return head.String(), nil
}

// bytesOf returns what arrives over HTTP/1.1 until n bytes of a body have.
func bytesOf(t *testing.T, c Config, r record.Record, body int) string {
	t.Helper()
	arrived := make(chan string, 1)
	c.Target = listen(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		head, err := readHead(reader)
		if err != nil {
			return
		}
		rest := make([]byte, body)
		if _, err := io.ReadFull(reader, rest); err != nil {
			return
		}
		arrived <- head + string(rest)
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	}) + c.Target
	o := newSender(t, c).Send(t.Context(), attempt(r))
	if o.Verdict != flow.Delivered || o.Status != 204 {
		t.Fatalf("%+v", o)
	}
	return strings.ReplaceAll(<-arrived, strings.TrimPrefix(strings.TrimSuffix(c.Target, "/base"), "http://"), "TARGET")
}

func TestBytesOverHTTP1(t *testing.T) {
	const own = "crowd-age: 90\r\ncrowd-attempt: 2\r\ncrowd-record-id: 01936f5e-7c00-7abc-8def-0123456789ab\r\n"
	const key = "idempotency-key: 01936f5e-7c00-7abc-8def-0123456789ab\r\n"
	for name, test := range map[string]struct {
		change func(*Config)
		record record.Record
		want   string
	}{
		"a post": {
			nil,
			record.Record{
				Method: "POST", Scheme: "https", Authority: "shop.example:8443", Path: "/a/%2f%zz/?q=1&q=%2&x=a|b#f",
				Headers: []record.Header{
					{Name: "x-b", Value: "2"}, {Name: "accept", Value: "*/*"}, {Name: "x-b", Value: "1"}, {Name: "user-agent", Value: "curl/8"},
					{Name: "accept-encoding", Value: "gzip"}, {Name: "cookie", Value: "a=1; b=2"}, {Name: "x-bytes", Value: "\xff \xfe"},
				},
				Body: []byte("a\x00b"),
			},
			"POST /a/%2f%zz/?q=1&q=%2&x=a|b#f HTTP/1.1\r\nHost: shop.example:8443\r\nContent-Length: 3\r\naccept: */*\r\naccept-encoding: gzip\r\ncookie: a=1; b=2\r\n" +
				own + key + "user-agent: curl/8\r\nx-b: 2\r\nx-b: 1\r\nx-bytes: \xff \xfe\r\n\r\na\x00b",
		},
		"nothing but a path": {
			nil, record.Record{Method: "GET", Path: "/"},
			"GET / HTTP/1.1\r\nHost: TARGET\r\n" + own + key + "\r\n",
		},
		"an empty post": {
			nil, record.Record{Method: "POST", Authority: "a", Path: "/"},
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + own + key + "\r\n",
		},
		"a GET with a body, a method of its own, and a key": {
			nil, record.Record{Method: "M-SEARCH", Authority: "a", Path: "/", Headers: []record.Header{{Name: "idempotency-key", Value: "mine"}}, Body: []byte("x")},
			"M-SEARCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + own + "idempotency-key: mine\r\n\r\nx",
		},
		"two slashes": {
			nil, record.Record{Method: "GET", Authority: "a", Path: "//x/%41?//"},
			"GET //x/%41?// HTTP/1.1\r\nHost: a\r\n" + own + key + "\r\n",
		},
		"two slashes and an empty query": {
			nil, record.Record{Method: "GET", Authority: "a", Path: "//?"},
			"GET //? HTTP/1.1\r\nHost: a\r\n" + own + key + "\r\n",
		},
		"two slashes and an escape that is none": {
			nil, record.Record{Method: "GET", Authority: "a", Path: "//x/%zz?%"},
			"GET http://a//x/%zz?% HTTP/1.1\r\nHost: a\r\n" + own + key + "\r\n",
		},
		"an asterisk": {
			nil, record.Record{Method: "OPTIONS", Authority: "a", Path: "*"},
			"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + own + key + "\r\n",
		},
		"what was about the connection": {
			nil,
			record.Record{
				Method: "GET", Authority: "a", Path: "/",
				Headers: []record.Header{
					{Name: "Connection", Value: "close, X-Hop ,te"}, {Name: "x-hop", Value: "1"}, {Name: "keep-alive", Value: "1"}, {Name: "proxy-connection", Value: "close"},
					{Name: "TE", Value: "gzip, trailers;q=1"}, {Name: "upgrade", Value: "websocket"}, {Name: "transfer-encoding", Value: "chunked"},
					{Name: "content-length", Value: "7"}, {Name: "expect", Value: "100-continue"}, {Name: "host", Value: "b"}, {Name: "trailer", Value: "x"},
					{Name: "Crowd-Attempt", Value: "99"}, {Name: "X-Own", Value: " v "},
				},
			},
			"GET / HTTP/1.1\r\nHost: a\r\n" + own + key + "x-own: v\r\n\r\n",
		},
		"te: trailers": {
			nil, record.Record{Method: "GET", Authority: "a", Path: "/", Headers: []record.Header{{Name: "te", Value: "deflate, Trailers"}}},
			"GET / HTTP/1.1\r\nHost: a\r\n" + own + key + "te: trailers\r\n\r\n",
		},
		"trailers without a body": {
			nil, record.Record{Method: "GET", Authority: "a", Path: "/", Trailers: []record.Header{{Name: "x-sum", Value: "1"}, {Name: "content-length", Value: "2"}}},
			"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" + own + key + "\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		"what is rewritten": {
			func(c *Config) {
				c.Target, c.Host = "/base", "api.example"
				c.Set = []Header{{Name: "Authorization", Value: "Bearer t"}, {Name: "User-Agent", Value: "crowd"}, {Name: "Idempotency-Key", Value: "k"}}
				c.Remove = []string{"X-Gone"}
				c.Paths = rewrites(`^/none`, `/`, `^/v1/(\w+)`, `/v2/$1$1`, `v2`, `v3`)
			},
			record.Record{
				Method: "GET", Authority: "a", Path: "/v1/x?/v1/x",
				Headers: []record.Header{{Name: "authorization", Value: "a"}, {Name: "authorization", Value: "b"}, {Name: "x-gone", Value: ""}, {Name: "user-agent", Value: "a"}},
			},
			"GET /base/v2/xx?/v1/x HTTP/1.1\r\nHost: api.example\r\nauthorization: Bearer t\r\n" + own + "idempotency-key: k\r\nuser-agent: crowd\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config("")
			if test.change != nil {
				test.change(&c)
			}
			_, body, _ := strings.Cut(test.want, "\r\n\r\n")
			got := bytesOf(t, c, test.record, len(body))
			if i := strings.Index(got, "Host: 127.0.0.1:"); i >= 0 {
				line, _, _ := strings.Cut(got[i:], "\r\n")
				got = strings.Replace(got, line, "Host: TARGET", 1)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What arrives over HTTP/2, as it stands in its frames.
func TestFieldsOverHTTP2(t *testing.T) {
	for name, test := range map[string]struct {
		record record.Record
		want   []string
	}{
		"a post with trailers": {
			record.Record{
				Method: "PATCH", Authority: "shop.example", Path: "/a/%2f%zz/?q=%2|",
				Headers: []record.Header{
					{Name: "x-b", Value: "2"}, {Name: "x-b", Value: "1"}, {Name: "user-agent", Value: "curl/8"}, {Name: "user-agent", Value: "b"}, {Name: "connection", Value: "close"},
				},
				Trailers: []record.Header{{Name: "x-sum", Value: "1"}},
				Body:     []byte("a\x00b"),
			},
			[]string{
				":authority: shop.example", ":method: PATCH", ":path: /a/%2f%zz/?q=%2|", ":scheme: http", "DATA a\x00b", "END",
				"trailer: X-Sum", "user-agent: curl/8 b", "x-b: 1", "x-b: 2", "x-sum: 1",
			},
		},
		"a get": {
			record.Record{Method: "GET", Authority: "a", Path: "/"},
			[]string{":authority: a", ":method: GET", ":path: /", ":scheme: http", "END"},
		},
		"two slashes": {
			record.Record{Method: "GET", Authority: "a", Path: "//x/%41?//"},
			[]string{":authority: a", ":method: GET", ":path: //x/%41?//", ":scheme: http", "END"},
		},
		"two slashes and an escape that is none": {
			record.Record{Method: "GET", Authority: "", Path: "//x/%zz?%"},
			[]string{":authority: TARGET", ":method: GET", ":path: //x/%zz?%", ":scheme: http", "END"},
		},
		"an asterisk": {
			record.Record{Method: "OPTIONS", Authority: "a", Path: "*"},
			[]string{":authority: a", ":method: OPTIONS", ":path: *", ":scheme: http", "END"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan []string, 1)
			c := config(listen(t, func(conn net.Conn) { serveFrames(conn, arrived) }))
			c.HTTP1, c.HTTP2 = false, true
			if o := newSender(t, c).Send(t.Context(), attempt(test.record)); o.Verdict != flow.Delivered {
				t.Fatalf("%+v", o)
			}
			want := append(test.want, "crowd-age: 90", "crowd-attempt: 2", "crowd-record-id: "+id.String(), "idempotency-key: "+id.String())
			slices.Sort(want)
			got := <-arrived
			for i := range got {
				got[i] = strings.ReplaceAll(got[i], strings.TrimPrefix(c.Target, "http://"), "TARGET")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// serveFrames answers one request over HTTP/2 by hand, and returns its fields and data in order of their text.
func serveFrames(conn net.Conn, arrived chan<- []string) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return
	}
	var got []string
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				got = append(got, field.Name+": "+field.Value)
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			if len(frame.Data()) > 0 {
				got = append(got, "DATA "+string(frame.Data()))
			}
			ended = frame.StreamEnded()
		}
		if ended {
			got = append(got, "END")
			slices.Sort(got)
			arrived <- got
			var block bytes.Buffer
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.Header().StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
	}
}

// Every way to speak gives the target the same request.
func TestProtocols(t *testing.T) {
	type request struct {
		Proto, Method, URI, Host, Body string
		Header, Trailer                http.Header
	}
	var got request
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = request{r.Proto, r.Method, r.RequestURI, r.Host, string(body), r.Header, r.Trailer}
		w.WriteHeader(202)
	})
	r := record.Record{
		Method: "PUT", Authority: "shop.example", Path: "//a%2F?b", Headers: []record.Header{{Name: "x-a", Value: "1"}},
		Body: bytes.Repeat([]byte("body"), 100_000), Trailers: []record.Header{{Name: "x-t", Value: "t"}},
	}
	for name, test := range map[string]struct {
		tls, http1, http2 bool
		server            func(*http.Protocols)
		want              string
	}{
		"HTTP/1.1":                {false, true, false, nil, "HTTP/1.1"},
		"auto":                    {false, true, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }, "HTTP/1.1"},
		"h2c":                     {false, false, true, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0"},
		"TLS, HTTP/1.1":           {true, true, false, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, "HTTP/1.1"},
		"TLS, auto":               {true, true, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, "HTTP/2.0"},
		"TLS, auto, has HTTP/1.1": {true, true, true, func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		"TLS, HTTP/2":             {true, false, true, func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) }, "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			if test.server != nil {
				server.Config.Protocols = new(http.Protocols)
				test.server(server.Config.Protocols)
			}
			c := config("")
			c.HTTP1, c.HTTP2 = test.http1, test.http2
			if test.tls {
				server.EnableHTTP2 = server.Config.Protocols.HTTP2()
				server.StartTLS()
				c.CA = writePEM(t, "CERTIFICATE", server.Certificate().Raw)
			} else {
				server.Start()
			}
			t.Cleanup(server.Close)
			c.Target = server.URL + "/base/"
			if o := newSender(t, c).Send(t.Context(), attempt(r)); o.Verdict != flow.Delivered || o.Status != 202 || o.Took <= 0 {
				t.Fatalf("%+v", o)
			}
			want := request{
				test.want, "PUT", "/base//a%2F?b", "shop.example", string(r.Body),
				http.Header{
					"X-A": {"1"}, "Crowd-Age": {"90"}, "Crowd-Attempt": {"2"}, "Crowd-Record-Id": {id.String()}, "Idempotency-Key": {id.String()},
				},
				http.Header{"X-T": {"t"}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
