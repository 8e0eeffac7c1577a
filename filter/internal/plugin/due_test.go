package plugin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/collectpb"
)

// TestRequestsOfOneIterationAreAnsweredTogether has three clients' requests arrive before the event loop has seen to all.
func TestRequestsOfOneIterationAreAnsweredTogether(t *testing.T) {
	c := newCompiled(t, routes, properties)
	c.busy = true
	var ids []uint32
	for i := range 3 {
		ids = append(ids, c.post("/leads", fmt.Append(nil, i)))
	}
	waits := c.post("/orders", []byte("order"))
	if len(c.rung) != 1 || c.GetSentLocalResponse(ids[0]) != nil {
		t.Fatalf("the module has had itself called %d times, and answered %+v at once", len(c.rung), c.GetSentLocalResponse(ids[0]))
	}
	c.turn()
	for _, id := range ids {
		c.wantAnswer(id, 200, `{"status":"OK"}`)
		c.CompleteHttpContext(id)
	}
	c.welcome()
	all := c.records()
	if len(all) != 4 || len(c.sent) != 3 {
		t.Fatalf("%d records in %d messages, want 4 in 3: a greeting and a batch for each topic", len(all), len(c.sent))
	}
	for i, r := range all {
		if r.Topic == "leads" && header(c.GetSentLocalResponse(ids[i]).Headers, RecordIDHeader) != r.ID.String() {
			t.Errorf("record %d is %s, and its request is answered %v", i, r.ID, c.GetSentLocalResponse(ids[i]).Headers)
		}
	}
	if c.GetSentLocalResponse(waits) != nil {
		t.Error("a request is answered whose record nobody has stored")
	}
	if c.queued != 0 {
		t.Errorf("%d entries stay in the queue", c.queued)
	}
}

// TestWhoeverHasSentAllIsRecorded has clients leave in the same iteration of the event loop: one does not wait for its answer,
// the other one's body is not whole.
func TestWhoeverHasSentAllIsRecorded(t *testing.T) {
	c := newCompiled(t, routes, properties)
	c.busy = true
	stays, hasty := c.post("/leads", []byte("stays")), c.post("/leads", []byte("hasty"))
	torn := c.InitializeHttpContext()
	c.CallOnRequestHeaders(torn, headers("POST", "/leads"), false)
	c.CallOnRequestBody(torn, []byte("torn"), false)
	c.CompleteHttpContext(torn)
	c.CompleteHttpContext(hasty)
	if c.GetSentLocalResponse(stays) != nil {
		t.Error("a request is answered while another one's connection is closed")
	}
	c.turn()
	c.wantAnswer(stays, 200, `{"status":"OK"}`)
	if c.GetSentLocalResponse(hasty) != nil || c.GetSentLocalResponse(torn) != nil {
		t.Error("a request is answered that has ended")
	}
	c.welcome()
	all := c.records()
	if len(all) != 2 || string(all[0].Body) != "hasty" || string(all[1].Body) != "stays" {
		t.Errorf("%d records, want those of two requests", len(all))
	}
	c.CompleteHttpContext(stays)
	if held, left := c.gauge("held_bytes"), c.counter("abandoned"); left != 1 {
		t.Errorf("%d requests were abandoned, want 1 (%d bytes held)", left, held)
	}
}

// TestRequestsAreAnsweredWithoutTheEventLoop has hosts that do not call the module at the end of an iteration.
func TestRequestsAreAnsweredWithoutTheEventLoop(t *testing.T) {
	for _, call := range []string{"proxy_register_shared_queue", "proxy_enqueue_shared_queue"} {
		t.Run(call, func(t *testing.T) {
			c := newVM(t, routes, properties, map[string]string{})
			c.failing = call
			c.startPlugin(pluginContext)
			c.busy = true
			for range 2 {
				c.wantAnswer(c.post("/leads", []byte("a"), []byte("b")), 200, `{"status":"OK"}`)
			}
			c.welcome()
			if all := c.records(); len(all) != 2 || string(all[1].Body) != "ab" {
				t.Errorf("%d records, want 2", len(all))
			}
		})
	}
}

// TestRequestsAreAnsweredWhenTheirContextGoes ends the plugin context that was to be called, whose requests have ended, while
// those of another wait for the call.
func TestRequestsAreAnsweredWhenTheirContextGoes(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.configure(second, elsewhere)
	c.CompleteHttpContext(c.post("/leads", nil))
	if c.rings != second {
		t.Fatalf("context %d is called, want the one that had the first request", c.rings)
	}
	c.welcomeOf(second)
	c.ackOf(second, 1)
	c.busy = true
	c.plugin = pluginContext // which goes on, as a long request keeps it
	first := c.post("/leads", []byte("first"))
	if c.call(second, "proxy_on_done") != 1 {
		t.Fatal("a context that has nothing waits for its end")
	}
	if c.rings != pluginContext {
		t.Errorf("context %d is called, want the one whose request waits", c.rings)
	}
	c.turn()
	c.wantAnswer(first, 200, `{"status":"OK"}`)
}

// TestRequestsThatNobodyWokeUpForAreAnsweredByATick has the call be lost, as it is where Envoy has destroyed the context.
func TestRequestsThatNobodyWokeUpForAreAnsweredByATick(t *testing.T) {
	c := newCompiled(t, routes, properties)
	c.busy = true
	id := c.post("/leads", []byte("x"))
	c.rung = nil
	c.Tick()
	c.wantAnswer(id, 200, `{"status":"OK"}`)
	id = c.post("/leads", []byte("x"))
	c.turn()
	c.wantAnswer(id, 200, `{"status":"OK"}`)
}

// TestAnswersGoToTheirRequestsWhateverAStreamDoes has streams end within the call that opens them, in the middle of requests
// that are recorded together.
func TestAnswersGoToTheirRequestsWhateverAStreamDoes(t *testing.T) {
	c := newCompiled(t, routes, properties)
	c.unreachable, c.busy = true, true
	for n := 0; c.opened < 3; n++ {
		var ids []uint32
		for i := range 4 {
			ids = append(ids, c.post("/leads", fmt.Append(nil, n, i)))
		}
		if c.ahead += time.Second; c.ahead > time.Minute {
			t.Fatalf("%d streams are opened after %v", c.opened, c.ahead)
		}
		c.turn()
		for _, id := range ids {
			c.wantAnswer(id, 200, `{"status":"OK"}`)
			c.CompleteHttpContext(id)
		}
		c.Tick()
	}
}

// TestMoreThanIsLent has more arrive in one iteration than there is memory for that is always the same.
func TestMoreThanIsLent(t *testing.T) {
	c := newCompiled(t, interleavedRoutes, properties)
	c.busy = true
	const clients, size = 40, 16 << 10
	for i := range clients {
		c.post("/memory", bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	c.turn()
	c.opened = 1
	c.welcome()
	for acknowledged := 0; acknowledged < len(c.sent); acknowledged++ {
		if b := c.sent[acknowledged].Batch; b != nil {
			c.ack(b.Sequence)
		}
	}
	all := c.records()
	if len(all) != clients {
		t.Fatalf("%d records, want %d", len(all), clients)
	}
	for i, r := range all {
		if want := bytes.Repeat([]byte{byte('a' + i%26)}, size); !bytes.Equal(r.Body, want) {
			t.Errorf("record %d has another one's body", i)
		}
	}
}

// TestManyRequestsAtOnce has more clients wait for a collector than there are places for requests begun lately, and one that
// sends its request slowly all the while.
func TestManyRequestsAtOnce(t *testing.T) {
	c := newCompiled(t, routes, properties)
	slow := c.InitializeHttpContext()
	c.CallOnRequestHeaders(slow, headers("POST", "/leads"), false)
	var ids []uint32
	for i := range 1000 {
		ids = append(ids, c.post("/orders", fmt.Append(nil, i)))
	}
	c.welcome()
	for acknowledged := 0; acknowledged < len(c.sent); acknowledged++ {
		if b := c.sent[acknowledged].Batch; b != nil {
			c.ack(b.Sequence)
		}
	}
	c.CallOnRequestBody(slow, []byte("slow"), true)
	c.wantAnswer(slow, 200, `{"status":"OK"}`)
	for i, id := range append(ids, slow) {
		c.wantAnswer(id, 200, `{"status":"OK"}`)
		c.CompleteHttpContext(id)
		if c.CompleteHttpContext(id); t.Failed() { // which a host would not do, and nothing must be there any more
			t.Fatalf("request %d", i)
		}
	}
	if waiting, left := c.gauge("waiting_requests"), c.counter("abandoned"); waiting != 0 || left != 0 {
		t.Errorf("%d requests wait after all have ended, and %d were abandoned", waiting, left)
	}
}

// TestARequestIsGivenUpWhileRoomIsMade has the memory that is lent be full when a chunk comes, and no room for what is recorded
// of that very request then.
func TestARequestIsGivenUpWhileRoomIsMade(t *testing.T) {
	c := newCompiled(t, interleavedRoutes, properties)
	c.busy = true
	begin := func(path string, size int) uint32 {
		id := c.InitializeHttpContext()
		c.CallOnRequestHeaders(id, headers("POST", path), false)
		c.CallOnRequestBody(id, make([]byte, size), false)
		return id
	}
	free := 2 << 20 // max_buffer_bytes
	takes := func(size int) int {
		free -= size + pieceOverhead
		return size
	}
	slow := begin("/memory", takes(100))
	const lent = 15 // that fit, and no more
	for range lent {
		takes(16 << 10)
	}
	for free > 64<<10 {
		begin("/memory", takes(60<<10))
	}
	begin("/memory", takes(free-usualHead-pieceOverhead)) // which leaves a little less than a head takes
	var whole []uint32
	for range lent {
		whole = append(whole, c.post("/memory", make([]byte, 16<<10)))
	}
	c.CallOnRequestBody(slow, make([]byte, 10), false)
	if c.opened == 0 {
		t.Fatal("no room has been made")
	}
	if c.GetSentLocalResponse(whole[0]) != nil {
		t.Error("a request is answered in another one's callback")
	}
	c.CallOnRequestBody(slow, make([]byte, 10), true)
	c.turn()
	c.wantAnswer(slow, 503, `{"error":"overloaded","reason":"buffer_full"}`)
}

// TestVeryManyAnswersAtOnce has more requests wait than may be answered in one callback, at both kinds of level; the proxy here
// insists (see proxy_send_local_response).
func TestVeryManyAnswersAtOnce(t *testing.T) {
	const clients = 10*answersInTurn + 1
	c := newCompiled(t, routes, properties)
	for _, path := range []string{"/leads", "/orders"} {
		c.busy = true
		var ids []uint32
		for range clients {
			ids = append(ids, c.post(path, []byte("x")))
		}
		c.turn()
		if c.opened == 1 && path == "/leads" {
			c.welcome()
		}
		c.busy = false
		c.opened = 1
		if path == "/orders" {
			c.hear(ackAt(collectpb.Level_LEVEL_DISK, 2))
		} else {
			c.ack(1)
		}
		for _, id := range ids {
			c.wantAnswer(id, 200, `{"status":"OK"}`)
			c.CompleteHttpContext(id)
		}
	}
	if c.queued != 0 {
		t.Errorf("%d entries stay in the queue", c.queued)
	}
}

// TestLargeHeadersAreAccountedFor has clients send headers that do not fit what is lent, in one iteration: they count as what
// the filter holds, and those that find no room are refused.
func TestLargeHeadersAreAccountedFor(t *testing.T) {
	c := newCompiled(t, interleavedRoutes, properties)
	c.busy = true
	const clients, size = 300, 60 << 10
	for range 13 { // which leaves room for a chunk, and not for such headers
		c.post("/memory", make([]byte, 16<<10))
	}
	before := c.mod.Memory().Size()
	var ids []uint32
	for range clients {
		id := c.InitializeHttpContext()
		c.CallOnRequestHeaders(id, append(headers("POST", "/memory"), [2]string{"x-large", strings.Repeat("x", size)}), false)
		ids = append(ids, id)
	}
	if grown := c.mod.Memory().Size() - before; grown > clients*size*2/3 {
		t.Errorf("%d requests with %d bytes of headers have taken %d bytes of memory", clients, size, grown)
	}
	for _, id := range ids {
		c.CallOnRequestBody(id, []byte("x"), true)
	}
	c.turn()
	taken := 0
	for _, id := range ids {
		if c.GetSentLocalResponse(id).StatusCode == 200 {
			taken++
		}
	}
	if taken == 0 || taken > (2<<20)/size {
		t.Errorf("%d of %d requests are taken, which is not what 2 MiB have room for", taken, clients)
	}
}
