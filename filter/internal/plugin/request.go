package plugin

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// request is one HTTP request. Where its route absorbs (see mirror.go for the others), the body goes chunk by chunk into the
// filter's memory and never into Envoy's own buffer, whose limit does not bound it, and the answer is given when the whole
// of it has arrived, or later: a local reply before that makes Envoy close an HTTP/1 connection.
type request struct {
	types.DefaultHttpContext
	plugin  *plugin
	context uint32 // its id

	rule     *route.Rule // nil: not ours, goes on untouched
	route    *usedRoute
	raw      []byte // headers that are not recorded yet; they are lent, as the last chunk is
	received time.Time
	id       record.ID // given when the request is recorded
	head     []byte    // of the record
	chunks   [][]byte
	first    [1][]byte      // memory for chunks, which is most often one
	size     int            // bytes of body that have arrived
	reserved int            // bytes that the uplink has made room for
	refusal  uplink.Refusal // there was no room: the rest is drained, then the request is shed
	limited  time.Duration  // until its route has a token again: the rest is drained, then it is told so; 0: it has one
	failure  error          // of a host call: the request cannot be read
	outcome  uplink.Outcome // where none of these says that there is no record

	whole     bool // all of it has arrived
	due       bool // among VM.due
	waiting   bool // for its record to reach the level that the route asks for
	answering bool // among VM.answers
	answered  bool
	gone      bool // the client has left
}

// OnHttpRequestHeaders decides whose request it is.
func (r *request) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	if r.plugin.table == nil {
		return types.ActionContinue
	}
	vm := r.plugin.vm
	vm.makeRoom()
	raw, err := abi.RequestHeaders()
	var match route.Request
	if err == nil {
		match, err = vm.read(raw)
	}
	if err != nil {
		proxywasm.LogErrorf("crowd: request passed untouched, its headers cannot be read: %v", err)
		return types.ActionContinue
	}
	match.Draw = rand.Uint64()
	r.rule = r.plugin.table.Match(&match)
	if r.rule == nil {
		return types.ActionContinue
	}
	r.route = r.plugin.route(r.rule)
	if r.rule.Mode == route.ModeMirror {
		r.mirrorHeaders(&match, endOfStream)
		return types.ActionContinue
	}
	if r.declaredTooLarge(match.Headers) {
		r.answerTooLarge()
		return types.ActionPause
	}
	switch r.limited = r.takeToken(); {
	case r.limited > 0:
	case abi.Hold():
		r.raw = raw
	default: // there is so much of it that it must be accounted for at once
		r.capture(&match, abi.Now())
	}
	r.whole = endOfStream
	r.later()
	return types.ActionPause
}

// read returns what routes are matched by, but for the draw. Its headers are vm's until the next call.
func (v *VM) read(raw []byte) (match route.Request, err error) {
	clear(v.headers) // a shorter list would leave what the longer one points to
	v.headers, err = abi.ReadHeaderMap(v.headers[:0], raw)
	match.Headers = v.headers
	for _, h := range v.headers {
		switch h[0] {
		case ":method":
			match.Method = h[1]
		case ":authority":
			match.Authority = h[1]
		case ":path":
			match.Path = h[1]
		}
	}
	return match, err
}

// takeToken takes one of the route's rate limit and returns 0, or how long it is until there is one.
func (r *request) takeToken() time.Duration {
	if r.route.limit == nil {
		return 0
	}
	return r.route.limit.take(r.plugin.vm.now())
}

// capture records what the headers say.
func (r *request) capture(match *route.Request, received time.Time) {
	vm := r.plugin.vm
	clear(vm.recorded)
	r.received = received
	said := record.Record{
		Received: r.received, Route: r.rule.Name, Ack: r.route.uplink.Level(), Topic: r.rule.Topic, Key: r.rule.Key(match),
		Method: match.Method, Authority: match.Authority, Path: match.Path, Headers: vm.recorded[:0],
		Source: abi.SourceAddress(), Mirrored: r.rule.Mode == route.ModeMirror,
	}
	for _, h := range match.Headers {
		switch {
		case h[0] == ":scheme":
			said.Scheme = h[1]
		case h[0] != "" && h[0][0] != ':' && r.rule.Records(h[0]):
			said.Headers = append(said.Headers, record.Header{Name: h[0], Value: h[1]})
		}
	}
	vm.recorded = said.Headers
	r.head = said.AppendHead(vm.spareHead())
	r.reserve(cap(r.head) + pieceOverhead)
}

// pieceOverhead is more than what a head or a chunk of a body costs in memory beyond its bytes.
const pieceOverhead = 64

// reserve makes room for n bytes, or gives up the request's content.
func (r *request) reserve(n int) bool {
	if r.refusal == uplink.Taken {
		r.refusal = r.plugin.link.uplink.Reserve(n)
	}
	if r.refusal != uplink.Taken {
		r.forget()
		return false
	}
	r.reserved += n
	return true
}

// declaredTooLarge reports whether the headers announce a body that is too large.
func (r *request) declaredTooLarge(headers [][2]string) bool {
	for _, h := range headers {
		if h[0] == "content-length" {
			n, err := strconv.Atoi(h[1])
			return err == nil && n > r.rule.MaxBody
		}
	}
	return false
}

// stopAndDrop is proxy-wasm-cpp-host's FilterDataStatus::StopIterationNoBuffer, which the SDK has no name for: Envoy
// forgets the chunk that the filter has seen. Pausing would have it gather the body, and answer 413 itself when a
// chunk brings it above the buffer limit, before the filter has seen that one.
const stopAndDrop types.Action = 3

// OnHttpRequestBody takes a chunk.
func (r *request) OnHttpRequestBody(bytes int, endOfStream bool) types.Action {
	switch {
	case r.rule == nil:
		return types.ActionContinue
	case r.rule.Mode == route.ModeMirror:
		r.mirrorBody(bytes, endOfStream)
		return types.ActionContinue
	case r.answered || r.waiting || r.whole:
		return stopAndDrop
	}
	if r.limited == 0 {
		if err := r.keep(bytes, endOfStream); err != nil {
			r.answerFailed(err)
			return stopAndDrop
		}
	}
	if r.size > r.rule.MaxBody {
		r.answerTooLarge()
	} else if endOfStream {
		r.whole = true
		r.later()
	}
	return stopAndDrop
}

// smallChunk is the size up to which chunks are put together, lest a body in tiny frames costs many times its size.
const smallChunk = 4 << 10

// keep takes a chunk out of Envoy's memory, while there is room. The last one goes to the uplink before what is lent is taken
// back, so it need not be in memory of its own.
func (r *request) keep(bytes int, last bool) error {
	if bytes == 0 {
		return nil
	}
	r.plugin.vm.makeRoom()
	if r.answering || r.answered {
		return nil
	}
	r.size += bytes
	before := len(r.chunks) - 1
	joins := before >= 0 && len(r.chunks[before])+bytes <= smallChunk
	cost := bytes
	if !joins {
		cost += pieceOverhead
	}
	if r.size > r.rule.MaxBody || !r.reserve(cost) {
		return nil
	}
	take := abi.RequestBody
	if !joins && !last {
		take = ownRequestBody
	}
	chunk, err := take(bytes)
	if !joins && last {
		abi.Hold()
	}
	switch {
	case err != nil:
		return err
	case joins:
		r.chunks[before] = append(r.chunks[before], chunk...)
	case before < 0:
		r.chunks = append(r.first[:0], chunk)
	default:
		r.chunks = append(r.chunks, chunk)
	}
	return nil
}

// ownRequestBody returns the chunk in memory of its own.
func ownRequestBody(n int) ([]byte, error) { return proxywasm.GetHttpRequestBody(0, n) }

// OnHttpRequestTrailers ends a request that has trailers.
func (r *request) OnHttpRequestTrailers(int) types.Action {
	switch {
	case r.rule == nil:
		return types.ActionContinue
	case r.rule.Mode == route.ModeMirror:
		r.mirrorTrailers()
		return types.ActionContinue
	case r.answered || r.waiting || r.whole:
		return types.ActionPause
	}
	if r.raw != nil {
		r.goOn(abi.Now())
	}
	if r.limited == 0 {
		if err := r.keepTrailers(); err != nil {
			r.answerFailed(err)
			return types.ActionPause
		}
	}
	r.whole = true
	r.later()
	return types.ActionPause
}

func (r *request) keepTrailers() error {
	trailers, err := proxywasm.GetHttpRequestTrailers()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) { // which is how none are reported
		return err
	}
	for _, t := range trailers {
		if r.rule.Records(t[0]) {
			r.head = record.AppendTrailer(r.head, record.Header{Name: t[0], Value: t[1]})
		}
	}
	return nil
}

// finish hands the whole request to the uplink and has it answered, unless the record must get somewhere first.
func (r *request) finish() {
	if r.limited == 0 && r.refusal == uplink.Taken {
		var waiter uplink.Waiter
		if r.route.uplink.Level() != record.LevelMemory {
			waiter = r
		}
		r.refusal = r.add(waiter)
		r.wait(waiter != nil && r.refusal == uplink.Taken)
	}
	if !r.waiting {
		r.outcome.Level = record.LevelMemory
		r.ready()
	}
	r.forget()
}

// add hands the whole request to the uplink.
func (r *request) add(waiter uplink.Waiter) uplink.Refusal {
	reserved := r.reserved
	r.reserved = 0
	r.id = record.NewID(r.received)
	return r.plugin.link.uplink.Add(r.route.uplink, record.Parts{ID: r.id, Head: r.head, Body: r.chunks}, reserved, waiter)
}

// wait begins or ends the wait.
func (r *request) wait(waiting bool) {
	if r.waiting != waiting {
		r.waiting = waiting
		if waiting {
			r.plugin.vm.waiting++
		} else {
			r.plugin.vm.waiting--
		}
	}
}

// Settled implements uplink.Waiter.
func (r *request) Settled(o uplink.Outcome) (answered bool) {
	if !r.waiting {
		return false // the client has left
	}
	r.wait(false)
	r.outcome = o
	r.ready()
	return true
}

// forget gives back what the request holds.
func (r *request) forget() {
	if r.reserved > 0 {
		r.plugin.link.uplink.Release(r.reserved)
	}
	r.plugin.vm.keepHead(r.head)
	r.chunks, r.head, r.raw, r.reserved = nil, nil, nil, 0
	r.first = [1][]byte{} // requests that wait or are drained live on
}

// OnHttpStreamDone is the end of every request, also of one whose client left in the middle. One that is whole is recorded
// all the same: its client may be of those that do not wait for an answer.
func (r *request) OnHttpStreamDone() {
	due := r.due
	r.due, r.gone = false, true
	if r.rule == nil || r.plugin.link == nil {
		return
	}
	if due && r.whole {
		r.goOn(abi.Now())
	}
	if r.answering { // nobody hears it, but it counts
		r.answering = false
		r.reply()
	}
	switch {
	case r.rule.Mode == route.ModeMirror:
		r.skip(skippedIncomplete)
		return
	case !r.answered:
		r.plugin.vm.metrics.abandoned.add()
	}
	r.wait(false)
	r.forget()
}
