package backend

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// OK takes the request, and says so.
func OK(w http.ResponseWriter, r *http.Request) { Status(http.StatusOK)(w, r) }

// Status takes the request and answers with a status.
func Status(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "backend says %d", status)
	}
}

// Slow answers OK after a while.
func Slow(latency time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(latency):
			OK(w, r)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// RetryAfter answers with a status and how many seconds to wait.
func RetryAfter(status, seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("retry-after", strconv.Itoa(seconds))
		Status(status)(w, r)
	}
}

// Hang takes the request and never answers.
func Hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the server sees that a client has left only after the request's end
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Lies are answers over HTTP/1.1 that are none.
var Lies = map[string]http.HandlerFunc{
	"not HTTP":         raw(0, "SSH-2.0-OpenSSH_9.9\r\n"),
	"no status":        raw(0, "HTTP/1.1 OK\r\n\r\n"),
	"two lengths":      raw(0, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\nhello"),
	"not its protocol": raw(0, "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
	"headers unended":  raw(0, "HTTP/1.1 200 OK\r\nx-hello: world\r\n"),
	"nothing":          raw(0, ""),
}

// Halves are answers over HTTP/1.1 that say 200, and whose bodies are not what they should be. A client takes them at their
// word.
var Halves = map[string]http.HandlerFunc{
	"shorter":        raw(http.StatusOK, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthis is not all"),
	"longer":         raw(http.StatusOK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK, and more"),
	"a chunk broken": raw(http.StatusOK, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nthis is not all"),
	"no chunk":       raw(http.StatusOK, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nlength: 5\r\nhello\r\n"),
	"endless":        endless,
}

// raw answers with bytes, which tell the client a status, and closes the connection.
func raw(tells int, bytes string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if _, err := io.WriteString(connection, bytes); err == nil {
			w.(*noter).status = tells
		}
		_ = connection.Close()
	}
}

// endless says 200, and its body never comes to an end.
func endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for {
		if _, err := w.Write(make([]byte, 1000)); err != nil || flusher.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
		w.(*noter).told = true
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// Limited answers OK to so many requests a second, and 429 to others.
func Limited(perSecond float64) http.HandlerFunc {
	limiter := rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		if !limiter.Allow() {
			status = http.StatusTooManyRequests
		}
		Status(status)(w, r)
	}
}

// Queued answers OK after a while, to so many requests at once; others wait, in no order.
func Queued(latency time.Duration, atOnce int) http.HandlerFunc {
	places := make(chan struct{}, atOnce)
	slow := Slow(latency)
	return func(w http.ResponseWriter, r *http.Request) {
		places <- struct{}{}
		defer func() { <-places }()
		slow(w, r)
	}
}
