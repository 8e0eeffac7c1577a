package plugin

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// Why a mirrored request has no record, beside the uplink's refusals.
const (
	skippedTooLarge    = "too_large"
	skippedRateLimited = "rate_limited"
	skippedIncomplete  = "incomplete" // its client left, or it was answered, before the whole of it had passed
	skippedUnreadable  = "unreadable" // a host call that should not fail did
)

// skipReasons lists them all.
func skipReasons() []string {
	reasons := []string{skippedTooLarge, skippedRateLimited, skippedIncomplete, skippedUnreadable}
	for _, r := range uplink.Refusals {
		reasons = append(reasons, r.String())
	}
	return reasons
}

// A mirrored request passes, and the methods below only look on: whatever becomes of the copy, every callback goes on
// with the iteration. Since the filter never stops it, Envoy shows each chunk once, also where filters behind this one
// gather the body, and a retry of the router's is not seen here at all. An internal redirect is: as another request.
//
// Who answers before the whole of a request has passed (the router without an upstream, say) ends it for this filter.

// mirrorHeaders begins the copy of a request.
func (r *request) mirrorHeaders(match *route.Request, endOfStream bool) {
	switch {
	case r.declaredTooLarge(match.Headers):
		r.skip(skippedTooLarge)
	case r.takeToken() > 0:
		r.skip(skippedRateLimited)
	default:
		r.capture(match, abi.Now())
		r.mirrored(endOfStream)
	}
}

// mirrorBody copies a chunk.
func (r *request) mirrorBody(bytes int, endOfStream bool) {
	if err := r.keep(bytes, endOfStream); err != nil {
		r.skipUnreadable(err)
		return
	}
	r.mirrored(endOfStream)
}

// mirrorTrailers ends the copy of a request that has trailers.
func (r *request) mirrorTrailers() {
	if err := r.keepTrailers(); err != nil {
		r.skipUnreadable(err)
		return
	}
	r.mirrored(true)
}

// mirrored gives the copy up where it has no room, and hands it to the uplink when it is whole. For the loss ledger the
// request is then answered at level memory, whatever the upstream answers: what the uplink has taken must be stored.
func (r *request) mirrored(whole bool) {
	switch {
	case r.size > r.rule.MaxBody:
		r.skip(skippedTooLarge)
		return
	case r.refusal == uplink.Taken && whole:
		r.refusal = r.add(nil)
	}
	switch {
	case r.refusal != uplink.Taken:
		r.skip(r.refusal.String())
	case whole:
		r.plugin.vm.metrics.mirrored.add()
		r.pass()
		r.plugin.vm.wake(r.plugin)
	}
}

func (r *request) skipUnreadable(err error) {
	proxywasm.LogErrorf("crowd: request of route %s is not recorded, it cannot be read: %v", r.rule.Name, err)
	r.skip(skippedUnreadable)
}

// skip gives up the copy.
func (r *request) skip(reason string) {
	r.plugin.vm.metrics.mirrorSkipped[reason].add()
	r.pass()
}

// pass lets go of a request whose copy is taken or given up: the rest of it is not looked at.
func (r *request) pass() {
	r.forget()
	r.rule = nil
}
