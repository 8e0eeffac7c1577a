package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/admin"
	"github.com/marceloboeira/crowd/replay/internal/consume"
	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/replay/internal/request"
)

// Replay is one member of a group that sends what is in Kafka to a target.
type Replay struct {
	config  Config
	options Options
	log     *slog.Logger
	admin   net.Listener
	sender  *request.Sender
	metrics *metrics

	// consumer and engine are nil until Kafka has been reached.
	consumer atomic.Pointer[consume.Consumer]
	engine   atomic.Pointer[flow.Engine]

	mu     sync.Mutex
	done   meter
	warned map[string]time.Time // when a record was last logged that was given up, by class
}

// Options are what a Replay works with.
type Options struct {
	// Log is required.
	Log *slog.Logger
	// Registry is required: it takes the metrics, and /metrics shows it.
	Registry *prometheus.Registry
	// Terminal shows how things go; nil: the log does.
	Terminal *Terminal
	// Source is where the configuration is from: the limits of its file are followed.
	Source Source
}

// New checks the configuration, makes ready what is to be sent with, and listens for admin requests. Kafka and the target
// need not be reachable.
func New(c Config, o Options) (*Replay, error) {
	c, sender, err := prepare(c, o.Log)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", c.Admin)
	if err != nil {
		return nil, fmt.Errorf("listening for admin requests: %w", err)
	}
	r := &Replay{config: c, options: o, log: o.Log, admin: listener, sender: sender, warned: map[string]time.Time{}}
	r.metrics = newMetrics(o.Registry, r.progress, r.state)
	return r, nil
}

// prepare checks a configuration, and returns it with its defaults and what sends its requests.
func prepare(c Config, log *slog.Logger) (Config, *request.Sender, error) {
	if err := errors.Join(c.check(), c.kafka().Validate()); err != nil {
		return c, nil, err
	}
	c = c.withDefaults()
	sender, err := request.NewSender(c.request(log))
	return c, sender, err
}

// AdminAddr returns the address of the admin server.
func (r *Replay) AdminAddr() net.Addr { return r.admin.Addr() }

// Run replays until ctx ends or, where the configuration has an end (Until, FromDeadLetter), all is done. When ctx ends it
// begins nothing more, waits up to DrainTimeout for answers, commits and leaves the group. It returns an error if it could
// not begin or lost its admin server; trouble with Kafka and the target is logged and waited out.
func (r *Replay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var background sync.WaitGroup
	defer background.Wait()

	server := admin.New(r.options.Registry, func() (bool, string) {
		switch {
		case ctx.Err() != nil:
			return false, "draining"
		case !r.progress().Ready:
			return false, "the group has not been joined yet"
		}
		return true, "ready"
	})
	server.Status(func() any { return r.Status() })
	background.Go(func() {
		if err := server.Serve(r.admin); err != nil {
			cancel(err)
		}
	})
	defer func() { _ = server.Close() }()
	defer r.sender.Close()
	r.log.Info("replay starting", "group", r.config.Group, "topics", r.config.Topics, "target", r.config.Target,
		"rate", r.config.Rate.String(), "concurrency", r.config.Concurrency, "order", r.config.Order, "admin", r.AdminAddr().String())

	err := r.run(ctx, &background)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	cancel(nil) // ends what follows
	r.log.Info("replay ended", "delivered", r.metrics.delivered.Load(), "dead_lettered", r.metrics.buried.Load())
	return err
}

func (r *Replay) run(ctx context.Context, background *sync.WaitGroup) error {
	consumer, err := consume.New(ctx, r.config.consume(r.log))
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() {
		if err := consumer.Close(); err != nil {
			r.log.Warn("closing the connections to Kafka", "error", err)
		}
	}()
	options := r.config.flow(r.log)
	options.Send, options.Bury, options.Attempted, options.Buried = r.sender.Send, consumer.Bury, r.metrics.attempted, r.gaveUp
	engine := flow.New(options, newSchedule(r.config.Limits).at(time.Now()))
	r.consumer.Store(consumer)
	r.engine.Store(engine)

	// The engine outlives ctx: what is under way then is awaited by the consumer.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	var ended sync.WaitGroup
	ended.Go(func() { engine.Run(sending) })
	defer ended.Wait()
	defer stop()

	following, cancel := context.WithCancel(ctx)
	defer cancel()
	background.Go(func() { follow(following, r.config, r.options.Source, engine.SetLimits, r.log) })
	background.Go(func() { r.watch(following) })
	return consumer.Run(ctx, engine)
}

// gaveUp is told of every record that is in the dead-letter topic. The log has one of each class a minute: when a target is
// wrong all of them may end there.
func (r *Replay) gaveUp(m *flow.Message, l flow.Letter) {
	r.metrics.gaveUp(m, l)
	r.mu.Lock()
	now := time.Now()
	quiet := now.Sub(r.warned[l.Class]) < logEvery
	if !quiet {
		r.warned[l.Class] = now
	}
	r.mu.Unlock()
	if !quiet {
		r.log.Warn("a record is given up, and in the dead-letter topic; the next one of this class is logged in a minute at the earliest",
			"class", l.Class, "reason", l.Reason, "attempts", l.Attempts, "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "id", m.Record.ID.String())
	}
}

func (r *Replay) progress() consume.Progress {
	if c := r.consumer.Load(); c != nil {
		return c.Progress()
	}
	return consume.Progress{}
}

func (r *Replay) state() flow.State {
	if e := r.engine.Load(); e != nil {
		return e.State()
	}
	return flow.State{Breaker: "closed"}
}

// DryRun writes to out what Run would send now, a line each, and how much that is. It neither joins the group nor
// commits anything.
func DryRun(ctx context.Context, c Config, out io.Writer, log *slog.Logger) error {
	c, sender, err := prepare(c, log)
	if err != nil {
		return err
	}
	defer sender.Close()
	consumer, err := consume.New(ctx, c.consume(log))
	if err != nil {
		return err
	}
	defer func() { _ = consumer.Close() }()
	n, unreadable := 0, 0
	err = consumer.Peek(ctx, func(m *flow.Message) error {
		n++
		what, err := sender.Describe(m)
		if err != nil {
			unreadable++
			what = "cannot be sent: " + err.Error()
		}
		_, err = fmt.Fprintf(out, "%s  %s/%d/%d  %s  %s  %d bytes\n", m.Record.Received.UTC().Format(time.RFC3339),
			m.Topic, m.Partition, m.Offset, m.Record.ID, what, len(m.Record.Body))
		return err
	})
	if err == nil {
		_, err = fmt.Fprintf(out, "%d requests to send, %d that cannot be sent\n", n-unreadable, unreadable)
	}
	return err
}
