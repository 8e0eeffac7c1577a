package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The kinds of requests that the load mixes.
const (
	kindJSON = iota
	kindBinary
	kindEmpty
	kindChunked
	kindTrailers
	kindExpect
	kinds
)

// idHeader names a request for its whole way.
const idHeader = "x-test-id"

// request is one request of a load, made from its number alone.
type request struct {
	id       int
	kind     int
	path     string
	body     []byte
	trailers http.Header
}

// makeRequest returns request i of a load on a path. Most bodies are small; some do not fit into Envoy's buffer.
func makeRequest(path string, i int, largest int) request {
	rnd := rand.New(rand.NewPCG(uint64(i), 42))
	r := request{id: i, kind: i % kinds, path: fmt.Sprintf("%s?n=%d", path, i)}
	n := rnd.IntN(1500)
	switch {
	case i%997 == 0:
		n = largest
	case i%101 == 0:
		n = rnd.IntN(300_000)
	}
	switch r.kind {
	case kindEmpty:
		return r
	case kindJSON:
		r.body = fmt.Appendf(nil, `{"id":%d,"pad":"%s"}`, i, bytes.Repeat([]byte("x"), n))
		return r
	case kindTrailers:
		r.trailers = http.Header{"X-Checksum": {strconv.Itoa(i)}}
	}
	r.body = make([]byte, n)
	for j := range r.body {
		r.body[j] = byte(rnd.Uint32())
	}
	return r
}

// answer is what the client saw.
type answer struct {
	status   int
	recordID string
	ack      string // the level reached
	took     time.Duration
	err      error
}

// send sends a request over a client's connection.
func (r *request) send(ctx context.Context, client *http.Client, base string) answer {
	began := time.Now()
	var body io.Reader
	if r.kind != kindEmpty {
		body = bytes.NewReader(r.body)
	}
	if r.kind == kindChunked || r.kind == kindTrailers {
		body = io.MultiReader(body) // hides the length
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, base+r.path, body)
	if err != nil {
		return answer{err: err}
	}
	q.Header.Set(idHeader, strconv.Itoa(r.id))
	q.Header["X-Twice"] = []string{"one", "two"}
	q.Header.Set("content-type", "application/octet-stream")
	if r.kind == kindExpect {
		q.Header.Set("expect", "100-continue")
	}
	q.Trailer = r.trailers
	response, err := client.Do(q)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && string(text) != `{"status":"OK"}` {
		err = fmt.Errorf("answer %q", text)
	}
	return answer{
		response.StatusCode, response.Header.Get("crowd-record-id"), response.Header.Get("crowd-ack"), time.Since(began), err,
	}
}

// text sends a request without a body and returns what the answer says.
func (r *request) text(t testing.TB, client *http.Client, base string) (status int, text string, err error) {
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+r.path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(q)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// newClient returns a client with one connection, HTTP/1.1 or HTTP/2 with prior knowledge.
func newClient(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			Protocols: protocols, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, ExpectContinueTimeout: 5 * time.Second,
		},
	}
}

// sendLoad sends requests 0 to n-1 over some connections, every other one HTTP/2, and returns the answers. After
// each answer it calls progress with how many there are so far.
func sendLoad(t testing.TB, base, path string, n, connections, largest int, progress func(done int)) []answer {
	t.Helper()
	answers := make([]answer, n)
	var next, done atomic.Int64
	var all sync.WaitGroup
	for c := range connections {
		client := newClient(c%2 == 1)
		all.Go(func() {
			defer client.CloseIdleConnections()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				r := makeRequest(path, i, largest)
				answers[i] = r.send(t.Context(), client, base)
				progress(int(done.Add(1)))
			}
		})
	}
	all.Wait()
	return answers
}

// loadWhile sends a load and, once `at` requests have been answered, does something in the test's goroutine.
func loadWhile(t testing.TB, base, path string, n, connections, largest, at int, do func()) []answer {
	t.Helper()
	reached := make(chan struct{})
	loaded := make(chan []answer)
	go func() {
		loaded <- sendLoad(t, base, path, n, connections, largest, func(done int) {
			if done == at {
				close(reached)
			}
		})
	}()
	<-reached
	do()
	return <-loaded
}

func digest(b []byte) string { return fmt.Sprintf("%d bytes, sha256 %x", len(b), sha256.Sum256(b)) }
