package xds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// headersTimeout keeps whoever sends nothing from holding a connection of the admin interface.
const headersTimeout = 10 * time.Second

// serveAdmin answers what people, Prometheus and Kubernetes ask a control plane, on listener, which it closes, until
// ctx ends. A Server has its routes before it listens: it is ready for as long as it answers.
func serveAdmin(ctx context.Context, listener net.Listener, registry *prometheus.Registry, status func() Status) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", say("alive"))
	mux.HandleFunc("GET /readyz", say("ready"))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status()) // fails only when the client has left
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headersTimeout}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin requests on %s: %w", listener.Addr(), err)
	}
	return nil
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, text)
	}
}
