package request

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// A server that closes connections while they are kept sees each attempt once at most: what net/http would send again by
// itself fails here, for the engine to count.
func TestNothingIsSentTwice(t *testing.T) {
	for name, r := range map[string]record.Record{
		"GET":                   {Method: "GET", Authority: "a", Path: "/"},
		"POST without a body":   {Method: "POST", Authority: "a", Path: "/"},
		"POST":                  {Method: "POST", Authority: "a", Path: "/", Body: []byte("x")},
		"DELETE, and its key":   {Method: "DELETE", Authority: "a", Path: "/", Headers: []record.Header{{Name: "Idempotency-Key", Value: "k"}}},
		"PUT with its trailers": {Method: "PUT", Authority: "a", Path: "/", Trailers: []record.Header{{Name: "a", Value: "b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int64
			c := config(listen(t, func(conn net.Conn) {
				reader := bufio.NewReader(conn)
				for range 2 { // the second is read, and not answered
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					if seen.Add(1)%2 == 0 {
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			}))
			s := newSender(t, c)
			for i := range 20 {
				want := flow.Delivered
				if i%2 == 1 {
					want = flow.Failed
				}
				if o := s.Send(t.Context(), attempt(r)); o.Verdict != want {
					t.Fatalf("attempt %d: %+v", i, o)
				}
			}
			if seen.Load() != 20 {
				t.Errorf("the server has seen %d requests of 20", seen.Load())
			}
		})
	}
}

// So with HTTP/2, unless the server says that it has not processed a request.
func TestWhatIsSentTwiceOverHTTP2(t *testing.T) {
	for name, test := range map[string]struct {
		refuse func(*http2.Framer, uint32) error
		seen   int64 // for each attempt
	}{
		"refused":     {func(f *http2.Framer, id uint32) error { return f.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, 1 + maxRepeats},
		"goes away":   {func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) }, 1 + maxRepeats},
		"a violation": {func(f *http2.Framer, id uint32) error { return f.WriteRSTStream(id, http2.ErrCodeProtocol) }, 1},
		"canceled":    {func(f *http2.Framer, id uint32) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) }, 1},
		"processed":   {func(f *http2.Framer, id uint32) error { _ = f.WriteGoAway(id, http2.ErrCodeNo, nil); return io.EOF }, 1},
		"closed":      {func(*http2.Framer, uint32) error { return io.EOF }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int64
			c := config(listen(t, func(conn net.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
				framer := http2.NewFramer(conn, conn)
				_ = framer.WriteSettings()
				for {
					frame, err := framer.ReadFrame()
					if err != nil {
						return
					}
					if _, ok := frame.(*http2.HeadersFrame); ok {
						seen.Add(1)
						if test.refuse(framer, frame.Header().StreamID) != nil {
							return
						}
					}
				}
			}))
			c.HTTP1, c.HTTP2 = false, true
			s := newSender(t, c)
			const attempts = 5
			r := record.Record{Method: "POST", Authority: "a", Path: "/", Body: []byte("x")}
			for range attempts {
				if o := s.Send(t.Context(), attempt(r)); o.Verdict != flow.Failed {
					t.Fatalf("%+v", o)
				}
			}
			if seen.Load() != attempts*test.seen {
				t.Errorf("the server has seen %d requests for %d attempts", seen.Load(), attempts)
			}
		})
	}
}

// counting counts the connections of a server, and how many are open.
type counting struct{ made, open, most atomic.Int64 }

func (c *counting) state(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.made.Add(1)
		c.most.Store(max(c.most.Load(), c.open.Add(1)))
	case http.StateClosed:
		c.open.Add(-1)
	}
}

// All connections are used again at full concurrency, and there are no more of them than it needs.
func TestConnectionsAreUsedAgain(t *testing.T) {
	const concurrency, rounds = 50, 20
	for name, test := range map[string]struct {
		http2 bool
		limit int // of HTTP/2's streams
		most  int64
	}{
		"HTTP/1.1": {false, 0, concurrency}, "HTTP/2": {true, 100, concurrency / unknownRoom}, "HTTP/2 with few streams": {true, 20, 10}, "HTTP/2 with very few": {true, 3, 40},
	} {
		t.Run(name, func(t *testing.T) {
			var together sync.WaitGroup // the requests of a round
			var connections counting
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if test.limit >= concurrency || !test.http2 {
					together.Done()
					together.Wait()
				}
				_, _ = io.WriteString(w, "ok")
			}))
			server.Config.ConnState = connections.state
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(!test.http2)
			server.Config.Protocols.SetUnencryptedHTTP2(test.http2)
			server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: test.limit}
			server.Start()
			defer server.Close()
			c := config(server.URL)
			c.HTTP1, c.HTTP2 = !test.http2, test.http2
			s := newSender(t, c)
			for range rounds {
				together.Add(concurrency)
				var wg sync.WaitGroup
				for range concurrency {
					wg.Go(func() {
						r := record.Record{Method: "POST", Authority: "a", Path: "/", Body: []byte("x")}
						if o := s.Send(t.Context(), attempt(r)); o.Verdict != flow.Delivered {
							t.Errorf("%+v", o)
						}
					})
				}
				wg.Wait()
			}
			if made := connections.made.Load(); made > test.most {
				t.Errorf("%d connections for %d requests at once, want at most %d", made, concurrency, test.most)
			}
		})
	}
}

// pipes is a network in memory, for bubbles of synctest.
type pipes struct{ connections counting }

// dial returns what makes connections to a server that answers everything.
func (p *pipes) pool() *pool {
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			p.connections.state(nil, http.StateNew)
			go func() {
				saying("HTTP/1.1 204 No Content\r\n\r\n", nil)(server)
				p.connections.state(nil, http.StateClosed)
			}()
			return client, nil
		},
	}
	transport.Protocols.SetHTTP1(true)
	return newPool(func(ctx context.Context) (*http.ClientConn, error) {
		return transport.NewClientConn(ctx, "http", "target:80")
	}, false)
}

func (p *pipes) send(t *testing.T, on *pool) {
	t.Helper()
	c, err := on.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer on.put(c)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

// A connection without requests is closed after a while, and one with requests too, lest it outlive what its name leads to.
func TestConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network pipes
		p := network.pool()
		made, open := &network.connections.made, &network.connections.open
		for range 10 {
			network.send(t, p)
			time.Sleep(idleTimeout - time.Second)
		}
		if made.Load() < 2 || made.Load() > 4 { // 15 minutes, 5 minutes each
			t.Errorf("%d connections in 10 × %v", made.Load(), idleTimeout)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if open.Load() != 0 {
			t.Errorf("%d connections are open after %v without requests", open.Load(), idleTimeout)
		}
		before := made.Load()
		network.send(t, p)
		c, err := p.get(t.Context())
		if err != nil || made.Load() != before+1 {
			t.Fatalf("%d connections instead of one: %v", made.Load()-before, err)
		}
		p.close()
		if synctest.Wait(); open.Load() != 1 {
			t.Errorf("%d connections are open while one has a request", open.Load())
		}
		p.put(c)
		if synctest.Wait(); open.Load() != 0 {
			t.Errorf("%d connections are open after the end", open.Load())
		}
	})
}

// One that the server has closed while it was idle is not used.
func TestConnectionsThatTheServerCloses(t *testing.T) {
	var connections counting
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = connections.state
	server.Start()
	defer server.Close()
	s := newSender(t, config(server.URL))
	for range 5 {
		if o := s.Send(t.Context(), attempt(get)); o.Verdict != flow.Delivered {
			t.Fatalf("%+v", o)
		}
		s.pool.mu.Lock()
		c := s.pool.free[0]
		s.pool.mu.Unlock()
		server.CloseClientConnections()
		for c.Err() == nil {
			time.Sleep(time.Millisecond) // the client sees it
		}
	}
	if connections.made.Load() != 5 {
		t.Errorf("%d connections", connections.made.Load())
	}
}
