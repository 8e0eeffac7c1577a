package consume

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

func TestAllIsSentAndCommitted(t *testing.T) {
	kafkatest.NoGoroutinesLeft(t)
	cluster := start(t, 4)
	fill(t, cluster, 0, 200, 4)
	b := newBackend(nil)
	p := run(t, config(cluster), b)
	b.await(t, 200)
	p.end()
	b.checkOrder(t)
	if n := b.repeats(); n > 0 {
		t.Errorf("%d repeats", n)
	}
	want := []position{{50, ""}, {50, ""}, {50, ""}, {50, ""}}
	if got := committed(t, cluster, "g", "leads", 4); !slices.Equal(got, want) {
		t.Errorf("committed %v, want %v", got, want)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	fill(t, cluster, 0, 100, 2)
	b := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
		if string(a.Record.Body) >= "90" { // of two digits
			<-ctx.Done()
			return flow.Outcome{Verdict: flow.Canceled}
		}
		return delivered()
	})
	c := config(cluster)
	c.DrainTimeout = 0
	c.Wanted = func(m *flow.Message) bool { return string(m.Record.Body) != "5" }
	p := run(t, c, b)
	b.await(t, 89)
	eventually(t, "progress", func() bool {
		return cmp.Equal(p.consumer.Progress(), Progress{Partitions: 2, All: 2, Lag: 10, Skipped: 1, Ready: true})
	})
}

// Members come and go while messages are sent: each is delivered, in the order of its key, and none twice, as all end in an
// orderly way.
func TestRebalancesUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions, messages = 6, 3600
	cluster := start(t, partitions)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBackend(func(context.Context, flow.Attempt) flow.Outcome {
		time.Sleep(time.Millisecond)
		return delivered()
	})
	processes := []*process{run(t, config(cluster), b)}
	for i := range 6 {
		fill(t, cluster, i*messages/6, messages/6, partitions)
		if len(processes) < 2 || random.IntN(2) == 0 {
			processes = append(processes, run(t, config(cluster), b))
		} else {
			gone := random.IntN(len(processes))
			processes[gone].end()
			processes = slices.Delete(processes, gone, gone+1)
		}
		b.await(t, (i+1)*messages/6-100)
	}
	b.await(t, messages)
	for _, p := range processes {
		p.end()
	}
	b.checkOrder(t)
	if n := b.repeats(); n > 0 {
		t.Errorf("%d repeats", n)
	}
	for i, position := range committed(t, cluster, "g", "leads", partitions) {
		if position.offset != messages/partitions {
			t.Errorf("partition %d: committed %d, want %d", i, position.offset, messages/partitions)
		}
	}
}

func TestMembersShareTheRates(t *testing.T) {
	t.Parallel()
	cluster := start(t, 4)
	b := newBackend(nil)
	one := run(t, config(cluster), b)
	eventually(t, "one has all", func() bool { return one.consumer.Progress().Partitions == 4 })
	two := run(t, config(cluster), b)
	eventually(t, "each has a half", func() bool {
		return one.consumer.Progress().Partitions == 2 && two.consumer.Progress().Partitions == 2
	})
	two.end()
	eventually(t, "one has all again", func() bool { return one.consumer.Progress().Partitions == 4 })
}

// A slow request of a partition that another member is to have ends before, and is not sent again.
func TestRequestsEndBeforeAPartitionMoves(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	fill(t, cluster, 0, 2, 2)
	begun, slow := make(chan struct{}, 10), make(chan struct{})
	b := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
		begun <- struct{}{}
		select {
		case <-slow:
			return delivered()
		case <-ctx.Done():
			return flow.Outcome{Verdict: flow.Canceled}
		}
	})
	c := config(cluster)
	c.RequestTimeout = patience
	run(t, c, b)
	<-begun
	<-begun
	two := run(t, c, b)
	eventually(t, "the second has joined", func() bool { return two.consumer.Progress().Ready })
	time.Sleep(200 * time.Millisecond) // a few heartbeats: what must not happen has had its time
	if got := two.consumer.Progress().Partitions; got != 0 {
		t.Errorf("the second has %d partitions while requests of them are under way", got)
	}
	close(slow)
	eventually(t, "the second has a partition", func() bool { return two.consumer.Progress().Partitions == 1 })
	b.await(t, 2)
	if n := b.repeats(); n > 0 {
		t.Errorf("%d repeats", n)
	}
}

// The end waits for what is under way, up to DrainTimeout.
func TestEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		drain time.Duration
		want  int64
	}{{"in time", patience, 1}, {"too late", 100 * time.Millisecond, 0}} {
		t.Run(c.name, func(t *testing.T) {
			cluster := start(t, 1)
			fill(t, cluster, 0, 1, 1)
			begun := make(chan struct{})
			b := newBackend(func(ctx context.Context, _ flow.Attempt) flow.Outcome {
				close(begun)
				select {
				case <-time.After(time.Second):
					return delivered()
				case <-ctx.Done():
					return flow.Outcome{Verdict: flow.Canceled}
				}
			})
			config := config(cluster)
			config.DrainTimeout = c.drain
			p := run(t, config, b)
			<-begun
			p.end()
			if got := max(0, committed(t, cluster, "g", "leads", 1)[0].offset); got != c.want {
				t.Errorf("committed %d, want %d", got, c.want)
			}
		})
	}
}

func TestTopicsComeAndGo(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	if err := cluster.CreateTopic("other", 1, nil); err != nil {
		t.Fatal(err)
	}
	fill(t, cluster, 0, 10, 2)
	b := newBackend(nil)
	c := config(cluster)
	c.Topics = []string{"leads", "other"}
	var processes []*process
	for range 2 {
		p := connect(t, c, b)
		processes = append(processes, p)
		p.consumer.settings.membership.Metadata.RefreshFrequency = 100 * time.Millisecond
		p.run()
	}
	b.await(t, 10)
	if err := cluster.DeleteTopic("other"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic is missed", func() bool {
		return slices.ContainsFunc(processes, func(p *process) bool { return p.log.has("topics are missing") })
	})
	fill(t, cluster, 10, 10, 2)
	b.await(t, 20)
	if err := cluster.CreateTopic("other", 1, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r := request(fmt.Sprint("other ", i), "k")
		r.Topic = "other"
		send(t, cluster, message(r, 0))
	}
	b.await(t, 23)
}

// A topic that is missing has no share of the rates.
func TestSharesWithoutATopic(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	if err := cluster.CreateTopic("other", 2, nil); err != nil {
		t.Fatal(err)
	}
	c := config(cluster)
	c.Topics = []string{"leads", "other"}
	p := connect(t, c, newBackend(nil))
	p.consumer.settings.membership.Metadata.RefreshFrequency = 100 * time.Millisecond
	p.engine.SetLimits(flow.Limits{Rate: 4, Concurrency: concurrency, KeyRate: math.Inf(1)})
	p.run()
	eventually(t, "it has all partitions", func() bool { return p.consumer.Progress().Partitions == 4 })
	if err := cluster.DeleteTopic("other"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has those of one topic", func() bool {
		progress := p.consumer.Progress()
		return progress.Partitions == 2 && progress.All == 2 && p.engine.State().Rate == 4
	})
}

// A member that is to end while a partition of it is being moved does not wait longer than it may.
func TestEndWhileAPartitionMoves(t *testing.T) {
	t.Parallel()
	cluster := start(t, 2)
	fill(t, cluster, 0, 2, 2)
	begun := make(chan struct{}, 10)
	b := newBackend(func(ctx context.Context, _ flow.Attempt) flow.Outcome {
		begun <- struct{}{}
		<-ctx.Done()
		return flow.Outcome{Verdict: flow.Canceled}
	})
	c := config(cluster)
	c.RequestTimeout, c.DrainTimeout = time.Hour, 100*time.Millisecond
	one := run(t, c, b)
	<-begun
	<-begun
	two := run(t, c, b)
	eventually(t, "the second has joined", func() bool { return two.consumer.Progress().Ready })
	stopped := time.Now()
	one.end()
	if took := time.Since(stopped); took > c.DrainTimeout+leaving {
		t.Errorf("the end took %v", took)
	}
	eventually(t, "the second has all partitions", func() bool { return two.consumer.Progress().Partitions == 2 })
}
