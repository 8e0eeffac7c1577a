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

// Lies are answers over HTTP/1.1 that are none, or less than they say. A client must not take one for an answer.
var Lies = map[string]http.HandlerFunc{
	"not HTTP":         lie("SSH-2.0-OpenSSH_9.9\r\n"),
	"no status":        lie("HTTP/1.1 OK\r\n\r\n"),
	"shorter":          lie("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthis is not all"),
	"a chunk broken":   lie("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nthis is not all"),
	"no chunk":         lie("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nlength: 5\r\nhello\r\n"),
	"two lengths":      lie("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 5\r\n\r\nhello"),
	"not its protocol": lie("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
	"headers unended":  lie("HTTP/1.1 200 OK\r\nx-hello: world\r\n"),
	"nothing":          lie(""),
}

// Endless says 200, and never comes to an end.
func Endless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for {
		if _, err := w.Write(make([]byte, 1000)); err != nil || flusher.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// lie answers with bytes and closes the connection.
func lie(bytes string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(connection, bytes)
		_ = connection.Close()
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
