// Package produce stores records in Kafka, and tells when they are stored.
//
//	         +- lane "leads" ----+
//	batch ---+                   +--> bulk: many records to a Kafka batch --+--> stored
//	         +- lane "tracking" -+      | too large, or its batch rejected  |
//	                                    v                                   +--> refused
//	                    lane "leads" ------> solo: one record to a batch ---+
//
//	refused --> lane "crowd-dead-letters" --> bulk, solo --> dead-lettered, or refused for good
//
// What is not stored anywhere yet takes prompt in the place of bulk, which has lanes of its own and waits less for more records.
//
// Records wait in one lane per topic, which lets a bounded number of them into the producer and, when the topic
// cannot be written, stops and probes it with single records until it can: a topic in trouble takes no place in
// the producer that others need. A broker takes or rejects whole Kafka batches, so records of a batch that it
// rejects for what is in it are tried again alone; only a record that was alone is refused. It goes to the
// dead-letter topic then, by a lane as any other; what that refuses too is refused for good.
package produce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/marceloboeira/crowd/collector/kafka"
	"github.com/marceloboeira/crowd/collector/record"
)

// recordFormat is the version of Kafka's record format that all brokers crowd knows of use.
const recordFormat = 2

// The limits of the producers.
const (
	// bulkLinger is how long the first record of a Kafka batch waits for others, where no other request is under way and the
	// records are stored already; bulkFlush is how many bytes, to one broker, do not wait any more. What a request costs, the
	// broker more than anybody, is then shared by as many records as it is worth.
	bulkLinger = 20 * time.Millisecond
	bulkFlush  = 512 << 10
	// promptLinger is the same for records that are not stored yet. They reach sarama one by one: without it, the first of an
	// uplink's batch goes in a request of its own, and the others wait for that one's answer. promptAlarm is when an idle process
	// is woken to send what a client waits for: promptLinger, and what it takes until sarama begins to count that.
	promptLinger = 100 * time.Microsecond
	promptAlarm  = 220 * time.Microsecond

	// bulkBytes bounds a Kafka batch of many records, before compression; brokers take 1,048,588 bytes unless told
	// otherwise (message.max.bytes).
	bulkBytes = 1_000_000
	// bulkUnderWay bounds the records of one topic inside bulk, and inside prompt. It must cover rate × (linger + round trip):
	// 4096 is 200,000 records/s at 20 ms.
	bulkUnderWay = 4096

	// soloBytes leaves the decision to the broker: no record of the stream is longer, with what crowd adds to it.
	soloBytes    = record.MaxMessageBytes + 1<<20
	soloUnderWay = 16
)

// Config configures a Producer.
type Config struct {
	// Kafka is the cluster. Its ClientID is "crowd-collector" unless set.
	Kafka kafka.Config
	// Compression is one of Kafka's compression.type: none, gzip, snappy, lz4 or zstd; default lz4.
	Compression string
	// DeadLetterTopic takes the records that their own topics will never take, with the headers of
	// record.ErrorHeaders. Empty: there is none, and they are refused for good.
	DeadLetterTopic string
}

// Validate returns everything that is wrong with the configuration.
func (c Config) Validate() error {
	_, err := c.sarama()
	return err
}

// sarama returns what the producers have in common, or everything that is wrong with the configuration.
func (c Config) sarama() (*sarama.Config, error) {
	if c.Kafka.ClientID == "" {
		c.Kafka.ClientID = "crowd-collector"
	}
	s, err := c.Kafka.Sarama()
	var codec sarama.CompressionCodec
	if c.Compression == "" {
		c.Compression = "lz4"
	}
	if codecErr := codec.UnmarshalText([]byte(c.Compression)); codecErr != nil {
		err = errors.Join(err, fmt.Errorf("compression: %q is none of none, gzip, snappy, lz4, zstd", c.Compression))
	}
	if c.DeadLetterTopic != "" && !validTopic(c.DeadLetterTopic) {
		err = errors.Join(err, fmt.Errorf("dead-letter topic: %q is not a name that Kafka takes for a topic "+
			"(up to 249 letters, digits, dots, underscores and hyphens)", c.DeadLetterTopic))
	}
	if err != nil {
		return nil, err
	}
	s.Producer.Idempotent = true
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Net.MaxOpenRequests = 1
	s.Producer.Compression = codec
	s.Producer.Partitioner = newPartitioner
	s.Producer.Return.Successes = true
	s.Producer.Return.Errors = true
	// A change of leader is ridden out inside sarama, which sends the same sequence numbers again, so nothing is
	// stored twice; whatever takes longer is the lanes' business.
	s.Producer.Retry.Max = 5
	s.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration {
		if retries == 0 { // for each record of a partition without a leader, one after another; the lane waits by itself
			return time.Millisecond
		}
		return backoff(retries, rand.Float64())
	}
	// Refreshing metadata happens inside the loop that serves a broker: waiting there would hold up every topic.
	s.Metadata.Retry.Max = 0
	s.Producer.Transaction.Retry.Max = 0
	return s, nil
}

// Item is a record on its way into Kafka, and its position in the batch of the uplink.
type Item struct {
	Index  int
	Record record.Record
	// Malformed is why the bytes that came could not be read as a record; empty for a record. Such bytes are the Body
	// of the Record, of which Topic is the only other field used, where it is known. They go to the dead-letter topic.
	Malformed string
}

// Batch is records that are stored together.
type Batch struct {
	Items       []Item
	Redelivered bool // they may be in Kafka already
	Stored      bool // they are in a spool: nobody waits for them, and nothing can be lost
}

// Refusal names a record that its topic will never take. There are three fates: a record that no refusal names is
// stored in its topic, one with DeadLettered in the dead-letter topic, and any other nowhere, for good.
type Refusal struct {
	Index        int    // of the Item
	Class        string // for metrics: one of the Class constants; why its topic does not take it
	Reason       string // for people: a sentence that names record, route and topics
	DeadLettered bool   // all in-sync replicas of the dead-letter topic have it
}

// Producer stores records in Kafka. Its methods are safe for concurrent use.
type Producer struct {
	log             *slog.Logger
	bulk, prompt    *sender
	solo            *sender // takes what these two cannot
	alarm           *alarm  // for records in prompt that a client waits for; nil: there is none
	deadLetterTopic string  // empty: none
	fates           *fates
	connected       chan struct{} // closed when all are
	stop            context.CancelFunc
	stopped         chan struct{} // closed when nothing connects any more

	mu   sync.Mutex
	open int           // batches that are not done
	idle chan struct{} // closed while open is 0
}

// New returns a producer that connects to Kafka in the background, trying for as long as it takes, and takes
// records at once. It logs an error if the dead-letter topic is not there then. The caller must Close it.
func New(c Config, log *slog.Logger, registry prometheus.Registerer) (*Producer, error) {
	bulkConfig, err := c.sarama()
	if err != nil {
		return nil, err
	}
	bulkConfig.Producer.MaxMessageBytes = bulkBytes
	bulkConfig.ChannelBufferSize = bulkUnderWay
	soloConfig := *bulkConfig
	soloConfig.Producer.MaxMessageBytes = soloBytes
	soloConfig.Producer.Flush.MaxMessages = 1
	soloConfig.ChannelBufferSize = soloUnderWay
	promptConfig := *bulkConfig
	promptConfig.Producer.Flush.Frequency = promptLinger
	bulkConfig.Producer.Flush.Frequency, bulkConfig.Producer.Flush.Bytes = bulkLinger, bulkFlush

	alarm, err := newAlarm(promptAlarm)
	if err != nil {
		log.Warn("level kafka answers up to a millisecond later than it could", "error", err)
	}
	failures := newFailures(log, registry)
	solo := newSender(c.Kafka.Brokers, &soloConfig, soloUnderWay, failures)
	bulk := newSender(c.Kafka.Brokers, bulkConfig, bulkUnderWay, failures)
	prompt := newSender(c.Kafka.Brokers, &promptConfig, bulkUnderWay, failures)
	bulk.solo, prompt.solo = solo, solo
	ctx, stop := context.WithCancel(context.Background())
	p := &Producer{bulk: bulk, prompt: prompt, solo: solo, log: log, alarm: alarm, deadLetterTopic: c.DeadLetterTopic, fates: newFates(registry),
		connected: make(chan struct{}), stop: stop, stopped: make(chan struct{}), idle: make(chan struct{})}
	close(p.idle)
	go func() {
		defer close(p.stopped)
		if bulk.connect(ctx) && prompt.connect(ctx) && solo.connect(ctx) {
			close(p.connected)
			if c.DeadLetterTopic != "" {
				bulk.laneRuns.Go(func() { bulk.checkDeadLetters(c.DeadLetterTopic, log) })
			}
		}
	}()
	return p, nil
}

// Connected is closed once Kafka has been reached.
func (p *Producer) Connected() <-chan struct{} { return p.connected }

// Produce stores the records of a batch. done is called exactly once, when the fate of every record is known: all
// in-sync replicas have it, in its topic or in the dead-letter topic, or both refuse it. It gets the refusals, in order
// of index. It runs on the producer's own goroutine, or on the caller's before Produce returns, and must not block.
// Where Close gives up, done is not called.
//
// Until then Produce holds the records, and whatever they point into; how many at a time is up to the caller.
func (p *Producer) Produce(all Batch, done func([]Refusal)) {
	items := all.Items
	if len(items) == 0 {
		done(nil)
		return
	}
	b := &batch{producer: p, sender: p.prompt, left: len(items), done: done}
	if all.Stored {
		b.sender = p.bulk
	}
	p.batchOpen()
	entries := make([]entry, len(items))
	valid := make([]*entry, 0, len(items))
	awaited := false // by a client: also at level disk, where the collector has no spool
	for i := range items {
		e := &entries[i]
		*e = entry{item: &items[i], batch: b, redelivered: all.Redelivered, key: items[i].Record.Key,
			value: present(items[i].Record.Body)}
		if e.item.Malformed != "" {
			e.refuse(ClassMalformed, e.item.Malformed)
			continue
		}
		if !validTopic(e.topic()) {
			e.refuse(ClassTopic, fmt.Sprintf("%q is not a name that Kafka takes for a topic", e.topic()))
			continue
		}
		valid = append(valid, e)
		awaited = awaited || !all.Stored && e.item.Record.Ack != record.LevelMemory
	}
	if awaited {
		p.alarm.set()
	}
	for len(valid) > 0 {
		n := 1
		for n < len(valid) && valid[n].topic() == valid[0].topic() {
			n++
		}
		b.sender.push(valid[:n])
		valid = valid[n:]
	}
}

func (p *Producer) batchOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == 0 {
		p.idle = make(chan struct{})
	}
	p.open++
}

func (p *Producer) batchDone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open--; p.open == 0 {
		close(p.idle)
	}
}

// flush waits until all batches are done, or ctx is.
func (p *Producer) flush(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open > 0 {
			return fmt.Errorf("producing what was taken: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Close waits until everything is stored or refused, or until ctx is done, and closes the connections. It
// returns an error when records were left: nobody has been told that those are stored. Nothing may be produced
// any more. Where Kafka was never reached and nothing waits for it, Close does not wait for the attempt under way.
func (p *Producer) Close(ctx context.Context) error {
	err := p.flush(ctx)
	abandon := err != nil
	p.stop()
	p.alarm.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-p.stopped
		p.bulk.close(abandon)
		p.prompt.close(abandon)
		p.solo.close(abandon)
	}()
	select {
	case <-p.connected:
	default:
		if err == nil {
			return nil
		}
	}
	select {
	case <-ended:
	case <-ctx.Done(): // it ends in the background: sarama waits for brokers that do not answer
		p.log.Warn("kafka: connections are not closed in order", "error", context.Cause(ctx))
	}
	return err
}

// validTopic is org.apache.kafka.common.internals.Topic.isValid.
func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
