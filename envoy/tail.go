package envoy

import (
	"bytes"
	"io"
	"sync"
)

// tailBytes is about as much of a log as fits into an error.
const tailBytes = 2 << 10

// tail passes on what Envoy writes, and keeps the end of it for errors.
type tail struct {
	to io.Writer // may be nil

	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.last = append(t.last, b...)
	if extra := len(t.last) - tailBytes; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
	t.mu.Unlock()
	if t.to == nil {
		return len(b), nil
	}
	return t.to.Write(b)
}

// quoted returns whole last lines as the end of an error message, or "" where nothing was written.
func (t *tail) quoted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.last
	if len(lines) == tailBytes {
		_, lines, _ = bytes.Cut(lines, []byte("\n"))
	}
	lines = bytes.TrimSpace(lines)
	if len(lines) == 0 {
		return ""
	}
	return "; its last words:\n" + string(lines)
}
