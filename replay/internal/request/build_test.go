package request

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// rewrites are pairs of a pattern and a substitution.
func rewrites(pairs ...string) (all []PathRewrite) {
	for pair := range slices.Chunk(pairs, 2) {
		all = append(all, PathRewrite{regexp.MustCompile(pair[0]), pair[1]})
	}
	return all
}

func TestDescribe(t *testing.T) {
	c := config("https://api.example:8443/base/")
	c.Paths = rewrites(`^/v1/`, `/v2/`)
	for host, test := range map[string]struct {
		record record.Record
		want   string
	}{
		"":                 {record.Record{Method: "POST", Authority: "shop.example", Path: "/v1/a?b"}, "POST https://api.example:8443/base/v2/a?b (host shop.example)"},
		"api.example:8443": {record.Record{Method: "POST", Authority: "shop.example", Path: "//v1/"}, "POST https://api.example:8443/base//v1/"},
	} {
		c.Host = host
		got, err := newSender(t, c).Describe(attempt(test.record).Message)
		if err != nil || got != test.want {
			t.Errorf("%s, %v; want %s", got, err, test.want)
		}
	}
}

// What has no id gets a key of its own nevertheless: with the same one for all, an API would drop all but one.
func TestKeyWithoutAnID(t *testing.T) {
	s := newSender(t, config("http://target"))
	a := attempt(get)
	a.Record.ID = record.ID{}
	r, err := s.request(a)
	if err != nil || !slices.Equal(map[string][]string(r.Header)[idempotencyKey], []string{"leads-3-42"}) {
		t.Errorf("%v, %v", r, err)
	}
}

// arrival is what a server has read.
type arrival struct {
	Method, URI, Host, Body string
	Header, Trailer         http.Header
}

// FuzzSend sends whatever a record can hold. Nothing panics, the verdict is one of those that can be, and what arrives is
// what was recorded.
func FuzzSend(f *testing.F) {
	f.Add("POST", "shop.example", "/a?b#c", "accept", "*/*", "x-a", "1", "x-t", "t", []byte("body"), int64(0), false)
	f.Add("GET", "", "//x/%zz", "X-A", " 1\t", "x-a", "\xff", "", "", []byte(nil), int64(5), true)
	f.Add("OPTIONS", "[::1]:80", "*", "user-agent", "a", "user-agent", "b", "te", "trailers", []byte{0}, int64(-5), true)
	f.Add("M-SEARCH", "a", "/%2f%2F//..", "connection", "x-a", "x-a", "gone", "trailer", "x", []byte("\r\n"), int64(1), false)
	f.Add("GET", "a", "//%2", "cookie", "a=b;c", "cookie", "d", "crowd-x", "1", []byte("x"), int64(1), true)
	f.Add("PUT", "a", "/", "idempotency-key", "k", "", "", "content-length", "7", []byte("x"), int64(1), true)
	f.Add("CONNECT", "a\r\n", "/ \r\n", "a b", "\n", ":path", "x", "\x00", "\x00", []byte("x"), int64(1), false)

	arrived := make(chan *arrival, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case arrived <- &arrival{r.Method, r.RequestURI, r.Host, string(body), r.Header, r.Trailer}:
		default: // nobody has taken the last one
		}
	})
	http1 := httptest.NewUnstartedServer(handler)
	http1.Config.DisableGeneralOptionsHandler = true
	http1.Start()
	f.Cleanup(http1.Close)
	unread := newSender(f, config(listen(f, discards)))
	s := newSender(f, config(http1.URL))
	f.Fuzz(func(t *testing.T, method, host, path, name1, value1, name2, value2, trailerName, trailerValue string, body []byte, age int64, trailers bool) {
		r := record.Record{
			Method: method, Authority: host, Path: path, Body: body,
			Headers: []record.Header{{Name: name1, Value: value1}, {Name: name2, Value: value2}},
		}
		if trailers {
			r.Trailers = []record.Header{{Name: trailerName, Value: trailerValue}}
		}
		a := attempt(r)
		o := unread.Send(t.Context(), a)
		described, err := unread.Describe(a.Message)
		switch {
		case o.Verdict == flow.Unsendable && o.Reason != "" && err != nil:
			return
		case o.Verdict != flow.Delivered || err != nil || described == "":
			t.Fatalf("%+v; described: %q, %v", o, described, err)
		}
		// net/http's server refuses some of what may be sent, such as a path that is not well escaped, or an odd host.
		if o := s.Send(t.Context(), a); o.Verdict != flow.Delivered {
			if o.Status != 400 && o.Status != 417 || len(arrived) > 0 {
				t.Errorf("%+v", o)
			}
			return
		}
		got := <-arrived
		want := &arrival{Method: method, URI: path, Host: host, Body: string(body), Header: http.Header{}}
		if host == "" {
			want.Host = strings.TrimPrefix(http1.URL, "http://")
		}
		if strings.HasPrefix(got.URI, "http://") { // see url
			got.URI = strings.TrimPrefix(got.URI, "http://"+want.Host)
		}
		named := namedByConnection(r.Headers)
		for _, h := range r.Headers {
			name := strings.ToLower(h.Name)
			if connectionHeaders[name] || slices.Contains(named, name) || strings.HasPrefix(name, "crowd-") {
				continue
			}
			key := http.CanonicalHeaderKey(name)
			want.Header[key] = append(want.Header[key], strings.Trim(h.Value, " \t"))
		}
		if agents := want.Header["User-Agent"]; len(agents) > 1 {
			want.Header["User-Agent"] = []string{strings.Join(agents, " ")}
		}
		if want.Header["Idempotency-Key"] == nil {
			want.Header["Idempotency-Key"] = []string{id.String()}
		}
		for _, own := range []string{"Crowd-Age", "Crowd-Attempt", "Crowd-Record-Id", "Content-Length", "Te"} { // tested elsewhere
			delete(got.Header, own)
		}
		if trailers && !connectionHeaders[strings.ToLower(trailerName)] {
			want.Trailer = http.Header{http.CanonicalHeaderKey(trailerName): {strings.Trim(trailerValue, " \t")}}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// discards answers requests over HTTP/1.1 without understanding more of them than where they end.
func discards(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		head, err := readHead(reader)
		if err != nil {
			return
		}
		length, chunked := 0, false
		for line := range strings.SplitSeq(head, "\r\n") {
			if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(n)
			}
			chunked = chunked || line == "Transfer-Encoding: chunked"
		}
		if _, err := reader.Discard(length); err != nil {
			return
		}
		if chunked {
			_, err := io.Copy(io.Discard, httputil.NewChunkedReader(reader))
			for line := ""; err == nil && line != "\r\n"; { // the trailers
				line, err = reader.ReadString('\n')
			}
			if err != nil {
				return
			}
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}
