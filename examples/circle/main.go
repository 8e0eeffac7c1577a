// Command circle shows the whole circle on this machine: an API that stands 50 requests a second, a burst of 5,000 that are
// all answered at once, and crowd replay, which gives them to the API at its pace. `make circle` runs it.
//
// It is the three commands crowd dev, curl (many times) and crowd replay in one process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/marceloboeira/crowd/examples/quickstart"
	"github.com/marceloboeira/crowd/replay"
)

const (
	// pace is what the API stands, in requests a second.
	pace = 50
	// clients send at the same time.
	clients = 64
)

func main() {
	burst := flag.Int("burst", 5000, "`requests` that come at once")
	listen := flag.String("listen", "127.0.0.1:0", "the gateway's `address`")
	filter := flag.String("filter", "bin/crowd.wasm", "crowd.wasm's `path`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := circle(ctx, *burst, *listen, *filter); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "circle:", err)
		os.Exit(1)
	}
}

func circle(ctx context.Context, burst int, listen, filter string) error {
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	defer func() { _ = group.Wait() }()
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

	api := newAPI(burst)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: time.Minute}
	group.Go(func() error { return server.Serve(listener) })
	defer server.Close()
	say("an API that stands %d requests a second, and answers 503 beyond", pace)

	gateway := &banner{ready: make(chan struct{})}
	group.Go(func() error {
		return quickstart.Run(ctx, quickstart.Config{
			Listen: listen, Routes: "examples/quickstart/routes.yaml", Filter: filter, Quiet: true, Out: gateway, Log: log,
		})
	})
	select {
	case <-gateway.ready:
	case <-ctx.Done():
		return group.Wait()
	}
	say("crowd at %s, in front of it", gateway.url)

	start := time.Now()
	if err := send(ctx, gateway.url+"/leads", burst); err != nil {
		return err
	}
	say("%d requests, all answered 200 within %.1f s: %.0f a second", burst, time.Since(start).Seconds(), float64(burst)/time.Since(start).Seconds())

	config := replay.Config{
		Kafka: []string{gateway.kafka}, Group: "leads-api", Topics: []string{"leads"}, Target: "http://" + listener.Addr().String(),
		Limits: replay.Limits{Rate: new(replay.Rate(pace))}, Admin: "127.0.0.1:0",
	}
	r, err := replay.New(config, replay.Options{Log: log, Registry: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	say("crowd replay --kafka %s --group leads-api --topic leads --target %s --rate %d", gateway.kafka, config.Target, pace)
	start = time.Now()
	group.Go(func() error { return r.Run(ctx) })
	for ticker := time.NewTicker(5 * time.Second); ; {
		select {
		case <-api.all:
			say("all of them at the API after %.0f s: %.1f a second, %d refused, %d more than once", time.Since(start).Seconds(),
				float64(burst)/time.Since(start).Seconds(), api.refused.Load(), api.repeats.Load())
			return nil
		case <-ticker.C:
			say("  %d at the API", api.count())
		case <-ctx.Done():
			return group.Wait()
		}
	}
}

func say(format string, args ...any) {
	fmt.Printf("%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// send sends requests, many at a time, and fails if one is not answered 200.
func send(ctx context.Context, url string, requests int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: time.Minute}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range requests {
		group.Go(func() error {
			body := fmt.Sprintf(`{"lead":%d}`, i)
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
			if err != nil {
				return err
			}
			answer, err := client.Do(request)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			_, _ = io.Copy(io.Discard, answer.Body)
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("request %d: %s", i, answer.Status)
			}
			return nil
		})
	}
	return group.Wait()
}

// api stands so much, and knows what it has been given.
type api struct {
	limit            *rate.Limiter
	refused, repeats atomic.Int64

	want int
	all  chan struct{} // closed when it has seen so many different ones as it wants

	mu   sync.Mutex
	seen map[string]bool // by body
}

func newAPI(want int) *api {
	return &api{limit: rate.NewLimiter(pace*1.05, pace/5), want: want, all: make(chan struct{}), seen: map[string]bool{}}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !a.limit.Allow() {
		a.refused.Add(1)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[string(body)] {
		a.repeats.Add(1)
	} else if a.seen[string(body)] = true; len(a.seen) == a.want {
		close(a.all)
	}
	w.WriteHeader(http.StatusCreated)
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// banner reads from what crowd dev says where it listens.
type banner struct {
	url, kafka string
	ready      chan struct{}
}

var errBanner = errors.New("crowd dev did not say where it listens")

func (b *banner) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 4 && words[0] == "crowd" && words[1] == "listens":
			b.url = words[3]
		case len(words) == 2 && words[0] == "Kafka":
			b.kafka = words[1]
		case len(words) == 1 && words[0] == "ready":
			if b.url == "" || b.kafka == "" {
				return 0, errBanner
			}
			close(b.ready)
		}
	}
	return len(text), nil
}
