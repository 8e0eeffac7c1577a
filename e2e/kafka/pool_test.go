package kafka_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/marceloboeira/crowd/e2e/kafka"
)

// TestBorrow has tests borrow one after the other: each finds nothing of what others have written, and gets no broker that
// one has ended.
func TestBorrow(t *testing.T) {
	t.Cleanup(func() {
		if err := kafka.ClosePool(); err != nil {
			t.Error(err)
		}
	})
	first := ""
	t.Run("the first", func(t *testing.T) {
		b := kafka.Borrow(t)
		first = b.Addr()
		produce(t, b, "a", 10)
	})
	t.Run("the next", func(t *testing.T) {
		b := kafka.Borrow(t)
		if b.Addr() != first {
			t.Errorf("the broker is at %s, want that at %s", b.Addr(), first)
		}
		if n, err := b.Count(t.Context(), "a"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("%d records, error %v; want %v", n, err, kerr.UnknownTopicOrPartition)
		}
		produce(t, b, "a", 3)
		if n, err := b.Count(t.Context(), "a"); n != 3 || err != nil {
			t.Errorf("%d records, error %v; want 3", n, err)
		}
		b.Kill()
	})
	t.Run("after its end", func(t *testing.T) {
		if b := kafka.Borrow(t); b.Addr() == first {
			t.Error("the broker is one that was killed")
		}
	})
}
