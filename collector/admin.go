package collector

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin serves what people, Prometheus and Kubernetes ask a collector.
type admin struct {
	http *http.Server
}

// newAdmin returns the server. Where each of the channels is closed it says so: a collector is ready when it takes
// streams, until it begins to drain or its spool fails.
func newAdmin(registry *prometheus.Registry, ready, draining, failed <-chan struct{}) *admin {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case closed(draining):
			say(w, http.StatusServiceUnavailable, "draining")
		case closed(failed):
			say(w, http.StatusServiceUnavailable, "the spool has failed")
		case !closed(ready):
			say(w, http.StatusServiceUnavailable, "kafka has not been reached yet")
		default:
			say(w, http.StatusOK, "ready")
		}
	})
	return &admin{&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
}

func (a *admin) serve(l net.Listener) error {
	if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admin requests: %w", err)
	}
	return nil
}

func (a *admin) close() error { return a.http.Close() }

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
