package request

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

func TestHeaderFromAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write(t, path, " Bearer one\n")
		var logged bytes.Buffer
		c := config("http://target")
		c.Set = []Header{{Name: "Authorization", File: path}}
		c.Log = slog.New(slog.NewTextHandler(&logged, nil))
		s := newSender(t, c)
		now := func() string {
			r, err := s.request(attempt(get))
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(map[string][]string(r.Header)["authorization"], "|")
		}
		for i, step := range []struct {
			text   string
			wait   time.Duration
			want   string
			logged int // lines so far
		}{
			{"Bearer one", 0, "Bearer one", 0},
			{"Bearer two", checkInterval - 1, "Bearer one", 0}, // too early to look
			{"Bearer two", 1, "Bearer two", 0},
			{"", checkInterval, "Bearer two", 1}, // half written
			{"", checkInterval, "Bearer two", 1},
			{"a\nb", checkInterval, "Bearer two", 2},
			{"-", checkInterval, "Bearer two", 3}, // gone
			{"Bearer two", checkInterval, "Bearer two", 3},
			{"", checkInterval, "Bearer two", 4}, // again
			{"Bearer three", checkInterval, "Bearer three", 4},
		} {
			write(t, path, step.text)
			if step.text == "-" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(step.wait)
			if got := now(); got != step.want || strings.Count(logged.String(), "\n") != step.logged {
				t.Errorf("step %d: %q, want %q; logged:\n%s", i, got, step.want, &logged)
			}
		}
		if strings.Contains(logged.String(), "Bearer") {
			t.Errorf("a secret is in the log:\n%s", &logged)
		}
	})
}

func TestUnsendable(t *testing.T) {
	s := newSender(t, func() Config {
		c := config("http://target/base")
		c.Paths = rewrites(`^/gone`, "")
		return c
	}())
	header := func(name, value string) []record.Header { return []record.Header{{Name: name, Value: value}} }
	for _, test := range []struct {
		record record.Record
		want   string
	}{
		{record.Record{Path: "/"}, `the record has no method`},
		{record.Record{Method: "GE T", Path: "/"}, `"GE T" is no method`},
		{record.Record{Method: "GET\r\n", Path: "/"}, `"GET\r\n" is no method`},
		{record.Record{Method: "CONNECT", Path: "/"}, `CONNECT asks for a tunnel, which cannot be sent again`},
		{record.Record{Method: "GET"}, `the record has no path`},
		{record.Record{Method: "GET", Path: "a"}, `the path "a" does not begin with a slash`},
		{record.Record{Method: "GET", Path: "http://a/"}, `the path "http://a/" does not begin with a slash`},
		{record.Record{Method: "OPTIONS", Path: "*"}, `the path "*" does not begin with a slash`}, // the target has a path
		{record.Record{Method: "GET", Path: "/gone"}, `the path "/gone", rewritten, is "", which does not begin with a slash`},
		{record.Record{Method: "GET", Path: "/a b"}, `the path "/a b" has a space or a control character`},
		{record.Record{Method: "GET", Path: "/?a\x00b"}, `the path "/?a\x00b" has a space or a control character`},
		{record.Record{Method: "GET", Path: "/ HTTP/1.1\r\nX: y"}, `the path "/ HTTP/1.1\r\nX: y" has a space or a control character`},
		{record.Record{Method: "GET", Path: "/", Authority: "a/b"}, `"a/b" is no host`},
		{record.Record{Method: "GET", Path: "/", Authority: "a\r\nb"}, `"a\r\nb" is no host`},
		{record.Record{Method: "GET", Path: "/", Authority: "bücher.example"}, `"bücher.example" is no host`},
		{record.Record{Method: "GET", Path: "/", Headers: header("", "x")}, `"" is no name of a header`},
		{record.Record{Method: "GET", Path: "/", Headers: header("a b", "x")}, `"a b" is no name of a header`},
		{record.Record{Method: "GET", Path: "/", Headers: header(":status", "200")}, `":status" is no name of a header`},
		{record.Record{Method: "GET", Path: "/", Headers: header("x-\u212aey", "x")}, "\"x-\u212aey\" is no name of a header"}, // a Kelvin sign's lower case is k
		{record.Record{Method: "GET", Path: "/", Headers: header("x", "secret\n")}, `the header "x" has a control character in its value`},
		{record.Record{Method: "GET", Path: "/", Trailers: header("x", "\x00")}, `the trailer "x" has a control character in its value`},
		{record.Record{Method: "GET", Path: "/", Trailers: header("x:", "")}, `"x:" is no name of a trailer`},
	} {
		a := attempt(test.record)
		o := s.Send(t.Context(), a)
		if o.Verdict != flow.Unsendable || o.Reason != test.want {
			t.Errorf("%+v\nwant %s", o, test.want)
		}
		if _, err := s.Describe(a.Message); err == nil || err.Error() != test.want {
			t.Errorf("described: %v, want %s", err, test.want)
		}
	}
	a := attempt(get)
	a.Unreadable = "no headers"
	if o := s.Send(t.Context(), a); o.Reason != "no headers" {
		t.Errorf("%+v", o)
	}
}
