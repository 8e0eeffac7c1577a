package plugin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/proxytest"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
)

const interleavedRoutes = `{
  "uplink": {"cluster": "collectors", "streams": 1, "max_buffer_bytes": "2MiB", "max_batch_bytes": "16KiB"},
  "defaults": {"topic": "all", "max_body": "64KiB", "key": "%REQ(x-client)%",
    "answer": {"body": "%RECORD_ID%,%RECORD_ID%", "headers": [{"name": "location", "value": "/%RECORD_ID%"}]}},
  "routes": [
    {"name": "memory", "match": {"path": "/memory"}},
    {"name": "disk", "match": {"path": "/disk"}, "ack": "disk", "ack_timeout": "50s"},
    {"name": "kafka", "match": {"path": "/kafka"}, "ack": "kafka", "ack_timeout": "50s"},
    {"name": "mirror", "match": {"path": "/mirror"}, "mode": "mirror"}
  ]
}`

// sender is a client in the middle of a request, of which every part says whose it is.
type sender struct {
	path     string
	id       uint32
	headers  [][2]string
	chunks   [][]byte
	trailers [][2]string // nil: none
	stays    int         // how many of the steps it makes before it leaves
	step     int
	left     bool
	answer   *proxytest.LocalHttpResponse
}

func newSender(rnd *rand.Rand, n int) *sender {
	mine := func(size int) string { return strings.Repeat(fmt.Sprintf("%d|", n), size/2+1)[:size] }
	s := &sender{
		path:    "/" + []string{"memory", "disk", "kafka", "mirror"}[rnd.IntN(4)],
		headers: [][2]string{{"x-client", fmt.Sprint(n)}},
		stays:   100,
	}
	for range rnd.IntN(20) {
		s.headers = append(s.headers, [2]string{fmt.Sprintf("x-%d", rnd.IntN(1000)), mine(rnd.IntN(200))})
	}
	if rnd.IntN(10) == 0 { // more than is lent
		s.headers = append(s.headers, [2]string{"x-large", mine(30_000)})
	}
	sizes := []int{0, 1, 100, 100, 4000, 5000, 17_000, 21_000, 40_000}
	for range rnd.IntN(5) {
		s.chunks = append(s.chunks, []byte(mine(sizes[rnd.IntN(len(sizes))])))
	}
	if rnd.IntN(4) == 0 {
		s.trailers = [][2]string{{"checksum", mine(1 + rnd.IntN(3000))}}
	}
	if rnd.IntN(5) == 0 {
		s.stays = rnd.IntN(4)
	}
	return s
}

// goOn makes the next step of the request, and reports whether that was the last one.
func (s *sender) goOn(e *scene) (last bool) {
	s.step++
	switch {
	case s.step > s.stays:
		s.left = true
		return true
	case s.step == 1:
		s.id = e.InitializeHttpContext()
		last = len(s.chunks) == 0 && s.trailers == nil
		e.CallOnRequestHeaders(s.id, append(headers("POST", s.path), s.headers...), last)
	case s.step <= 1+len(s.chunks):
		last = s.step == 1+len(s.chunks) && s.trailers == nil
		e.CallOnRequestBody(s.id, s.chunks[s.step-2], last)
	default:
		e.CallOnRequestTrailers(s.id, s.trailers)
		last = true
	}
	return last
}

// end ends the request, unless it waits for its answer.
func (s *sender) end(e *scene) bool {
	if s.id == 0 {
		return true // it left before it began
	}
	s.answer = e.GetSentLocalResponse(s.id)
	if s.answer == nil && !s.left && s.path != "/mirror" {
		return false
	}
	e.CompleteHttpContext(s.id)
	return true
}

// TestRequestsAreNotMixedUp plays many requests that go on beside each other, of all kinds and sizes, some of which end in
// the middle. Whatever was taken must be what was sent, and every answer must name the record of its own request.
func TestRequestsAreNotMixedUp(t *testing.T) {
	const clients = 100
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	play(t, interleavedRoutes, func(t *testing.T, e *scene) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		turn, iteration := func() {}, 1+rnd.IntN(100)
		if c, is := e.proxy.(*compiled); is {
			c.busy, turn = true, c.turn
		}
		var all, going, waiting []*sender
		window := &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Window{Window: &collectpb.Window{Bytes: 1 << 20}}}
		acknowledged, welcome := 0, false
		acknowledge := func() {
			e.opened = 1 // the uplink may have looked for another collector
			for ; acknowledged < len(e.sent); acknowledged++ {
				if b := e.sent[acknowledged].Batch; b != nil {
					e.ack(b.Sequence)
				}
			}
		}
		for len(all) < clients || len(going) > 0 {
			if len(all) < clients && (len(going) == 0 || rnd.IntN(3) == 0) {
				s := newSender(rnd, len(all))
				all, going = append(all, s), append(going, s)
			}
			i := rnd.IntN(len(going))
			if s := going[i]; s.goOn(e) {
				going = slices.Delete(going, i, i+1)
				waiting = append(waiting, s)
			}
			if rnd.IntN(iteration) == 0 {
				turn()
			}
			waiting = slices.DeleteFunc(waiting, func(s *sender) bool { return s.end(e) })
			switch {
			case !welcome && e.opened > 0:
				welcome = true
				e.welcome()
			case welcome && rnd.IntN(20) == 0:
				acknowledge()
			case welcome && rnd.IntN(50) == 0:
				e.opened = 1
				e.hear(window) // a silent collector would be given up where the machine is slow
				e.Tick()
			}
		}
		if turn(); !welcome {
			e.welcome()
		}
		for range 5 { // what is left, and the ledger
			e.Tick()
			acknowledge()
		}

		waiting = slices.DeleteFunc(waiting, func(s *sender) bool { return s.end(e) })
		if len(waiting) > 0 {
			t.Errorf("%d clients have no answer", len(waiting))
		}

		records := map[string]record.Record{}
		for _, r := range e.records() {
			if _, again := records[string(r.Key)]; again {
				t.Errorf("client %s has two records", r.Key)
			}
			records[string(r.Key)] = r
		}
		taken := 0
		for n, s := range all {
			r, is := records[fmt.Sprint(n)]
			if is {
				taken++
				s.compare(t, r)
			}
			if s.left {
				if is {
					t.Errorf("client %d has left before its request was whole, and has a record", n)
				}
				continue
			}
			tooLarge := len(bytes.Join(s.chunks, nil)) > 64<<10
			answer := s.answer
			switch {
			case s.path == "/mirror":
				if answer != nil || is && tooLarge {
					t.Errorf("client %d: answer %+v of a request that is mirrored, and that it is recorded is %t", n, answer, is)
				}
			case answer == nil: // it is among those that wait
			case answer.StatusCode == 200 && is:
				id := r.ID.String()
				if got := header(answer.Headers, RecordIDHeader); got != id || string(answer.Data) != id+","+id ||
					header(answer.Headers, "location") != "/"+id {
					t.Errorf("client %d is answered %q, %q, its record is %s", n, answer.Headers, answer.Data, id)
				}
			case is || answer.StatusCode != 503 && (answer.StatusCode != 413 || !tooLarge):
				t.Errorf("client %d is answered %d %s, and that it is recorded is %t", n, answer.StatusCode, answer.Data, is)
			}
		}
		if taken < len(all)/2 {
			t.Errorf("only %d records of %d requests", taken, len(all))
		}
		if held, wait := e.gauge("held_bytes"), e.gauge("waiting_requests"); held != 0 || wait != 0 {
			t.Errorf("%d bytes are held and %d requests wait after all is done", held, wait)
		}
	})
}

func (s *sender) compare(t *testing.T, r record.Record) {
	t.Helper()
	want := record.Record{
		ID: r.ID, Received: r.Received, Route: s.path[1:], Ack: r.Ack, Topic: "all", Key: []byte(s.headers[0][1]), Method: "POST",
		Scheme: "https", Authority: "shop.example", Path: s.path, Source: properties["source.address"], Mirrored: s.path == "/mirror",
		Body: bytes.Join(s.chunks, nil),
	}
	for _, h := range s.headers {
		want.Headers = append(want.Headers, record.Header{Name: h[0], Value: h[1]})
	}
	for _, h := range s.trailers {
		want.Trailers = append(want.Trailers, record.Header{Name: h[0], Value: h[1]})
	}
	if len(want.Body) == 0 {
		want.Body = nil
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("client %s (-want +got):\n%s", r.Key, diff)
	}
}
