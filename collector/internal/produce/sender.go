package produce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// sender is one of sarama's producers and the lanes in front of it.
type sender struct {
	brokers  []string
	config   *sarama.Config
	limit    int     // of records of one topic inside the producer
	solo     *sender // takes the records that this one cannot; nil: this one sends each record alone
	failures *failures

	connected chan struct{} // closed when client and async are set
	client    sarama.Client
	async     sarama.AsyncProducer

	closing              chan struct{}  // closed together with setting closed
	laneRuns, resultRuns sync.WaitGroup // the former of all that asks the client for topics

	mu     sync.Mutex
	closed bool
	lanes  map[string]*lane
}

func newSender(brokers []string, config *sarama.Config, limit int, failures *failures) *sender {
	return &sender{
		brokers: brokers, config: config, limit: limit, failures: failures, lanes: map[string]*lane{},
		connected: make(chan struct{}), closing: make(chan struct{}),
	}
}

// connect connects to Kafka, however long it takes; false: ctx is done.
func (s *sender) connect(ctx context.Context) bool {
	for failed := 1; ; failed++ {
		err := s.tryConnect()
		if err == nil {
			close(s.connected)
			s.resultRuns.Go(s.results)
			return true
		}
		s.failures.unreachable(s.brokers, err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(backoff(failed, rand.Float64())):
		}
	}
}

// tryConnect begins with a random broker of those given, so that trying again is enough when one is down.
func (s *sender) tryConnect() error {
	client, err := sarama.NewClient(s.brokers, s.config)
	if err != nil {
		return err
	}
	async, err := sarama.NewAsyncProducerFromClient(client)
	if err == nil && async.TxnStatus()&sarama.ProducerTxnFlagInError != 0 {
		// sarama does not return this error: without a producer id it would send without idempotence.
		err = errors.New("kafka gives no producer id; a principal needs WRITE on a topic for that")
		_ = async.Close()
	}
	if err != nil {
		_ = client.Close()
		return err
	}
	s.client, s.async = client, async
	return nil
}

// awaitConnection returns false when the sender closes first.
func (s *sender) awaitConnection() bool {
	select {
	case <-s.connected:
		return true
	case <-s.closing:
		return false
	}
}

// sleep returns false when the sender closes first.
func (s *sender) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.closing:
		return false
	}
}

// push adds entries of one topic to its lane.
func (s *sender) push(entries []*entry) {
	topic := entries[0].topic()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[topic]
	if l == nil {
		if s.closed {
			return
		}
		l = newLane(s, topic)
		s.lanes[l.topic] = l
		s.laneRuns.Go(l.run)
	}
	l.waiting = append(l.waiting, entries...)
	l.changed.Signal()
}

// checkTopic returns an error while no partition of the topic can be written. sarama would find out too, but
// then refuses everything for ten seconds, and keeps goroutines for every topic that it ever heard of.
func (s *sender) checkTopic(topic string, fresh bool) error {
	var err error
	if fresh {
		err = s.client.RefreshMetadata(topic)
	}
	if err == nil || errors.Is(err, sarama.ErrLeaderNotAvailable) { // the latter of some partitions, perhaps not all
		var partitions []int32
		if partitions, err = s.client.WritablePartitions(topic); err == nil && len(partitions) == 0 {
			err = sarama.ErrLeaderNotAvailable
		}
	}
	return err
}

// submit hands entries to the producer, or to solo. It does not block for long: sarama's queue for a topic
// holds as many messages as a lane lets into it.
func (s *sender) submit(entries []*entry, topic string, build *builder) {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].batch == entries[0].batch {
			n++
		}
		messages := build.messages(entries[:n], topic)
		for i, e := range entries[:n] {
			m := &messages[i]
			if s.solo != nil && m.ByteSize(recordFormat) > s.config.Producer.MaxMessageBytes {
				s.passOn(e)
				continue
			}
			s.async.Input() <- m
		}
		entries = entries[n:]
	}
}

// passOn gives an entry that was under way to solo.
func (s *sender) passOn(e *entry) {
	s.returned(e, passed, nil)
	s.solo.push([]*entry{e})
}

// results takes what sarama gives back. It must never wait for sarama.
func (s *sender) results() {
	stored, failed := s.async.Successes(), s.async.Errors()
	for stored != nil || failed != nil {
		select {
		case m, ok := <-stored:
			if !ok {
				stored = nil
				continue
			}
			e := m.Metadata.(*entry)
			s.returned(e, taken, nil)
			e.stored()
		case f, ok := <-failed:
			if !ok {
				failed = nil
				continue
			}
			s.failed(f.Msg.Metadata.(*entry), f.Err)
		}
	}
}

// failed decides what becomes of an entry that Kafka did not take.
func (s *sender) failed(e *entry, err error) {
	// Whatever the error is, Kafka may have the record: this one may have come after storing it, and where it did not,
	// sarama may have made attempts before whose errors it does not tell.
	e.redelivered = true
	v, class := judge(err)
	switch {
	case v == retry:
		s.returned(e, again, err)
	case errors.Is(err, sarama.ErrInvalidTimestamp) && s.solo == nil && !e.restamped:
		// Only of a record that was alone is it known that the timestamp is its own. Topics bound how far one may be from
		// the broker's clock. That an Envoy's clock is wrong, or a record late, is no reason to lose it: it keeps its
		// time of receipt in ce_time.
		e.restamped = true
		s.returned(e, again, nil)
	case v == blame && s.solo != nil:
		s.passOn(e)
	default:
		topic := e.topic()
		s.returned(e, passed, nil)
		if class == ClassTooLarge {
			m := new(builder).messages([]*entry{e}, topic)[0]
			e.refuse(class, fmt.Sprintf("larger than topic %s takes (%d bytes with key and headers): %v", topic,
				m.ByteSize(recordFormat), err))
		} else {
			e.refuse(class, fmt.Sprintf("topic %s: %v", topic, err))
		}
	}
}

// returned tells an entry's lane that it is not under way any more.
func (s *sender) returned(e *entry, f fate, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[e.topic()]
	if l == nil {
		panic("BUG: a record came back from the producer to a lane that had ended")
	}
	l.returned(e, f, err)
}

// close ends the sender; abandon says that there are still records, which stay unanswered.
func (s *sender) close(abandon bool) {
	s.mu.Lock()
	s.closed = true
	close(s.closing)
	for _, l := range s.lanes {
		l.changed.Signal()
	}
	s.mu.Unlock()
	if s.client == nil { // never connected
		s.laneRuns.Wait()
		return
	}
	if abandon {
		_ = s.client.Close() // so that sarama gives up what it has
	}
	s.laneRuns.Wait() // whoever sends to a closed AsyncProducer panics
	s.async.AsyncClose()
	s.resultRuns.Wait()
	if !abandon {
		_ = s.client.Close()
	}
}
