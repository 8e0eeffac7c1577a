package produce

import (
	"math/rand/v2"
	"strings"
	"sync"
)

// lane holds the records for one topic of one sender. It exists while there are any; a goroutine runs it.
//
// It alternates between two states:
//
//	open     records go into the producer, up to the sender's limit at a time. After an error no more do but the rest
//	         of a burst; when none is left in it, the lane fails.
//	failing  wait (backoff), ask for the topic's metadata, send one record. If Kafka takes it, the lane is open.
type lane struct {
	sender *sender
	topic  string // a copy: sarama keeps it, and that of a record would keep the whole batch

	// Under sender.mu:
	waiting  []*entry
	underWay int
	failure  error     // of a record that came back; nil in a lane that may send
	changed  sync.Cond // any of the above, or sender.closed
}

// burst is how many records a lane lets into the producer in one go at most, so that what is done for each is little. Those
// of a batch share memory: see builder.messages.
const burst = 16

func newLane(s *sender, topic string) *lane {
	l := &lane{sender: s, topic: strings.Clone(topic)}
	l.changed.L = &s.mu
	return l
}

// run sends records until none is left or the sender closes.
func (l *lane) run() {
	if !l.sender.awaitConnection() {
		return
	}
	for failures := 0; ; {
		err := l.sender.checkTopic(l.topic, failures > 0)
		if err != nil {
			if v, class := judge(err); v == hopeless {
				l.refuseAll(class, err)
				err = nil
			}
		}
		if err == nil {
			var more bool
			if more, err = l.send(failures > 0); !more {
				return
			}
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		l.sender.failures.report(l.topic, failures, err)
		if !l.sender.sleep(backoff(failures, rand.Float64())) {
			return
		}
	}
}

// send lets records into the producer: one, if it is a probe, otherwise as long as there are any. It returns the
// error of a record that came back, once no other is under way, and false when the lane has ended.
func (l *lane) send(probe bool) (more bool, err error) {
	s := l.sender
	limit := s.limit
	if probe {
		limit = 1
	}
	var next []*entry
	var build builder
	s.mu.Lock()
	defer s.mu.Unlock()
	for probed := false; ; {
		switch {
		case s.closed:
			return false, nil
		case l.underWay == 0 && l.failure != nil:
			err, l.failure = l.failure, nil
			return true, err
		case l.underWay == 0 && len(l.waiting) == 0:
			delete(s.lanes, l.topic)
			return false, nil
		case l.underWay == 0 && probed:
			return true, nil
		case l.failure == nil && len(l.waiting) > 0 && l.underWay < limit && !probed:
			n := min(len(l.waiting), limit-l.underWay, burst)
			next = append(next[:0], l.waiting[:n]...)
			clear(l.waiting[:n])
			l.waiting = l.waiting[n:]
			l.underWay += n
			probed = probe
			s.mu.Unlock()
			s.submit(next, l.topic, &build)
			clear(next)
			s.mu.Lock()
		default:
			l.changed.Wait()
		}
	}
}

// returned takes an entry out of those under way. Where it is given, it waits again behind the others; an error
// is one of the topic's, which the lane has to deal with first. The caller holds sender.mu.
func (l *lane) returned(again *entry, err error) {
	l.underWay--
	if again != nil {
		l.waiting = append(l.waiting, again)
	}
	if err != nil {
		l.failure = err
	}
	// Room for a single record is not worth waking up for: more of them are about to come back.
	if l.underWay == 0 || len(l.waiting) > 0 && l.underWay <= l.sender.limit-min(burst, l.sender.limit/2) {
		l.changed.Signal()
	}
}

// refuseAll ends every record that waits.
func (l *lane) refuseAll(class string, err error) {
	l.sender.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	l.sender.mu.Unlock()
	for _, e := range waiting {
		e.refuse(class, "topic "+l.topic+": "+err.Error())
	}
}
