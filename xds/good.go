package xds

import (
	"context"
	"sync"
)

// goodVersions are the versions that proved good, on their way from the server, which must not be kept waiting, to the
// disk. It is safe for concurrent use.
type goodVersions struct {
	mu     sync.Mutex
	latest map[string]string // by group
	more   chan struct{}     // has room for one; something in it where there may be some
}

func newGoodVersions() *goodVersions {
	return &goodVersions{latest: map[string]string{}, more: make(chan struct{}, 1)}
}

// add never blocks.
func (v *goodVersions) add(group, version string) {
	v.mu.Lock()
	v.latest[group] = version
	v.mu.Unlock()
	select {
	case v.more <- struct{}{}:
	default:
	}
}

// run hands each group's latest version to keep until ctx ends, and what there is then.
func (v *goodVersions) run(ctx context.Context, keep func(group, version string)) {
	for ctx.Err() == nil {
		select {
		case <-v.more:
		case <-ctx.Done():
		}
		v.mu.Lock()
		latest := v.latest
		v.latest = map[string]string{}
		v.mu.Unlock()
		for group, version := range latest {
			keep(group, version)
		}
	}
}
