package consume

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// hours writes requests 0 to 9 to partition 0, received at so many hours before now, and returns now.
func hours(t testing.TB, cluster brokers, before ...int) time.Time {
	t.Helper()
	now := time.Now()
	var all []*sarama.ProducerMessage
	for i, h := range before {
		r := request(fmt.Sprint(i), "k")
		r.Received = now.Add(-time.Duration(h) * time.Hour)
		all = append(all, message(r, 0))
	}
	for _, m := range all { // one by one, so that each is a Kafka batch
		send(t, cluster, m)
	}
	return now
}

func TestRunsWithAnEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		before       []int // hours at which records were received
		since, until float64
		committed    int64 // before; 0: nothing
		want         []string
	}{
		{"until", []int{5, 4, 3, 2, 1}, 0, 2.5, 0, []string{"0", "1", "2"}},
		{"until, out of order", []int{5, 1, 3, 2, 4}, 0, 2.5, 0, []string{"0", "2", "4"}},
		{"since and until", []int{5, 4, 3, 2, 1}, 3.5, 1.5, 0, []string{"2", "3"}},
		{"since, out of order", []int{5, 3, 4, 2, 1}, 3.5, 0.5, 0, []string{"1", "3", "4"}},
		{"since before what is committed", []int{5, 4, 3, 2, 1}, 4.5, 0.5, 3, []string{"3", "4"}},
		{"since after all", []int{5, 4, 3}, 2, 1, 0, nil},
		{"all committed", []int{5, 4, 3}, 0, 1, 3, nil},
		{"nothing there", nil, 0, 1, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := start(t, 2)
			now := hours(t, cluster, c.before...)
			if c.committed > 0 {
				commitFor(t, cluster, "g", c.committed, "")
			}
			config := config(cluster)
			if c.since > 0 {
				config.Since = now.Add(-time.Duration(c.since * float64(time.Hour)))
			}
			config.Until = now.Add(-time.Duration(c.until * float64(time.Hour)))
			b := newBackend(nil)
			if err := run(t, config, b).wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if got := b.delivered(); !slices.Equal(got, c.want) {
				t.Errorf("sent %q, want %q", got, c.want)
			}
			// What is later stays for a run without an end.
			var left []string
			for i, hours := range c.before {
				if float64(hours) < c.until {
					left = append(left, fmt.Sprint(i))
				}
			}
			config.Since, config.Until = time.Time{}, time.Time{}
			rest := newBackend(nil)
			p := run(t, config, rest)
			rest.await(t, len(left))
			eventually(t, "all is committed", func() bool {
				got := committed(t, cluster, "g", "leads", 1)[0].offset
				return int(got) == len(c.before) || len(c.before) == 0
			})
			p.end()
			if got := rest.delivered(); !slices.Equal(got, left) {
				t.Errorf("left for later were %q, want %q", got, left)
			}
		})
	}
}

// A run until later takes what comes until then, and ends then, though more comes.
func TestUntilLater(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 5, 1)
	c := config(cluster)
	c.Until = time.Now().Add(2 * time.Second)
	b := newBackend(nil)
	p := run(t, c, b)
	b.await(t, 5)
	fill(t, cluster, 5, 5, 1)
	later := request("later", "k")
	later.Received = c.Until.Add(time.Hour)
	send(t, cluster, message(later, 0))
	b.await(t, 10)
	select {
	case err := <-p.ended:
		t.Fatalf("it has ended before its time: %v", err)
	default:
	}
	if err := p.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if time.Now().Before(c.Until) {
		t.Error("it has ended before its time")
	}
	if got := len(b.delivered()); got != 10 {
		t.Errorf("%d sent, want 10", got)
	}
	if got := committed(t, cluster, "g", "leads", 1)[0].offset; got != 10 {
		t.Errorf("committed %d, want 10", got)
	}
}

// What comes after the start is none of a run's business that has an end.
func TestWhatComesLaterStays(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 5, 1)
	c := config(cluster)
	c.Until = time.Now()
	ends := make(chan struct{})
	b := newBackend(func(context.Context, flow.Attempt) flow.Outcome {
		<-ends
		return delivered()
	})
	p := run(t, c, b)
	eventually(t, "the ends are known", func() bool {
		m := p.consumer.member.Load()
		if m == nil {
			return false
		}
		select {
		case <-m.ends.known():
			return true
		default:
			return false
		}
	})
	fill(t, cluster, 5, 5, 1)
	close(ends)
	if err := p.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := committed(t, cluster, "g", "leads", 1)[0].offset; got != 5 {
		t.Errorf("committed %d, want 5", got)
	}
}

// All members of a run end when the group has done all, those too that have nothing to do.
func TestMembersEndTogether(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 100, 1)
	c := config(cluster)
	c.Until = time.Now()
	b := newBackend(func(context.Context, flow.Attempt) flow.Outcome {
		time.Sleep(20 * time.Millisecond)
		return delivered()
	})
	one, two := run(t, c, b), run(t, c, b)
	for _, p := range []*process{one, two} {
		if err := p.wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	if got := len(b.delivered()); got != 100 {
		t.Errorf("%d sent, want 100", got)
	}
}

// Transactions end in records that nobody reads, aborted ones have others, and retention may delete all: a run comes to its
// end nevertheless.
func TestEndsWithoutRecords(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	fill(t, cluster, 0, 4, 2)
	settings := sarama.NewConfig()
	settings.Version = sarama.V2_8_0_0
	settings.Producer.Idempotent = true
	settings.Producer.RequiredAcks = sarama.WaitForAll
	settings.Producer.Return.Successes = true
	settings.Producer.Transaction.ID = "t"
	settings.Producer.Partitioner = sarama.NewManualPartitioner
	settings.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(cluster.ListenAddrs(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = producer.Close() }()
	for _, transaction := range []struct {
		body string
		end  func() error
	}{{"never", producer.AbortTxn}, {"4", producer.CommitTxn}, {"never", producer.AbortTxn}} {
		if err := producer.BeginTxn(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := producer.SendMessage(message(request(transaction.body, "k"), 0)); err != nil {
			t.Fatal(err)
		}
		if err := transaction.end(); err != nil {
			t.Fatal(err)
		}
	}
	commitFor(t, cluster, "g", 1, "")
	c := config(cluster)
	c.Until = time.Now().Add(time.Second)
	b := newBackend(nil)
	if err := run(t, c, b).wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := b.delivered(), []string{"1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if got := committed(t, cluster, "g", "leads", 2); got[0].offset != 8 || got[1].offset != 2 {
		t.Errorf("committed %v, want 8 and 2", got)
	}
}

func TestRetentionUpToTheEnd(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 10, 1)
	commitFor(t, cluster, "g", 2, "")
	c := config(cluster)
	c.Until = time.Now().Add(time.Second)
	if err := cluster.DeleteRecords("leads", 0, 9); err != nil {
		t.Fatal(err)
	}
	b := newBackend(nil)
	if err := run(t, c, b).wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := b.delivered(), []string{"9"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// A topic that is deleted does not keep a run from ending.
func TestEndsOfADeletedTopic(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 5, 1)
	c := config(cluster)
	c.Until = time.Now()
	begun := make(chan struct{}, 10)
	b := newBackend(func(ctx context.Context, _ flow.Attempt) flow.Outcome {
		begun <- struct{}{}
		<-ctx.Done()
		return flow.Outcome{Verdict: flow.Canceled}
	})
	p := run(t, c, b)
	<-begun
	if err := cluster.DeleteTopic("leads"); err != nil {
		t.Fatal(err)
	}
	m := p.consumer.member.Load()
	eventually(t, "the end is lowered", func() bool {
		m.lowerEnds()
		return m.ends.of(place{"leads", 0}) == -1
	})
	if err := p.wait(); err != nil {
		t.Logf("Run: %v", err)
	}
}
