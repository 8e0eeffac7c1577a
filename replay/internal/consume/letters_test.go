package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// rejecting rejects what has one of these bodies.
func rejecting(answer string, bodies ...string) func(context.Context, flow.Attempt) flow.Outcome {
	return func(_ context.Context, a flow.Attempt) flow.Outcome {
		if slices.Contains(bodies, string(a.Record.Body)) {
			return flow.Outcome{Verdict: flow.Rejected, Status: 409, Answer: []byte(answer), Reason: "the target said 409"}
		}
		return delivered()
	}
}

// letter is what is in the dead-letter topic.
type letter struct {
	body, key string
	failure   record.Failure
	headers   []record.Header
	timestamp time.Time
}

func lettersIn(t testing.TB, cluster brokers) []letter {
	t.Helper()
	var all []letter
	for _, m := range read(t, cluster, "dead") {
		l := letter{body: string(m.Value), key: string(m.Key), timestamp: m.Timestamp}
		l.failure, l.headers = record.FailureFromKafka(decode(m).Headers)
		all = append(all, l)
	}
	return all
}

func TestLetters(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	r := request("poison", "k")
	send(t, cluster, message(r, 0, record.Header{Name: "x-own", Value: "any \xff bytes"}),
		&sarama.ProducerMessage{Topic: "leads", Value: sarama.StringEncoder("no request")})
	fill(t, cluster, 0, 10, 1)
	b := newBackend(rejecting("in use", "poison"))
	p := run(t, config(cluster), b)
	b.await(t, 10)
	p.end()
	got := lettersIn(t, cluster)
	slices.SortFunc(got, func(a, b letter) int { return strings.Compare(b.body, a.body) })
	want := []letter{
		{"poison", "k", record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "g", Attempts: 1, Status: 409,
			Answer: []byte("in use"), Reason: got[0].failure.Reason}, append(r.KafkaHeaders(false), record.Header{Name: "x-own", Value: "any \xff bytes"}),
			r.Received.Truncate(time.Millisecond)},
		{"no request", "", record.Failure{Topic: "leads", Class: flow.ClassMalformed, Group: "g",
			Reason: "the record has no header :method, so it is no request"}, []record.Header{}, time.Time{}},
	}
	got[1].timestamp = time.Time{} // that of its being written
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(letter{}), cmpopts.IgnoreFields(record.Failure{}, "Time"),
		cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
	if since := time.Since(got[0].failure.Time); since < 0 || since > patience {
		t.Errorf("given up %v ago", since)
	}
	if at := committed(t, cluster, "g", "leads", 1)[0]; at != (position{12, ""}) {
		t.Errorf("committed %v, want 12", at)
	}
}

// While the dead-letter topic cannot be written, what is to be there waits, and nothing else.
func TestLettersWait(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]*kerr.Error{"replicas": kerr.NotEnoughReplicas, "unknown": kerr.UnknownTopicOrPartition,
		"authorization": kerr.TopicAuthorizationFailed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := start(t, 1)
			fill(t, cluster, 0, 10, 1)
			fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dead", Err: err, Count: -1})
			b := newBackend(rejecting("", "3"))
			p := run(t, config(cluster), b)
			b.await(t, 9)
			eventually(t, "the trouble is logged", func() bool { return p.log.has("writing to the dead-letter topic") })
			if at := committed(t, cluster, "g", "leads", 1)[0].offset; at > 3 {
				t.Errorf("committed %d: the record is in no topic any more", at)
			}
			fault.Remove()
			eventually(t, "the letter is there", func() bool { return len(lettersIn(t, cluster)) == 1 })
			p.end()
			if at := committed(t, cluster, "g", "leads", 1)[0]; at != (position{10, ""}) {
				t.Errorf("committed %v, want 10", at)
			}
		})
	}
}

// Bury returns when its context ends, also while Kafka does not answer. What keeps many letters from being written is logged
// once.
func TestLettersGivenUp(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	p := connect(t, config(cluster), newBackend(nil))
	defer func() { _ = p.consumer.Close() }()
	p.consumer.settings.letters.Producer.Retry.Backoff = time.Millisecond
	var err error
	if p.consumer.letters, err = newLetters(t.Context(), p.consumer.config, p.consumer.settings.letters, p.consumer.trouble); err != nil {
		t.Fatal(err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: -1})
	for offset := range int64(3) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := p.consumer.Bury(ctx, &flow.Message{Offset: offset}, flow.Letter{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Bury: %v, want the context's error", err)
		}
	}
	if n := p.log.count("writing to the dead-letter topic"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
}

// What is too large for the dead-letter topic goes there without the answer, or without the body.
func TestLettersTooLarge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		body, own, key int // sizes
		want           shape
	}{
		{"fits", 100, 0, 1, whole}, {"without the answer", 3900, 0, 1, withoutAnswer}, {"without the body", 4990, 0, 1, withoutBody},
		{"bare", 100, 6000, 1, bare}, {"a key as large", 100, 0, 6000, bare},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := start(t, 1)
			if err := cluster.DeleteTopic("dead"); err != nil {
				t.Fatal(err)
			}
			if err := cluster.CreateTopic("dead", 1, map[string]string{"max.message.bytes": "5000"}); err != nil {
				t.Fatal(err)
			}
			r := request(noise(c.body), noise(c.key))
			send(t, cluster, message(r, 0, record.Header{Name: "x-own", Value: noise(c.own)}))
			b := newBackend(rejecting(noise(1024), string(r.Body)))
			p := run(t, config(cluster), b)
			eventually(t, "the letter is there", func() bool { return len(lettersIn(t, cluster)) == 1 })
			p.end()
			got := lettersIn(t, cluster)[0]
			if (len(got.failure.Answer) > 0) != (c.want == whole) || (got.body != "") != (c.want < withoutBody) ||
				(got.failure.StoredAt == "leads/0/0") != (c.want >= withoutBody) || (got.key != "") != (c.want < bare) {
				t.Errorf("the letter has key %d, body %d, answer %d, stored at %q", len(got.key), len(got.body), len(got.failure.Answer),
					got.failure.StoredAt)
			}
			if id := decodedID(got.headers); id != r.ID.String() {
				t.Errorf("id %s, want %s", id, r.ID)
			}
			if at := committed(t, cluster, "g", "leads", 1)[0]; at != (position{1, ""}) {
				t.Errorf("committed %v, want 1", at)
			}
		})
	}
}

func decodedID(headers []record.Header) string {
	r, _ := record.FromKafka("", nil, nil, time.Time{}, headers)
	return r.ID.String()
}

// A record may be older than the dead-letter topic takes.
func TestLettersTooOld(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	fill(t, cluster, 0, 1, 1)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "dead", Err: kerr.InvalidTimestamp, Count: 1})
	p := run(t, config(cluster), newBackend(rejecting("", "0")))
	eventually(t, "the letter is there", func() bool { return len(lettersIn(t, cluster)) == 1 })
	p.end()
}

func TestFromDeadLetter(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	put := func(body string, f record.Failure, collectors bool) {
		headers := record.FailureHeaders(f)
		if collectors {
			headers = record.ErrorHeaders(f.Topic, f.Class, f.Reason)
		}
		m := message(request(body, "k"), 0, headers...)
		m.Topic = "dead"
		send(t, cluster, m)
	}
	put("again", record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "g", Attempts: 3, Status: 500, Answer: []byte("a")}, false)
	put("a collector's", record.Failure{Topic: "leads", Class: "too_large"}, true)
	put("another group's", record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "other"}, false)
	put("another topic's", record.Failure{Topic: "other", Class: flow.ClassRejected, Group: "g"}, false)
	put("malformed", record.Failure{Topic: "leads", Class: flow.ClassMalformed, Group: "g"}, false)
	put("elsewhere", record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "g", StoredAt: "leads/0/7"}, false)
	unreadable := message(request("unreadable", "k"), 0, record.FailureHeaders(record.Failure{Topic: "leads", Class: flow.ClassMalformed, Group: "g"})...)
	unreadable.Topic = "dead"
	unreadable.Headers = slices.DeleteFunc(unreadable.Headers, func(h sarama.RecordHeader) bool { return string(h.Key) == ":method" })
	send(t, cluster, unreadable)
	put("fails again", record.Failure{Topic: "leads", Class: flow.ClassExhausted, Group: "g", Attempts: 20}, false)
	c := config(cluster)
	c.FromDeadLetter = true
	var topics []string
	b := newBackend(func(ctx context.Context, a flow.Attempt) flow.Outcome {
		if a.Topic != "dead" || a.Record.Topic != "leads" {
			topics = append(topics, a.Topic+" "+a.Record.Topic)
		}
		return rejecting("no", "fails again")(ctx, a)
	})
	p := run(t, c, b)
	if err := p.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := b.delivered(), []string{"a collector's", "again", "malformed"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if len(topics) > 0 {
		t.Errorf("topics %q", topics)
	}
	if got := p.consumer.Progress().Skipped; got != 3 {
		t.Errorf("%d skipped, want 3", got)
	}
	if !p.log.has("a dead letter is no request") {
		t.Error("the log does not say that a dead letter is no request")
	}
	if !p.log.has("leads/0/7") {
		t.Error("the log does not say where a record is that has no body in its letter")
	}
	all := lettersIn(t, cluster)
	if len(all) != 9 {
		t.Fatalf("%d letters, want 9", len(all))
	}
	last := all[8]
	last.failure.Time, last.failure.Reason = time.Time{}, ""
	if diff := cmp.Diff(record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "g", Attempts: 21, Status: 409, Answer: []byte("no")},
		last.failure); last.body != "fails again" || diff != "" {
		t.Errorf("what fails again: %q (-want +got):\n%s", last.body, diff)
	}
	// What it did not send is there for another run, and nothing else is.
	if at := committed(t, cluster, "g-dead-letters", "dead", 1)[0]; at.offset != 3 {
		t.Errorf("committed %v, want 3", at)
	}
	c.Topics = []string{"other"}
	for _, want := range [][]string{{"another topic's"}, nil} {
		b := newBackend(nil)
		if err := run(t, c, b).wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := b.delivered(); !slices.Equal(got, want) {
			t.Errorf("of the other topic sent %q, want %q", got, want)
		}
	}
}

// TestDeadLettersBeforeSinceStay has younger ones before and behind them.
func TestDeadLettersBeforeSinceStay(t *testing.T) {
	t.Parallel()
	for _, hours := range [][]int{{5, 4, 1, 5, 1}, {1, 5, 4, 5, 1}} {
		cluster := start(t, 1)
		now := time.Now()
		var young, old []string
		for i, h := range hours {
			body := fmt.Sprint(i)
			if h > 2 {
				old = append(old, body)
			} else {
				young = append(young, body)
			}
			r := request(body, "k")
			r.Received = now.Add(-time.Duration(h) * time.Hour)
			m := message(r, 0, record.FailureHeaders(record.Failure{Topic: "leads", Class: flow.ClassRejected, Group: "g", Time: now})...)
			m.Topic = "dead"
			send(t, cluster, m)
		}
		c := config(cluster)
		c.FromDeadLetter = true
		c.Since = now.Add(-2 * time.Hour)
		for _, want := range [][]string{young, old, nil} {
			b := newBackend(nil)
			if err := run(t, c, b).wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if got := b.delivered(); !slices.Equal(got, want) {
				t.Errorf("%v hours old: sent %q, want %q", hours, got, want)
			}
			c.Since = time.Time{}
		}
	}
}

func TestTopicsMustExist(t *testing.T) {
	t.Parallel()
	cluster := start(t, 1)
	for name, c := range map[string]func(*Config){
		"topic":             func(c *Config) { c.Topics = []string{"leads", "absent"} },
		"dead-letter topic": func(c *Config) { c.DeadLetterTopic = "absent" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := config(cluster)
			config.Log = slogTo(t.Output())
			c(&config)
			consumer, err := New(t.Context(), config)
			if err == nil {
				defer func() { _ = consumer.Close() }()
				err = consumer.Run(t.Context(), nil)
			}
			if err == nil || !strings.Contains(err.Error(), name+` "absent"`) {
				t.Errorf("New and Run: %v", err)
			}
		})
	}
}

func TestNewWaitsForKafka(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	cluster := start(t, 1)
	c := config(cluster)
	cluster.Close()
	c.Log = slogTo(log)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := New(ctx, c)
		failed <- err
	}()
	eventually(t, "the trouble is logged", func() bool { return log.has("asking kafka for topic leads") })
	cancel()
	select {
	case err := <-failed:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("New: %v", err)
		}
	case <-time.After(patience):
		t.Error("New does not end")
	}
}
