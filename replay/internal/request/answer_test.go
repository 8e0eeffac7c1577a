package request

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

var get = record.Record{Method: "GET", Authority: "a", Path: "/"}

// saying answers every request with the same bytes, and then does what is given; by default it serves on.
func saying(answer string, then func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			if _, err := readHead(reader); err != nil {
				return
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
			if then != nil {
				then(conn)
				return
			}
		}
	}
}

func closes(net.Conn) {}

func hangs(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// resets closes with a RST.
func resets(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

// repeats sends the same for as long as it is taken.
func repeats(text string, pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
}

func TestAnswers(t *testing.T) {
	const short = 300 * time.Millisecond
	status := func(status int, header, body string) string {
		return fmt.Sprintf("HTTP/1.1 %d What\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
	}
	for name, test := range map[string]struct {
		serve   func(net.Conn)
		verdict flow.Verdict
		status  int
		answer  string
		reason  string // begins so
		after   time.Duration
	}{
		"expected":              {saying(status(200, "", "ok"), nil), flow.Delivered, 200, "ok", "", 0},
		"rejected":              {saying(status(404, "", "no such lead"), nil), flow.Rejected, 404, "no such lead", "answered 404 Not Found", 0},
		"a status of its own":   {saying(status(499, "", ""), nil), flow.Rejected, 499, "", "answered 499", 0},
		"far off":               {saying(status(999, "", ""), nil), flow.Rejected, 999, "", "answered 999", 0},
		"to be tried again":     {saying(status(503, "Retry-After: 7\r\n", "busy"), nil), flow.Failed, 503, "busy", "answered 503 Service Unavailable", 7 * time.Second},
		"a redirect":            {saying(status(301, "Location: http://b/\r\n", ""), nil), flow.Rejected, 301, "", `answered 301 Moved Permanently to "http://b/", and redirects are not followed`, 0},
		"informational first":   {saying("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"+status(200, "", "ok"), nil), flow.Delivered, 200, "ok", "", 0},
		"informational only":    {saying("", repeats("HTTP/1.1 103 Early Hints\r\n\r\n", time.Millisecond)), flow.Failed, 0, "", "no answer within 300ms", 0},
		"informational, much":   {saying("", repeats("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("a", 4000)+"\r\n\r\n", 0)), flow.Failed, 0, "", "no answer: ", 0},
		"another protocol":      {saying("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", hangs), flow.Failed, 101, "", "answered 101", 0},
		"nothing":               {saying("", hangs), flow.Failed, 0, "", "no answer within 300ms", 0},
		"closed at once":        {func(net.Conn) {}, flow.Failed, 0, "", "no answer: ", 0},
		"closed instead":        {saying("", closes), flow.Failed, 0, "", "no answer: ", 0},
		"reset instead":         {saying("", resets), flow.Failed, 0, "", "no answer: ", 0},
		"garbage":               {saying("\x00\xff\r\n\r\n", hangs), flow.Failed, 0, "", "no answer: ", 0},
		"another language":      {saying("SSH-2.0-OpenSSH_9\r\n", hangs), flow.Failed, 0, "", "no answer: ", 0},
		"half a head":           {saying("HTTP/1.1 200 OK\r\nContent-Le", closes), flow.Failed, 0, "", "no answer: ", 0},
		"an endless head":       {saying("HTTP/1.1 200 OK\r\n", repeats("X-A: b\r\n", 0)), flow.Failed, 0, "", "no answer: ", 0},
		"an endless line":       {saying("HTTP/1.1 200 OK\r\nX-A: ", repeats(strings.Repeat("b", 1000), 0)), flow.Failed, 0, "", "no answer: ", 0},
		"a dripping head":       {saying("HTTP/1.1 200 OK\r\nX-A: ", repeats("b", 10*time.Millisecond)), flow.Failed, 0, "", "no answer within 300ms", 0},
		"two lengths":           {saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", hangs), flow.Failed, 0, "", "no answer: ", 0},
		"bad chunks":            {saying("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", hangs), flow.Failed, 404, "", "answered 404 Not Found, but not all of it: ", 0},
		"expected, broken off":  {saying("HTTP/1.1 201 OK\r\nContent-Length: 5\r\n\r\nabc", closes), flow.Delivered, 201, "abc", "", 0},
		"expected, never ends":  {saying("HTTP/1.1 201 OK\r\n\r\n", hangs), flow.Delivered, 201, "", "", 0},
		"rejected, broken off":  {saying("HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nabc", closes), flow.Failed, 404, "abc", "answered 404 Not Found, but not all of it: unexpected EOF", 0},
		"rejected, never ends":  {saying("HTTP/1.1 404 No\r\n\r\nabc", hangs), flow.Failed, 404, "abc", "answered 404 Not Found, but not all of it within 300ms", 0},
		"retriable, broken off": {saying("HTTP/1.1 500 No\r\nRetry-After: 1\r\nContent-Length: 5\r\n\r\n", closes), flow.Failed, 500, "", "answered 500 Internal Server Error, but not all", time.Second},
		"endless":               {saying("HTTP/1.1 404 No\r\n\r\n", repeats(strings.Repeat("b", 1000), 0)), flow.Rejected, 404, strings.Repeat("b", maxKept), "answered 404", 0},
		"until the end":         {saying("HTTP/1.0 200 OK\r\n\r\nabc", closes), flow.Delivered, 200, "abc", "", 0},
		"long":                  {saying(status(400, "", strings.Repeat("c", 3*maxRead)), nil), flow.Rejected, 400, strings.Repeat("c", maxKept), "answered 400", 0},
		"packed, and left so":   {saying(status(200, "Content-Encoding: gzip\r\n", "no gzip"), nil), flow.Delivered, 200, "no gzip", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(listen(t, test.serve))
			if strings.Contains(test.reason, short.String()) || name == "expected, never ends" {
				c.Timeout = short
			}
			s := newSender(t, c)
			for range 2 { // on another connection, or the same again
				began := time.Now()
				o := s.Send(t.Context(), attempt(get))
				if o.Verdict != test.verdict || o.Status != test.status || string(o.Answer) != test.answer || o.RetryAfter != test.after {
					t.Errorf("%+v", o)
				}
				if !strings.HasPrefix(o.Reason, test.reason) || (test.reason == "") != (o.Reason == "") || len(o.Reason) > maxReason+3 {
					t.Errorf("reason %q", o.Reason)
				}
				if took := time.Since(began); took > c.Timeout+2*time.Second || o.Took > took {
					t.Errorf("took %v, and says %v", took, o.Took)
				}
			}
		})
	}
}

func TestNoTarget(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, http2 := range []bool{false, true} {
		c := config("http://" + l.Addr().String())
		c.HTTP1, c.HTTP2 = !http2, http2
		if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != flow.Failed || !strings.Contains(o.Reason, "connection refused") {
			t.Errorf("%+v", o)
		}
	}
}

// Whoever ends the process cuts attempts off, wherever they are.
func TestCanceled(t *testing.T) {
	for name, answer := range map[string]string{"before the answer": "", "within one that is not expected": "HTTP/1.1 404 No\r\n\r\nabc"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := config(listen(t, saying(answer, func(conn net.Conn) { cancel(); hangs(conn) })))
		if o := newSender(t, c).Send(ctx, attempt(get)); o.Verdict != flow.Canceled {
			t.Errorf("%s: %+v", name, o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := config(listen(t, saying("HTTP/1.1 200 OK\r\n\r\nabc", func(conn net.Conn) { cancel(); hangs(conn) })))
	if o := newSender(t, c).Send(ctx, attempt(get)); o.Verdict != flow.Delivered && o.Verdict != flow.Canceled {
		t.Errorf("within an expected one: %+v", o)
	}
	if o := newSender(t, c).Send(ctx, attempt(get)); o.Verdict != flow.Canceled {
		t.Errorf("before the beginning: %+v", o)
	}
}

// A server may answer before it has read a body, and go on reading, or not.
func TestAnswerBeforeTheBody(t *testing.T) {
	r := record.Record{Method: "POST", Authority: "a", Path: "/", Body: make([]byte, 16<<20)}
	for name, then := range map[string]func(net.Conn){"reads on": hangs, "reads no more": func(net.Conn) { <-t.Context().Done() }} {
		c := config(listen(t, saying("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", then)))
		if o := newSender(t, c).Send(t.Context(), attempt(r)); o.Verdict != flow.Rejected || o.Status != 413 {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestHTTP2Answers(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			<-r.Context().Done()
		case "/resets":
			panic(http.ErrAbortHandler)
		case "/breaks-off":
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/breaks-off-expected":
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/endless":
			w.WriteHeader(404)
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1000))
			}
		case "/hints":
			w.WriteHeader(103)
			w.WriteHeader(204)
		case "/early":
			w.WriteHeader(413)
		}
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	c := config(server.URL)
	c.HTTP1, c.HTTP2 = false, true
	s := newSender(t, c)
	for path, want := range map[string]struct {
		verdict flow.Verdict
		status  int
	}{
		"/": {flow.Delivered, 200}, "/resets": {flow.Failed, 0}, "/breaks-off": {flow.Failed, 404},
		"/breaks-off-expected": {flow.Delivered, 200}, "/endless": {flow.Rejected, 404}, "/hints": {flow.Delivered, 204}, "/early": {flow.Rejected, 413},
	} {
		for range 3 {
			r := record.Record{Method: "POST", Authority: "a", Path: path, Body: make([]byte, 1<<20)}
			if o := s.Send(t.Context(), attempt(r)); o.Verdict != want.verdict || o.Status != want.status {
				t.Errorf("%s: %+v", path, o)
			}
		}
	}
	c.Timeout = 200 * time.Millisecond
	if o := newSender(t, c).Send(t.Context(), attempt(record.Record{Method: "GET", Path: "/hangs"})); o.Reason != "no answer within 200ms" || o.Took > 10*c.Timeout {
		t.Errorf("%+v", o)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 500, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "007": 7 * time.Second, "9223372036": 9223372036 * time.Second,
		"9223372037": math.MaxInt64, "99999999999999999999": math.MaxInt64,
		"-1": 0, "+1": 0, "1.5": 0, "1s": 0, " 1": 0, "soon": 0, "١": 0,
		"Sat, 28 Nov 2026 12:00:30 GMT": 30*time.Second - 500, "Sat, 28 Nov 2026 11:59:30 GMT": 0,
		"Saturday, 28-Nov-26 12:01:00 GMT": time.Minute - 500, "Sat Nov 28 12:00:01 2026": time.Second - 500,
		"Fri, 31 Dec 9999 23:59:59 GMT": math.MaxInt64, "Sat, 31 Feb 2026 12:00:30 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", int64(0))
	f.Add("Sat, 28 Nov 2026 12:00:30 GMT", int64(1_795_867_200))
	f.Add("-1", int64(-1))
	f.Fuzz(func(t *testing.T, value string, now int64) {
		if got := retryAfter(value, time.Unix(now%1e11, 0)); got < 0 {
			t.Errorf("%v", got)
		}
	})
}

func FuzzReason(f *testing.F) {
	f.Add("answered 404\x00\xff\n")
	f.Add(strings.Repeat("é", maxReason))
	f.Fuzz(func(t *testing.T, text string) {
		got := reason(text)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\n\x7f") || len(got) > 3*maxReason+3 {
			t.Errorf("%q", got)
		}
	})
}

// TestHeadersBeyondTheTargetsLimit sends what the other side has said that it does not take: no attempt can succeed.
func TestHeadersBeyondTheTargetsLimit(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.MaxHeaderBytes = 8 << 10
	server.Start()
	defer server.Close()
	c := config(server.URL)
	c.HTTP1, c.HTTP2 = false, true
	s := newSender(t, c)
	for _, test := range []struct {
		size int
		want flow.Verdict
	}{{100, flow.Delivered}, {20_000, flow.Unsendable}, {100, flow.Delivered}} {
		r := record.Record{Method: "GET", Authority: "a", Path: "/", Headers: []record.Header{{Name: "x-big", Value: strings.Repeat("x", test.size)}}}
		if o := s.Send(t.Context(), attempt(r)); o.Verdict != test.want {
			t.Errorf("%d bytes: %+v", test.size, o)
		}
	}
}
