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
//	failing  wait (backoff), ask for the topic's metadata, send one record of each of some partitions. If Kafka takes them, the
//	         lane is open.
//
// Where Kafka takes the records of some partitions and not those of others, as of one without a leader, the lane is open for
// all but the latter: of each of these it sends one record, before it waits again.
type lane struct {
	sender *sender
	topic  string // a copy: sarama keeps it, and that of a record would keep the whole batch

	// Under sender.mu:
	waiting  []*entry
	underWay int
	failure  error     // of a record that came back; nil in a lane that may send
	changed  sync.Cond // any of the above, or sender.closed

	partitions int32          // of the topic, when last asked
	dead       map[int32]bool // partitions of which a record came back, and none has been stored since
	alive      bool           // a record of another one has been stored since the lane last failed

	// Of this send:
	tried map[int32]bool // partitions
	aside []*entry       // those that wait for its end
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
	partly := false // it fails for some partitions
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
			if more, partly, err = l.send(failures > 0 && !partly); !more {
				return
			}
		} else {
			partly = false
		}
		switch {
		case err == nil:
			failures = 0
			continue
		case partly:
			failures = 1
		default:
			failures++
		}
		l.sender.failures.report(l.topic, failures, err)
		if !l.sender.sleep(backoff(failures, rand.Float64())) {
			return
		}
	}
}

// send lets records into the producer: a few, if it is a probe, otherwise as long as there are any. It returns the
// error of a record that came back, once no other is under way, and whether others were stored meanwhile that were not of its
// partition; and false when the lane has ended.
func (l *lane) send(probe bool) (more, partly bool, err error) {
	s := l.sender
	known, _ := s.client.Partitions(l.topic) // asked for a moment ago; where that failed there is none
	var next []*entry
	var build builder
	s.mu.Lock()
	defer s.mu.Unlock()
	l.partitions, l.alive, l.tried = int32(len(known)), false, nil
	defer l.takeBack()
	for probed := false; ; {
		switch {
		case s.closed:
			return false, false, nil
		case l.underWay == 0 && l.failure != nil:
			err, l.failure = l.failure, nil
			return true, l.alive && len(l.dead) > 0, err
		case l.underWay == 0 && len(l.waiting)+len(l.aside) == 0:
			delete(s.lanes, l.topic)
			return false, false, nil
		case l.underWay == 0 && (probed || len(l.waiting) == 0):
			return true, false, nil
		case l.failure == nil && len(l.waiting) > 0 && l.underWay < s.limit && !probed:
			next = l.pick(next[:0], min(s.limit-l.underWay, burst), probe)
			l.underWay += len(next)
			probed = probe
			if len(next) == 0 {
				continue
			}
			s.mu.Unlock()
			s.submit(next, l.topic, &build)
			clear(next)
			s.mu.Lock()
		default:
			l.changed.Wait()
		}
	}
}

// pick moves up to n entries out of those that wait to picked; of partitions that have been tried before no more than one,
// if they are dead, or once is set. What is passed over goes aside. The caller holds sender.mu.
func (l *lane) pick(picked []*entry, n int, once bool) []*entry {
	look := once || len(l.dead) > 0
	if look && l.tried == nil {
		l.tried = map[int32]bool{}
	}
	for n > 0 && len(l.waiting) > 0 {
		e := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		if look {
			p := l.partition(e)
			if l.tried[p] && (once || l.dead[p]) {
				l.aside = append(l.aside, e)
				continue
			}
			l.tried[p] = true
		}
		picked = append(picked, e)
		n--
	}
	return picked
}

// takeBack has those wait again that went aside. The caller holds sender.mu.
func (l *lane) takeBack() {
	if len(l.aside) > 0 {
		l.waiting, l.aside = append(l.aside, l.waiting...), nil
	}
}

// anyPartition is that of records without a key: one that can be written.
const anyPartition = -1

// partition returns where an entry goes, as far as that is known before.
func (l *lane) partition(e *entry) int32 {
	if key := e.item.Record.Key; key != nil && l.partitions > 1 {
		return partitionOf(key, l.partitions)
	}
	return anyPartition
}

// fate is why an entry is under way no more.
type fate uint8

const (
	taken  fate = iota + 1 // Kafka has it
	passed                 // it is no longer the lane's
	again                  // it waits again, behind the others
)

// returned takes an entry out of those under way. An error is one of the topic's, or its partition's, which the lane has to
// deal with first. The caller holds sender.mu.
func (l *lane) returned(e *entry, f fate, err error) {
	l.underWay--
	p := l.partition(e)
	switch f {
	case taken:
		if l.alive = true; l.dead[p] {
			delete(l.dead, p)
			l.takeBack()
		}
	case again:
		l.waiting = append(l.waiting, e)
	case passed:
	}
	if err != nil {
		l.failure = err
		if p != anyPartition {
			if l.dead == nil {
				l.dead = map[int32]bool{}
			}
			l.dead[p] = true
		}
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
