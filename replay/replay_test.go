package replay

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/replay/internal/consume"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// A target that rejects everything shows in the log, with the reason, and does not fill it.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := &Replay{log: slog.New(slog.NewTextHandler(&log, nil)), warned: map[string]time.Time{}}
		r.metrics = newMetrics(prometheus.NewRegistry(), func() consume.Progress { return consume.Progress{} }, r.state)
		for range 200 { // 100 s
			r.gaveUp(&flow.Message{Topic: "leads"}, flow.Letter{Class: flow.ClassRejected, Reason: "answered 404 Not Found"})
			r.gaveUp(&flow.Message{Topic: "leads"}, flow.Letter{Class: flow.ClassExpired, Reason: "the request is 2h old"})
			time.Sleep(500 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n != 4 || strings.Count(log.String(), "answered 404 Not Found") != 2 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
		if n := r.metrics.buried.Load(); n != 400 {
			t.Errorf("%d counted", n)
		}
	})
}
