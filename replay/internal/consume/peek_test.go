package consume

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

func TestPeek(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	now := hours(t, cluster, 9, 8, 7, 6, 5, 4, 3)
	tracker, err := offsets.New(1, "")
	if err != nil {
		t.Fatal(err)
	}
	for o := range int64(6) {
		tracker.Read(1 + o)
	}
	tracker.Done(3)
	commitFor(t, cluster, "g", 1, tracker.State().Metadata)
	before := committed(t, cluster, "g", "leads", 2)
	c := config(cluster)
	c.DeadLetterTopic = "absent" // nor is it needed, or asked for: that might create it
	c.Since, c.Until = now.Add(-7*time.Hour-time.Minute), now.Add(-3*time.Hour-time.Minute)
	c.Wanted = func(m *flow.Message) bool { return string(m.Record.Body) != "4" }
	p := connect(t, c, newBackend(nil))
	defer func() { _ = p.consumer.Close() }()
	var got []string
	if err := p.consumer.Peek(t.Context(), func(m *flow.Message) error {
		got = append(got, string(m.Record.Body))
		return nil
	}); err != nil {
		t.Errorf("Peek: %v", err)
	}
	if want := []string{"2", "5"}; !slices.Equal(got, want) { // 3 is done, 4 is not wanted
		t.Errorf("shown %q, want %q", got, want)
	}
	if after := committed(t, cluster, "g", "leads", 2); !slices.Equal(after, before) {
		t.Errorf("committed %v, was %v", after, before)
	}
	enough := errors.New("enough")
	if err := p.consumer.Peek(t.Context(), func(*flow.Message) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Peek: %v, want what show returned", err)
	}
}
