package request

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// checkInterval is how often files are looked at, if anybody asks.
const checkInterval = time.Second

// followed is what is made of some files. It is made again when they have changed; while they cannot be read, or, half
// replaced, make no sense, what they made last stays. It is safe for concurrent use.
type followed[T any] struct {
	paths []string
	parse func(texts [][]byte) (T, error)
	log   *slog.Logger

	mu      sync.Mutex
	checked time.Time
	texts   [][]byte // that value was made of
	failed  string   // why the last look made nothing, if so
	value   T
}

// follow reads files for the first time.
func follow[T any](paths []string, parse func(texts [][]byte) (T, error), log *slog.Logger) (*followed[T], error) {
	f := &followed[T]{paths: paths, parse: parse, log: log}
	if err := f.look(); err != nil {
		return nil, err
	}
	f.checked = time.Now()
	return f, nil
}

// now returns what the files make.
func (f *followed[T]) now() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.paths) == 0 || time.Since(f.checked) < checkInterval {
		return f.value
	}
	f.checked = time.Now()
	if err := f.look(); err == nil {
		f.failed = ""
	} else if err.Error() != f.failed {
		f.failed = err.Error()
		f.log.Error("file not taken, what it held before stays", "error", err)
	}
	return f.value
}

func (f *followed[T]) look() error {
	texts := make([][]byte, len(f.paths))
	for i, path := range f.paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		texts[i] = text
	}
	if f.texts != nil && slices.EqualFunc(texts, f.texts, bytes.Equal) {
		return nil
	}
	value, err := f.parse(texts)
	if err == nil {
		f.value, f.texts = value, texts
	}
	return err
}
