package consume

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// sameTrouble is how long the same trouble is not logged again.
	sameTrouble = time.Minute
	// troublesKnown bounds what is remembered of what has been logged.
	troublesKnown = 1000
)

// trouble logs what goes wrong between this process and Kafka, each thing once in a while. It is safe for concurrent use.
type trouble struct {
	log *slog.Logger

	mu      sync.Mutex
	said    map[string]time.Time
	omitted map[string]int
}

func newTrouble(log *slog.Logger) *trouble {
	return &trouble{log: log, said: map[string]time.Time{}, omitted: map[string]int{}}
}

// warn logs, unless the same message and error have been logged lately, of whatever args.
func (t *trouble) warn(message string, err error, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := fmt.Sprint(message, err)
	now := time.Now()
	if last, ok := t.said[key]; ok && now.Sub(last) < sameTrouble {
		t.omitted[key]++
		return
	}
	args = append(args, "error", err)
	if t.omitted[key] > 0 {
		args = append(args, "omitted", t.omitted[key])
	}
	if len(t.said) >= troublesKnown {
		clear(t.said)
		clear(t.omitted)
	}
	t.said[key] = now
	delete(t.omitted, key)
	t.log.Warn(message, args...)
}

// insist does something until it succeeds, and returns an error only if ctx ends first. What is being done then is left to
// itself: sarama's calls cannot be interrupted.
func (t *trouble) insist(ctx context.Context, what string, do func() error, args ...any) error {
	for failures := 1; ; failures++ {
		result := make(chan error, 1)
		go func() { result <- do() }()
		select {
		case err := <-result:
			if err == nil {
				return nil
			}
			t.warn(what+": it is tried again", err, args...)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		if err := sleep(ctx, backoff(failures)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// sleep returns an error if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
