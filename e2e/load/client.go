package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// client sends one request at a time.
type client struct {
	load       *load
	conn       net.Conn
	answers    *bufio.Reader
	unwatch    func() bool // ends the watch over ctx
	statuses   map[int]int
	unanswered int
	latency    *hdrhistogram.Histogram
	due        time.Time // when the next request may be sent, where there is a pace
}

func (c *client) dial(ctx context.Context) error {
	c.hangUp()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.load.Address)
	if err != nil {
		return fmt.Errorf("load: connecting: %w", err)
	}
	c.conn, c.answers = conn, bufio.NewReader(conn)
	c.unwatch = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return nil
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.unwatch()
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) run(ctx context.Context) error {
	for now := c.paced(ctx, time.Now()); c.load.next(now); now = c.paced(ctx, now) {
		if c.conn == nil {
			if err := c.dial(ctx); err != nil {
				return err
			}
			now = time.Now()
		}
		a, err := c.exchange()
		switch {
		case err == nil:
			done := time.Now()
			c.statuses[a.status]++
			if err := c.latency.RecordValue(done.Sub(now).Microseconds()); err != nil {
				return fmt.Errorf("load: %w", err)
			}
			now = done
			if a.last {
				c.hangUp()
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errNotUnderstood):
			return err
		default:
			c.unanswered++
			c.hangUp()
			now = time.Now()
		}
	}
	return nil
}

// paced waits until the next request may be sent, and returns the time then. The end of ctx is found by who sends it.
func (c *client) paced(ctx context.Context, now time.Time) time.Time {
	if c.load.Pace == 0 {
		return now
	}
	if wait := c.due.Sub(now); wait > 0 {
		due := time.NewTimer(wait)
		defer due.Stop()
		select {
		case <-due.C:
		case <-ctx.Done():
		}
		now = time.Now()
	}
	c.due = now.Add(c.load.Pace)
	return now
}

func (c *client) exchange() (answer, error) {
	if _, err := c.conn.Write(c.load.Request); err != nil {
		return answer{}, err
	}
	return readAnswer(c.answers)
}
