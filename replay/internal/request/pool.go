package request

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// idleTimeout is how long a connection without requests is kept.
	idleTimeout = 90 * time.Second
	// unknownRoom is how many requests a connection takes that may have room for more, until its first answer: a server
	// tells its limit before that, and refuses what is beyond.
	unknownRoom = 10
	// maxAge is how long a connection takes new requests: whoever the target's name leads to by then, and what TLS files
	// hold by then, counts for the next.
	maxAge = 5 * time.Minute
)

// pool keeps connections to the target. http.Transport would do so too, but sends some requests a second time where a
// connection breaks, above all those with an Idempotency-Key: attempts that nobody counts. An http.ClientConn does not.
//
// A connection is free while it may have room for another request. That with HTTP/1.1 is one that has none under way; that
// with HTTP/2 may have many. Where none is free another is made, so there are never more than there are requests at once.
type pool struct {
	dial func(context.Context) (*http.ClientConn, error)
	// mayShare is whether connections may be HTTP/2's.
	mayShare bool

	mu sync.Mutex
	// free are those that may have room, with the one used last at the end.
	free []*connection
	// shared is whether a new connection is worth waiting for: HTTP/2's take many requests.
	shared  bool
	dialing *dialing // the one that others wait for, if any
	closed  bool
}

// connection is one of a pool. Its fields are under pool.mu.
type connection struct {
	*http.ClientConn
	since    time.Time
	shared   bool // takes several requests at once
	answered bool // has had an answer
	users    int
	free     bool // is in pool.free
	idle     *time.Timer
}

// dialing is the making of a shared connection.
type dialing struct {
	done      chan struct{} // closed when the others are set
	abandoned bool          // the request that it was for has ended before
	err       error
}

func newPool(dial func(context.Context) (*http.ClientConn, error), mayShare bool) *pool {
	return &pool{dial: dial, mayShare: mayShare, shared: mayShare}
}

// get returns a connection that one request may be sent on, and which must be put back. Each call makes at most one.
func (p *pool) get(ctx context.Context) (*connection, error) {
	for {
		p.mu.Lock()
		if c := p.take(); c != nil {
			p.mu.Unlock()
			return c, nil
		}
		if !p.shared {
			p.mu.Unlock()
			return p.connect(ctx)
		}
		d := p.dialing
		if d == nil {
			d = &dialing{done: make(chan struct{})}
			p.dialing = d
			p.mu.Unlock()
			c, err := p.connect(ctx)
			d.err, d.abandoned = err, ctx.Err() != nil
			p.mu.Lock()
			p.dialing = nil
			p.mu.Unlock()
			close(d.done)
			return c, err
		}
		p.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil && !d.abandoned {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// roundTrip sends a request. Without an error, the connection must be put back when the answer has been read or given up.
func (p *pool) roundTrip(r *http.Request) (*connection, *http.Response, error) {
	c, err := p.get(r.Context())
	if err != nil {
		return nil, nil, err
	}
	response, err := c.RoundTrip(r)
	if err != nil {
		p.put(c)
		return nil, nil, err
	}
	if c.shared {
		p.answered(c)
	}
	return c, response, nil
}

// answered notes that a shared connection has had an answer: now its room is known.
func (p *pool) answered(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.answered {
		return
	}
	c.answered = true
	if !c.free && !p.closed {
		p.list(c)
	}
}

// maxRepeats is how often a request is sent again that a server has not processed.
const maxRepeats = 3

// unprocessed reports whether a request that came to err has not been processed for sure, so that it may be sent again as
// the same attempt (RFC 9113, section 8.7): its stream was refused, as happens to those beyond a limit that the server has not
// had the time to tell of, or its connection was on its way out. If these counted as failures, every server that is drained
// would open the circuit breaker.
func unprocessed(err error) bool {
	if stream := (http2.StreamError{}); errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	switch err.Error() { // net/http has no better way to tell
	case "http2: Transport received Server's graceful shutdown GOAWAY", "http2: client conn not usable":
		return true
	}
	return false
}

// take returns a free connection with room, nil if there is none. It is called under mu.
func (p *pool) take() *connection {
	for len(p.free) > 0 {
		c := p.free[len(p.free)-1]
		if !c.old() && c.room() {
			if c.users++; c.users == 1 {
				c.idle.Stop()
			}
			if !c.shared {
				p.unlist(c)
			}
			return c
		}
		p.unlist(c)
		c.closeUnused()
	}
	return nil
}

// connect makes a connection and takes it.
func (p *pool) connect(ctx context.Context) (*connection, error) {
	made, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{ClientConn: made, since: time.Now(), shared: p.mayShare && made.Available() > 1, users: 1}
	c.idle = time.AfterFunc(idleTimeout, func() { p.closeIdle(c) })
	c.idle.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shared = c.shared; c.shared {
		p.list(c)
	}
	return c, nil
}

// put gives back what get has returned, after the answer has been read or given up.
func (p *pool) put(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.users--
	if p.closed || c.Err() != nil || c.old() {
		p.unlist(c)
		c.closeUnused()
		return
	}
	if !c.free {
		p.list(c)
	}
	if c.users == 0 {
		c.idle.Reset(idleTimeout)
	}
}

func (p *pool) closeIdle(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.users == 0 {
		p.unlist(c)
		c.closeUnused()
	}
}

// close closes the connections without requests, and the others when they have none any more.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for len(p.free) > 0 {
		c := p.free[len(p.free)-1]
		p.unlist(c)
		c.closeUnused()
	}
}

func (p *pool) list(c *connection) {
	p.free, c.free = append(p.free, c), true
}

// unlist looks from the end, where a connection most often is.
func (p *pool) unlist(c *connection) {
	if !c.free {
		return
	}
	for i, other := range slices.Backward(p.free) {
		if other == c {
			p.free = slices.Delete(p.free, i, i+1)
			break
		}
	}
	c.free = false
}

// room reports whether the connection takes another request. Reserve is not used: net/http counts what is reserved as under
// way, so when a server's limit turns out to be lower than that, all of it waits for ever.
func (c *connection) room() bool {
	limit := 1
	if c.shared {
		limit = unknownRoom
	}
	available := c.Available()
	if c.answered {
		limit = available + c.InFlight()
	}
	return available > 0 && c.users < limit
}

func (c *connection) old() bool { return time.Since(c.since) > maxAge }

// closeUnused closes a connection that is not free, unless it has requests under way: then the last of them does, by put.
func (c *connection) closeUnused() {
	if c.users == 0 {
		c.idle.Stop()
		c.Close()
	}
}
