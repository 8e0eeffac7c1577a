package load_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/e2e/load"
)

// server answers as status says, and counts whole requests.
func server(t *testing.T, status func(n int64) int) (address string, whole *atomic.Int64) {
	whole = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "hello" {
			t.Errorf("body %q, error %v", body, err)
		}
		w.Header().Set("content-length", "4")
		w.WriteHeader(status(whole.Add(1)))
		_, _ = io.WriteString(w, "seen")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), whole
}

func TestRequestsAreCountedByStatus(t *testing.T) {
	address, _ := server(t, func(n int64) int {
		if n%10 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	r, err := load.Run(t.Context(), load.Config{
		Address: address, Request: load.Post("shop.example", "/leads", []byte("hello")), Connections: 7, Requests: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[int]int{200: 900, 503: 100}, r.Statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if n := r.Latency.TotalCount(); n != 1000 {
		t.Errorf("%d latencies", n)
	}
	if r.Quantile(50) > r.Quantile(99) || r.Quantile(99) > r.Elapsed*101/100 || r.Rate() <= 0 {
		t.Errorf("p50 %v, p99 %v, %.0f/s in %v", r.Quantile(50), r.Quantile(99), r.Rate(), r.Elapsed)
	}
}

func TestADurationEndsWithEveryAnswer(t *testing.T) {
	address, whole := server(t, func(int64) int { return http.StatusOK })
	r, err := load.Run(t.Context(), load.Config{
		Address: address, Request: load.Post("shop.example", "/leads", []byte("hello")), Connections: 3, Duration: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := int(whole.Load()); r.Answers() != n || n == 0 || r.Unanswered != 0 {
		t.Errorf("%d answers, %d unanswered, %d requests seen", r.Answers(), r.Unanswered, n)
	}
	if r.Elapsed < 50*time.Millisecond {
		t.Errorf("ended after %v", r.Elapsed)
	}
}

func TestAPaceIsKept(t *testing.T) {
	address, _ := server(t, func(int64) int { return http.StatusOK })
	const clients, requests, pace = 4, 20, 10 * time.Millisecond
	r, err := load.Run(t.Context(), load.Config{
		Address: address, Request: load.Post("shop.example", "/leads", []byte("hello")), Connections: clients, Requests: requests, Pace: pace,
	})
	if err != nil {
		t.Fatal(err)
	}
	if least := pace * (requests - clients) / clients; r.Answers() != requests || r.Elapsed < least {
		t.Errorf("%d answers in %v, want %d, and not within less than %v", r.Answers(), r.Elapsed, requests, least)
	}
}

func TestBrokenConnectionsAreReplaced(t *testing.T) {
	var all atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := all.Add(1); {
		case n%4 == 0:
			panic(http.ErrAbortHandler) // closes the connection
		case n%4 == 1:
			w.Header().Set("connection", "close")
		}
		w.Header().Set("content-length", "0")
	}))
	defer s.Close()
	r, err := load.Run(t.Context(), load.Config{
		Address: strings.TrimPrefix(s.URL, "http://"), Request: load.Post("shop.example", "/", nil), Connections: 2, Requests: 40,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Statuses[200] != 30 || r.Unanswered != 10 {
		t.Errorf("%v, %d unanswered; want 30 and 10", r.Statuses, r.Unanswered)
	}
}

func TestAnswersThatAreNotUnderstood(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"},
		{"HTTP/1.1 200 OK\r\n\r\n", "no content-length"},
		{"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "content-length: x"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "100 Continue"},
		{"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.0"},
		{"SSH-2.0\r\n", "SSH-2.0"},
		{strings.Repeat("x", 5000), "buffer full"},
	} {
		t.Run(c.want, func(t *testing.T) {
			r, err := load.Run(t.Context(), load.Config{
				Address: raw(t, c.answer), Request: load.Post("shop.example", "/", nil), Connections: 1, Requests: 1,
			})
			if err == nil || !strings.Contains(err.Error(), c.want) || r.Answers() > 0 {
				t.Errorf("%d answers, error %v; want none and %q", r.Answers(), err, c.want)
			}
		})
	}
}

// raw answers every connection with the same bytes, whatever it asks.
func raw(t *testing.T, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
		}
	}()
	return l.Addr().String()
}

func TestAnEndOfTheContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices a client that leaves only then
		<-r.Context().Done()
	}))
	defer s.Close()
	_, err := load.Run(ctx, load.Config{
		Address: strings.TrimPrefix(s.URL, "http://"), Request: load.Post("shop.example", "/", nil), Connections: 1, Requests: 1,
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want %v", err, context.Canceled)
	}
}

func TestConfigWithoutAnEnd(t *testing.T) {
	if _, err := load.Run(t.Context(), load.Config{Connections: 1}); err == nil {
		t.Error("no error")
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc/pid/stat")
	}
	before, err := load.UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.Resident < 1<<20 {
		t.Errorf("%d bytes resident", before.Resident)
	}
	for began := time.Now(); ; { // until what is spun here shows
		after, err := load.UsageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU >= before.CPU+50*time.Millisecond {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("CPU %v after %v of work", after.CPU-before.CPU, time.Since(began))
		}
	}
	if _, err := load.UsageOf(-1); err == nil {
		t.Error("no error for a process that cannot be")
	}
}
