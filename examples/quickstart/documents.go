package quickstart

import (
	"context"
	"sync"

	"github.com/marceloboeira/crowd/xds/route"
)

// documents are routes documents on their way from the xDS server, which must not be kept waiting, to whoever prints.
// They are safe for concurrent use.
type documents struct {
	mu      sync.Mutex
	waiting []route.Config
	more    chan struct{} // has room for one; something in it where there may be documents waiting
}

func newDocuments() *documents { return &documents{more: make(chan struct{}, 1)} }

// add never blocks.
func (d *documents) add(c route.Config) {
	d.mu.Lock()
	d.waiting = append(d.waiting, c)
	d.mu.Unlock()
	select {
	case d.more <- struct{}{}:
	default:
	}
}

// next waits for at least one document and returns those that are waiting, the oldest first. Its error is ctx's.
func (d *documents) next(ctx context.Context) ([]route.Config, error) {
	select {
	case <-d.more:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.waiting
	d.waiting = nil
	return all, nil
}
