package server

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// nodeKey tells nodes apart. Envoys of one group that share an id count as one node, which has acknowledged a version
// when all of them have.
type nodeKey struct{ group, id string }

// String is the node's key in go-control-plane's cache. Names of groups have no slash.
func (k nodeKey) String() string { return k.group + "/" + k.id }

// node is one that has a stream open.
type node struct {
	key     nodeKey
	group   *group // nil if no group takes it
	cluster string
	// inCache is what go-control-plane knows of it.
	inCache *corev3.Node
	since   time.Time
	streams map[*stream]struct{}

	// wanted is what it is to have, nil if nothing yet; has says whether it has acknowledged that.
	wanted      *snapshot
	wantedSince time.Time
	has         bool
	// acknowledged is the version it acknowledged last.
	acknowledged      string
	acknowledgedSince time.Time
	// settles is when no more subscriptions are to be expected.
	settles time.Time
	// shared says that several Envoys were seen at once under this id.
	shared bool
}

// stream is one of a node's: one for all types, or one for each.
type stream struct {
	// typeURL is the type of a service of its own.
	typeURL string
	// node is nil until the first request, which alone has to carry it.
	node *node
	// subscriptions by type, of the types that are served.
	subscriptions map[string]*subscription
}

// hasADS says whether the node has a stream for all types, of which an Envoy opens only one.
func (n *node) hasADS() bool {
	for s := range n.streams {
		if s.typeURL == "" {
			return true
		}
	}
	return false
}

// subscriptions yields those of all streams.
func (n *node) subscriptions() iter.Seq[*subscription] {
	return func(yield func(*subscription) bool) {
		for s := range n.streams {
			for _, b := range s.subscriptions {
				if !yield(b) {
					return
				}
			}
		}
	}
}

// complies says whether the node has acknowledged all it asked for of what it is to have. What it rejects although it
// is the same in the good version is its own problem, and not waited for.
func (n *node) complies(now time.Time, good *snapshot) bool {
	subscribed := map[string]bool{}
	for b := range n.subscriptions() {
		subscribed[b.typeURL] = true
		own := b.rejection != nil && good != nil && good != n.wanted &&
			b.rejected == good.GetVersion(b.typeURL) && b.rejected == n.wanted.GetVersion(b.typeURL)
		if !own && !b.has(n.wanted) {
			return false
		}
	}
	if len(subscribed) == 0 {
		return false
	}
	if !now.Before(n.settles) {
		return true
	}
	// One that subscribes to all there is may be believed at once.
	for typeURL := range typeNames {
		if !subscribed[typeURL] && len(n.wanted.GetResourcesAndTTL(typeURL)) > 0 {
			return false
		}
	}
	return true
}

// rejections returns what the node rejects, the latest of each type.
func (n *node) rejections() []rollout.Rejection {
	latest := map[string]rollout.Rejection{}
	for b := range n.subscriptions() {
		if r := b.rejection; r != nil && r.At.After(latest[b.typeURL].At) {
			latest[b.typeURL] = *r
		}
	}
	return slices.SortedFunc(maps.Values(latest), func(a, b rollout.Rejection) int { return cmp.Compare(a.Type, b.Type) })
}
