// Package backend is an HTTP API for tests of replay: it notes every request, and behaves as badly as it is told to.
package backend

import (
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// KeyHeader is the header in which a test says what key its request has.
const KeyHeader = "x-test-key"

// Request is one that has come.
type Request struct {
	// ID is the record's.
	ID string
	// Key is what KeyHeader says.
	Key string
	// Attempt counts from 1.
	Attempt int
	// Began and Ended are when the request's headers had arrived, and when the last of the answer was about to be sent. Ended
	// is zero while the request is under way.
	Began, Ended time.Time
	// Status is the answer's, 0 for none.
	Status int
	// Told says that the client was there to be told the status.
	Told bool
}

// Delivered reports whether the client was told that all is well.
func (r *Request) Delivered() bool { return r.Told && r.Status/100 == 2 }

// Backend is a server of HTTP/1.1 and unencrypted HTTP/2. Its methods are safe for concurrent use, except Down and Up.
type Backend struct {
	t       testing.TB
	address string
	server  *http.Server
	served  sync.WaitGroup

	mu        sync.Mutex
	answer    http.HandlerFunc
	answers   map[string]http.HandlerFunc // those for records of their own
	requests  []Request
	delivered map[string]bool
	waiting   map[int]chan struct{} // each closed when so many are delivered
}

// Start starts a backend that answers OK. It ends with the test.
func Start(t testing.TB) *Backend {
	t.Helper()
	b := &Backend{
		t: t, answer: OK, answers: map[string]http.HandlerFunc{}, delivered: map[string]bool{}, waiting: map[int]chan struct{}{},
	}
	b.Up()
	t.Cleanup(b.Down)
	return b
}

// URL is where it is, the same for all its life.
func (b *Backend) URL() string { return "http://" + b.address }

// Down ends it: connections break, and others are refused.
func (b *Backend) Down() {
	b.t.Helper()
	if err := b.server.Close(); err != nil {
		b.t.Errorf("backend: closing: %v", err)
	}
	b.served.Wait()
}

// Up starts it again after Down.
func (b *Backend) Up() {
	b.t.Helper()
	listener, err := b.listen()
	if err != nil {
		b.t.Fatalf("backend: %v", err)
	}
	b.address = listener.Addr().String()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	b.server = &http.Server{Handler: b, Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0)}
	b.served.Go(func() {
		if err := b.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			b.t.Errorf("backend: %v", err)
		}
	})
}

// listen listens where the backend was before, or else on a port below the range that Linux takes clients' ports from: a
// client that dials a port out of that range while nothing listens there may be given the same one as its own, be connected
// to itself, and keep the backend from coming back.
func (b *Backend) listen() (net.Listener, error) {
	if b.address != "" {
		return net.Listen("tcp", b.address)
	}
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))); err == nil {
			return l, nil
		}
	}
	return nil, errors.New("finding a free port: 100 tries failed")
}

// Answer says how requests are answered from now on.
func (b *Backend) Answer(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

// AnswerRecord says how requests of one record are answered from now on; nil: as the others.
func (b *Backend) AnswerRecord(id string, answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[id] = answer
}

// ServeHTTP implements http.Handler.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, answer := b.begin(r)
	noted := &noter{ResponseWriter: w}
	defer func() { b.end(n, noted) }() // also if the answer panics
	answer(noted, r)
	noted.told = noted.told || r.Context().Err() == nil
}

// begin notes a request and returns its number and what is to be answered.
func (b *Backend) begin(r *http.Request) (int, http.HandlerFunc) {
	request := Request{ID: r.Header.Get("Idempotency-Key"), Key: r.Header.Get(KeyHeader)}
	request.Attempt, _ = strconv.Atoi(r.Header.Get("Crowd-Attempt")) // 0 where there is none
	b.mu.Lock()
	defer b.mu.Unlock()
	request.Began = time.Now() // inside, so that requests are in the order of their times
	b.requests = append(b.requests, request)
	answer := b.answers[request.ID]
	if answer == nil {
		answer = b.answer
	}
	return len(b.requests) - 1, answer
}

func (b *Backend) end(n int, noted *noter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &b.requests[n]
	r.Ended, r.Status, r.Told = time.Now(), noted.status, noted.told
	if !r.Delivered() || b.delivered[r.ID] {
		return
	}
	b.delivered[r.ID] = true
	if reached := b.waiting[len(b.delivered)]; reached != nil {
		close(reached)
		delete(b.waiting, len(b.delivered))
	}
}

// Requests returns all so far, in the order in which they came.
func (b *Backend) Requests() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Request(nil), b.requests...)
}

// Delivered returns how many different records have been delivered.
func (b *Backend) Delivered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.delivered)
}

// Reached returns a channel that is closed when so many different records have been delivered.
func (b *Backend) Reached(n int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	reached := b.waiting[n]
	if reached == nil {
		reached = make(chan struct{})
		b.waiting[n] = reached
	}
	if len(b.delivered) >= n {
		close(reached)
		delete(b.waiting, n)
	}
	return reached
}

// noter notes the status of an answer, and whether the client was told of it.
type noter struct {
	http.ResponseWriter
	status int
	told   bool
}

func (n *noter) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (n *noter) Unwrap() http.ResponseWriter { return n.ResponseWriter }
