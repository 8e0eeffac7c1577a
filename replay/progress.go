package replay

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// readEvery is how often the meter is read and a terminal's line is written again.
	readEvery = time.Second
	// logEvery is how often there is a line in the log.
	logEvery = time.Minute
)

// watch reads the meter and says how things go, until ctx ends: at the bottom of a terminal each second, otherwise in the log
// once a minute.
func (r *Replay) watch(ctx context.Context) {
	ticker := time.NewTicker(readEvery)
	defer ticker.Stop()
	ready, logged := false, time.Now()
	for {
		s := r.Status()
		now := time.Now()
		r.mu.Lock()
		r.done.read(now, float64(s.Delivered+s.DeadLettered+s.Skipped))
		r.mu.Unlock()
		if s.Ready && !ready {
			ready = true
			r.log.Info("replay ready", "admin", r.AdminAddr().String())
		}
		if t := r.options.Terminal; t != nil {
			t.show(s.line(now))
		} else if now.Sub(logged) >= logEvery {
			logged = now
			r.log.Info(s.line(now))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Terminal shows a line at the bottom of a terminal, below whatever else is written. It is safe for concurrent use.
type Terminal struct {
	out   io.Writer
	width func() int // in columns; 0: it does not know

	mu    sync.Mutex
	shown string
}

// The terminal's control sequences (ECMA-48): to the begin of the line, and erase it.
const eraseLine = "\r\x1b[K"

// usualWidth is that of a terminal that does not know its own.
const usualWidth = 80

// NewTerminal returns a Terminal for out, nil if that is none.
func NewTerminal(out io.Writer) *Terminal {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return &Terminal{out: out, width: func() int {
		width, _, _ := term.GetSize(int(file.Fd()))
		return width
	}}
}

// Write writes whole lines above the one shown.
func (t *Terminal) Write(lines []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown == "" {
		return t.out.Write(lines)
	}
	if _, err := fmt.Fprintf(t.out, "%s%s%s", eraseLine, lines, t.shown); err != nil {
		return 0, err
	}
	return len(lines), nil
}

func (t *Terminal) show(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shown = line[:min(len(line), cmp.Or(t.width(), usualWidth)-1)] // one that wraps could not be erased
	_, _ = fmt.Fprint(t.out, eraseLine, t.shown)
}

// Close leaves the line where it is.
func (t *Terminal) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown != "" {
		t.shown = ""
		_, _ = fmt.Fprintln(t.out)
	}
}
