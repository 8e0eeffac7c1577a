package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/kafka/kafkatest"
	"github.com/marceloboeira/crowd/replay/internal/flow"
	"github.com/marceloboeira/crowd/replay/internal/offsets"
)

// stuck delivers all but the messages with these bodies, which wait until the process ends.
func stuck(bodies ...string) func(context.Context, flow.Attempt) flow.Outcome {
	return func(ctx context.Context, a flow.Attempt) flow.Outcome {
		if slices.Contains(bodies, string(a.Record.Body)) {
			<-ctx.Done()
			return flow.Outcome{Verdict: flow.Canceled}
		}
		return delivered()
	}
}

// What is done behind a record that is not is not sent again after a restart.
func TestRestartKnowsWhatIsDoneBehind(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 20, 1)
	first := newBackend(stuck("3", "7"))
	c := config(cluster)
	c.DrainTimeout = 100 * time.Millisecond
	p := run(t, c, first)
	first.await(t, 16) // 13 and 17 have the keys of 3 and 7
	p.end()
	at := committed(t, cluster, "g", "leads", 1)[0]
	if at.offset != 3 || at.metadata == "" {
		t.Errorf("committed %+v, want 3 with metadata", at)
	}
	second := newBackend(nil)
	run(t, c, second)
	second.await(t, 4)
	if got, want := second.delivered(), []string{"13", "17", "3", "7"}; !slices.Equal(got, want) {
		t.Errorf("after the restart %q are sent, want %q", got, want)
	}
}

// Metadata that something else has written counts for nothing, and harms nothing.
func TestStrangeMetadata(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 10, 1)
	commitFor(t, cluster, "g", 4, "a Java client was here")
	b := newBackend(nil)
	p := run(t, config(cluster), b)
	b.await(t, 6)
	p.end()
	if got := committed(t, cluster, "g", "leads", 1); got[0] != (position{10, ""}) {
		t.Errorf("committed %+v, want 10", got)
	}
	if !p.log.has("what was committed with an offset cannot be read") {
		t.Error("nothing in the log")
	}
}

// commitFor commits for partition 0 of leads in a group that has no members.
func commitFor(t testing.TB, cluster brokers, group string, offset int64, metadata string) {
	t.Helper()
	client := kafkaClient(t, cluster)
	coordinator, err := client.Coordinator(group)
	if err != nil {
		t.Fatal(err)
	}
	request := sarama.NewOffsetCommitRequest(client.Config(), group)
	request.AddBlockWithLeaderEpoch("leads", 0, offset, -1, 0, metadata)
	answer, err := coordinator.CommitOffset(request)
	if err == nil && answer.Errors["leads"][0] != sarama.ErrNoError {
		err = answer.Errors["leads"][0]
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever goes wrong with the coordinator for a while, all is delivered once and committed.
func TestCommitsFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault kfake.Fault
	}{
		{"not the coordinator", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.NotCoordinator, Count: 3}},
		{"no coordinator", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: 3}},
		{"loading", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: 3}},
		{"rebalance", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RebalanceInProgress, Count: 3}},
		{"generation", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration, Count: 3}},
		{"unknown", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.UnknownServerError, Count: 3}},
		{"positions", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.NotCoordinator, Count: 9}},
		{"finding", kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable, Count: 3}},
		{"heartbeats", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.NotCoordinator, Count: 3}},
		{"joining", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup}, Err: kerr.NotCoordinator, Count: 5}},
		{"ends of logs", kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.NotLeaderForPartition, Count: 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := start(t, 3)
			fill(t, cluster, 0, 300, 3)
			b := newBackend(nil)
			p := connect(t, config(cluster), b)
			cluster.Fault(c.fault)
			p.run()
			b.await(t, 300)
			p.end()
			if n := b.repeats(); n > 0 {
				t.Errorf("%d repeats", n)
			}
			want := []position{{100, ""}, {100, ""}, {100, ""}}
			if got := committed(t, cluster, "g", "leads", 3); !slices.Equal(got, want) {
				t.Errorf("committed %v, want %v", got, want)
			}
		})
	}
}

// Where brokers take no metadata as long as ours, offsets go on without.
func TestShortMetadataOnly(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 20, 1)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
		When: func(r kmsg.Request) bool {
			m := r.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Metadata
			return m != nil && *m != ""
		}})
	b := newBackend(stuck("5"))
	c := config(cluster)
	c.DrainTimeout = 100 * time.Millisecond
	p := run(t, c, b)
	b.await(t, 18)
	p.end()
	if got := committed(t, cluster, "g", "leads", 1); got[0] != (position{5, ""}) {
		t.Errorf("committed %+v, want 5", got)
	}
	if !p.log.has("offset.metadata.max.bytes") {
		t.Error("nothing in the log")
	}
}

// What retention has deleted is counted, and what is left is sent.
func TestRetention(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 20, 1)
	tracker, err := offsets.New(4, "")
	if err != nil {
		t.Fatal(err)
	}
	for o := range int64(16) {
		tracker.Read(4 + o)
	}
	tracker.Done(15)
	commitFor(t, cluster, "g", 4, tracker.State().Metadata)
	if err := cluster.DeleteRecords("leads", 0, 10); err != nil {
		t.Fatal(err)
	}
	b := newBackend(nil)
	p := run(t, config(cluster), b)
	b.await(t, 9)
	if got := p.consumer.Progress().Lost; got != 6 {
		t.Errorf("%d lost, want 6", got)
	}
	p.end()
	if got, want := b.delivered(), []string{"10", "11", "12", "13", "14", "16", "17", "18", "19"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if got := committed(t, cluster, "g", "leads", 1); got[0] != (position{20, ""}) {
		t.Errorf("committed %+v, want 20", got)
	}
}

// A topic that has been created anew is read from its beginning, whatever was committed for the one before.
func TestTopicCreatedAnew(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 5, 1)
	commitFor(t, cluster, "g", 1000, "")
	b := newBackend(nil)
	p := run(t, config(cluster), b)
	b.await(t, 5)
	p.end()
	if got := committed(t, cluster, "g", "leads", 1); got[0] != (position{5, ""}) {
		t.Errorf("committed %+v, want 5", got)
	}
}

// A member that the coordinator has thrown out stops what it has under way at once: others do it.
func TestThrownOut(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.OffsetCommit} {
		t.Run(key.Name(), func(t *testing.T) {
			cluster := start(t, 1)
			fill(t, cluster, 0, 2, 1)
			begun, canceled := make(chan struct{}, 2), make(chan struct{}, 2)
			b := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
				if string(a.Record.Body) == "1" {
					begun <- struct{}{}
					<-ctx.Done()
					canceled <- struct{}{}
					return flow.Outcome{Verdict: flow.Canceled}
				}
				return delivered()
			})
			c := config(cluster)
			c.RequestTimeout = time.Hour
			c.DrainTimeout = 100 * time.Millisecond
			wait := func() {
				t.Helper()
				select {
				case <-begun:
				case <-time.After(patience):
					t.Fatal("not sent")
				}
			}
			run(t, c, b)
			wait()
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.UnknownMemberID, Count: 1})
			fill(t, cluster, 2, 1, 1) // something to commit
			wait()                    // again after the member has joined again
			select {
			case <-canceled:
			default:
				t.Error("sent again while the first attempt was under way")
			}
		})
	}
}

// What was done when Kafka went away is not sent again when it is back.
func TestKafkaAway(t *testing.T) {
	t.Parallel()
	data := kfake.DataDir(t.TempDir())
	cluster := start(t, 1, data)
	fill(t, cluster, 0, 15, 1)
	hold, begun := make(chan struct{}), make(chan struct{}, 100)
	b := newBackend(func(context.Context, flow.Attempt) flow.Outcome {
		begun <- struct{}{}
		<-hold
		return delivered()
	})
	p := run(t, config(cluster), b)
	for range concurrency {
		<-begun
	}
	port, err := strconv.Atoi(strings.TrimPrefix(cluster.ListenAddrs()[0], "127.0.0.1:"))
	if err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	close(hold)
	b.await(t, concurrency)
	eventually(t, "the session ends", func() bool { return !p.consumer.Progress().Ready })
	cluster = kafkatest.Start(t, data, kfake.Ports(port), kfake.GroupMinSessionTimeout(time.Second))
	b.await(t, 15)
	eventually(t, "all is committed", func() bool { return committed(t, cluster, "g", "leads", 1)[0] == (position{15, ""}) })
	p.end()
	if n := b.repeats(); n > 0 {
		t.Errorf("%d repeats", n)
	}
}

// The end does not wait for a Kafka that is away.
func TestEndWithoutKafka(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 10, 1)
	b := newBackend(nil)
	c := config(cluster)
	c.DrainTimeout = 200 * time.Millisecond
	p := connect(t, c, b)
	p.run()
	b.await(t, 10)
	cluster.Close()
	begun := time.Now()
	p.stop()
	if err := p.wait(); err != nil {
		t.Logf("Run: %v", err)
	}
	if took := time.Since(begun); took > c.DrainTimeout+leaving+closing+time.Second {
		t.Errorf("the end took %v", took)
	}
}

// Nor does it wait for one that is there and does not answer, for which sarama's clients do.
func TestCloseWithoutAnswers(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	consumer := connect(t, config(cluster), newBackend(nil)).consumer
	if err := consumer.client.Close(); err != nil {
		t.Fatal(err)
	}
	consumer.settings.client.Metadata.RefreshFrequency = 10 * time.Millisecond
	var err error
	if consumer.client, err = sarama.NewClient(cluster.ListenAddrs(), consumer.settings.client); err != nil {
		t.Fatal(err)
	}
	if err := consumer.client.RefreshMetadata("leads"); err != nil { // it is asked for again and again then
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	defer close(answer)
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		asked <- struct{}{}
		<-answer
		return nil, nil, false
	})
	<-asked
	begun := time.Now()
	if err := consumer.Close(); err == nil {
		t.Error("Close: no error")
	}
	if took := time.Since(begun); took > closing+time.Second {
		t.Errorf("Close took %v", took)
	}
}

// A member is killed: another goes on where it was, and repeats only what was not committed.
func TestMemberKilled(t *testing.T) {
	t.Parallel()
	const messages = 400
	cluster := start(t, 4)
	fill(t, cluster, 0, messages, 4)
	dead := make(chan struct{})
	first := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
		select {
		case <-dead:
			<-ctx.Done()
			return flow.Outcome{Verdict: flow.Canceled}
		default:
			return delivered()
		}
	})
	c := config(cluster)
	c.DrainTimeout = 0
	one := connect(t, c, first)
	memberID := make(chan string, 1)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		select {
		case memberID <- r.(*kmsg.HeartbeatRequest).MemberID:
		default:
		}
		return true
	}})
	one.run()
	killed := <-memberID
	first.await(t, messages/4)
	// From now on nothing of the first member comes through. It must not join again either, so it can't be told that it is out.
	of := func(r kmsg.Request) bool {
		switch r := r.(type) {
		case *kmsg.HeartbeatRequest:
			return r.MemberID == killed
		case *kmsg.OffsetCommitRequest:
			return r.MemberID == killed
		case *kmsg.JoinGroupRequest:
			return r.MemberID == killed
		}
		return false
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.OffsetCommit, kmsg.JoinGroup}, Count: -1,
		Err: kerr.UnknownServerError, When: of})
	close(dead)
	second := newBackend(nil)
	run(t, config(cluster), second)
	done := func() map[string]int {
		all := map[string]int{}
		for _, body := range append(first.delivered(), second.delivered()...) {
			all[body]++
		}
		return all
	}
	eventually(t, "all is sent", func() bool { return len(done()) == messages })
	repeats := 0
	for _, n := range done() {
		repeats += n - 1
	}
	if repeats > 2*concurrency {
		t.Errorf("%d repeats, want at most %d", repeats, 2*concurrency)
	}
}

func TestTroubleIsNotRepeated(t *testing.T) {
	log := &logBuffer{}
	tr := newTrouble(slogTo(log))
	for range 5 {
		tr.warn("one", errors.New("a"))
		tr.warn("one", errors.New("b"))
	}
	if n := strings.Count(log.text.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, log.text.String())
	}
	for i := range 3 * troublesKnown {
		tr.warn("many", fmt.Errorf("%d", i))
	}
	if len(tr.said) > troublesKnown {
		t.Errorf("%d troubles are remembered", len(tr.said))
	}
}
