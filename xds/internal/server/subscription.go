package server

import (
	"maps"

	xdsstream "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"

	"github.com/marceloboeira/crowd/xds/internal/rollout"
)

// maxUnanswered bounds what is remembered of an Envoy that does not answer.
const maxUnanswered = 64

// subscription is what one stream asks for of one type, what it was sent, and what it said to that.
type subscription struct {
	typeURL string
	delta   bool
	// names are what is asked for, followed just as go-control-plane does. Its returned resources are what a delta
	// stream has acknowledged, by version.
	names xdsstream.Subscription
	// acknowledged is the version of the type that a state-of-the-world stream has acknowledged.
	acknowledged string
	// latest is the response sent last, and unanswered are those that wait for an answer, oldest first.
	latest     response
	unanswered []response
	// rejected is the version of the type in rejection, nil if there is none.
	rejected  string
	rejection *rollout.Rejection
}

// response is one message to an Envoy.
type response struct {
	nonce string
	// version is the type's, of the group's version that was sent ("" if none that is known any more).
	version, of string
	// updated and removed are what a delta stream was sent.
	updated map[string]string
	removed []string
}

func newSubscription(r request) *subscription {
	b := &subscription{typeURL: r.typeURL, delta: r.delta}
	if r.delta {
		// A clone, because go-control-plane goes on to change the map.
		b.names = xdsstream.NewDeltaSubscription(r.subscribe, r.unsubscribe, maps.Clone(r.initial), true)
	} else {
		b.names = xdsstream.NewSotwSubscription(r.names, true)
		b.acknowledged = r.version
	}
	return b
}

// update follows what is asked for.
func (b *subscription) update(r request) {
	switch {
	case r.delta:
		b.names.UpdateResourceSubscriptions(r.subscribe, r.unsubscribe)
	case b.latest.nonce == "" || b.latest.nonce == r.nonce: // others are stale, and ignored by go-control-plane as well
		b.names.SetResourceSubscription(r.names)
	}
}

func (b *subscription) sent(r response) {
	b.latest = r
	if len(b.unanswered) == maxUnanswered {
		b.unanswered = b.unanswered[1:]
	}
	b.unanswered = append(b.unanswered, r)
}

// answered returns the response that a nonce answers, and false where it answers none that waits for it.
func (b *subscription) answered(nonce string) (response, bool) {
	for i, r := range b.unanswered {
		if nonce != "" && r.nonce == nonce {
			b.unanswered = b.unanswered[i+1:]
			return r, true
		}
	}
	return response{}, false
}

// accept notes that r was acknowledged, which settles a rejection unless that is still news, as of a version that was
// rolled back.
func (b *subscription) accept(r response, news bool) {
	if !news && (b.rejected != r.version || !b.delta) { // delta responses may have had other resources of one version
		b.forgive()
	}
	if !b.delta {
		b.acknowledged = r.version
		return
	}
	has := b.names.ReturnedResources()
	maps.Copy(has, r.updated)
	for _, name := range r.removed {
		delete(has, name)
	}
}

func (b *subscription) reject(r response, why *rollout.Rejection) {
	b.rejected, b.rejection = r.version, why
}
func (b *subscription) forgive() { b.rejected, b.rejection = "", nil }

// has says whether the stream has acknowledged what s holds for it: nothing is on the way, and go-control-plane would
// send nothing.
func (b *subscription) has(s *snapshot) bool {
	if len(b.unanswered) > 0 {
		return false
	}
	versions, wanted := s.GetVersionMap(b.typeURL), b.names.SubscribedResources()
	if !b.delta {
		return b.acknowledged == s.GetVersion(b.typeURL) || !b.names.IsWildcard() && !within(versions, wanted)
	}
	has := b.names.ReturnedResources()
	for name, version := range versions {
		if b.subscribed(name) && has[name] != version {
			return false
		}
	}
	for name := range has {
		if _, exists := versions[name]; b.subscribed(name) && !exists {
			return false
		}
	}
	return true
}

func (b *subscription) subscribed(name string) bool {
	_, named := b.names.SubscribedResources()[name]
	return named || b.names.IsWildcard()
}

// within says whether all resources are asked for by name. Where they are not, go-control-plane sends nothing over a
// state-of-the-world stream: it waits until Envoy has learned of the others and asks for them too.
func within(versions map[string]string, names map[string]struct{}) bool {
	for name := range versions {
		if _, ok := names[name]; !ok {
			return false
		}
	}
	return true
}
