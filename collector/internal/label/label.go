// Package label bounds the values of metric labels that come from outside the process.
package label

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// Other stands for every value beyond a Set's bound, and for values that no label should have.
const Other = "other"

// Unknown stands for no value at all, as of a record that cannot be read.
const Unknown = "unknown"

// Routes bounds the series that routes make; there is room for every route of a very large document.
const Routes = 20_000

// maxLength is the longest value kept, in bytes; Kafka's topics have up to 249.
const maxLength = 249

// Set lets a bounded number of distinct values through, first come first served: every value of a label is a
// time series for as long as the process lives. The zero Set lets nothing through. It is safe for concurrent use.
type Set struct {
	max  int
	mu   sync.RWMutex
	seen map[string]string
}

// NewSet returns a set of at most max values.
func NewSet(max int) *Set { return &Set{max: max, seen: map[string]string{}} }

// Value returns v, or Other, or Unknown where v is empty. The result never shares memory with v, which may be part of a message.
func (s *Set) Value(v string) string {
	s.mu.RLock()
	own, ok := s.seen[v]
	s.mu.RUnlock()
	if ok {
		return own
	}
	if v == "" {
		return Unknown
	}
	if len(v) > maxLength || !utf8.ValidString(v) {
		return Other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if own, ok := s.seen[v]; ok {
		return own
	}
	if len(s.seen) >= s.max {
		return Other
	}
	own = strings.Clone(v)
	s.seen[own] = own
	return own
}
