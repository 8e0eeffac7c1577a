// Package admin serves what people, Prometheus and Kubernetes ask a process of the data plane: a collector or a replay.
package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server serves /metrics, /healthz and /readyz.
type Server struct {
	mux  *http.ServeMux
	http *http.Server
}

// New returns a server. ready says whether the process is ready, and why not; it is called for each question, from many
// goroutines.
func New(registry *prometheus.Registry, ready func() (ok bool, text string)) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, text := ready()
		if !ok {
			say(w, http.StatusServiceUnavailable, text)
			return
		}
		say(w, http.StatusOK, text)
	})
	return &Server{mux, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
}

// Status adds /status: what status returns, as JSON. It must be called before Serve.
func (s *Server) Status(status func() any) {
	s.mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status()) // fails only when the client has left
	})
}

// Serve serves on l, which it closes, until Close is called.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admin requests: %w", err)
	}
	return nil
}

// Close ends Serve.
func (s *Server) Close() error { return s.http.Close() }

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
