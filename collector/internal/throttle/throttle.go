// Package throttle bounds what repeated trouble writes to the log.
package throttle

import (
	"log/slog"
	"sync"
	"time"
)

// Every is the least time between two lines of one Logger.
const Every = time.Second

// Logger writes at most one warning in each Every and says how many it left out since the last. It is safe for
// concurrent use.
type Logger struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	omitted int
}

// New returns a Logger that writes to log.
func New(log *slog.Logger) *Logger { return &Logger{log: log} }

// Warn logs, or counts what it leaves out.
func (l *Logger) Warn(message string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.last) < Every {
		l.omitted++
		return
	}
	if l.omitted > 0 {
		args = append(args, "omitted", l.omitted)
	}
	l.log.Warn(message, args...)
	l.last, l.omitted = now, 0
}
