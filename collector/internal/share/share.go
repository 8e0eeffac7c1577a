// Package share divides a number of bytes between topics, so that one that is stuck leaves room for the others.
package share

import (
	"fmt"
	"slices"
)

// alpha is how many times what is free a topic may hold.
const alpha = 2

// Pool shares a number of bytes between topics: with what it takes, a topic may hold at most twice what is then still
// free. This is the dynamic threshold by which switches share packet buffers between ports (A. K. Choudhury and
// E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on
// Networking 6(2), 1998), with a factor of 2. Nothing is set aside for topics, nor need they be known:
//
//   - a topic that is alone gets up to 2/3 of the pool;
//   - k topics that all want as much as they can get end at 2/(1+2k) each, and leave 1/(1+2k) free;
//   - whoever holds nothing may take anything that is free, so that others always find room, and a batch that is large
//     against the pool gets through.
//
// A Pool is not safe for concurrent use: its users have a lock of their own, under which they also do what follows.
type Pool struct {
	limit, used int64
	held        map[string]int64 // of topics that hold something
}

// New returns a pool of limit bytes, of which nothing is taken.
func New(limit int64) *Pool {
	return &Pool{limit: limit, held: map[string]int64{}}
}

// SetLimit changes the size of the pool. What is taken stays taken, though it may be more than limit.
func (p *Pool) SetLimit(limit int64) { p.limit = limit }

// Fits says whether the topic may take n bytes.
func (p *Pool) Fits(topic string, n int64) bool {
	free := p.limit - p.used - n
	held := p.held[topic]
	return free >= 0 && (held == 0 || held+n <= alpha*free)
}

// Take gives n bytes to the topic, whether they fit or not.
func (p *Pool) Take(topic string, n int64) {
	p.used += n
	if n != 0 {
		p.held[topic] += n
	}
}

// Release takes n bytes back from the topic, which must hold them.
func (p *Pool) Release(topic string, n int64) {
	left := p.held[topic] - n
	switch {
	case left < 0:
		panic(fmt.Sprintf("BUG: topic %q releases %d bytes and holds %d", topic, n, left+n))
	case left == 0:
		delete(p.held, topic)
	default:
		p.held[topic] = left
	}
	p.used -= n
}

// Held returns the bytes that the topic holds.
func (p *Pool) Held(topic string) int64 { return p.held[topic] }

// Used returns the bytes that are taken.
func (p *Pool) Used() int64 { return p.used }

// Free returns the bytes that are not taken; 0 where more are taken than there are.
func (p *Pool) Free() int64 { return max(0, p.limit-p.used) }

// Closed returns the topics that may not take a single byte because they hold their share or more; sorted.
func (p *Pool) Closed() []string {
	if 3*p.used <= 2*p.limit-3 {
		return nil // not even all together hold a share
	}
	var closed []string
	for topic := range p.held {
		if !p.Fits(topic, 1) {
			closed = append(closed, topic)
		}
	}
	slices.Sort(closed)
	return closed
}
