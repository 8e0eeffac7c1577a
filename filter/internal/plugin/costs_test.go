package plugin

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A call across the border of the module costs Envoy from half a microsecond to several, so what requests cost is counted
// here in calls, which are the same on every machine.

const (
	countedRequests = 100
	// loopRequests is how many of them arrive in one iteration of the event loop. Envoy sees 32 where 64 connections send as
	// much as it takes.
	loopRequests = 10
)

// counted plays requests, as Envoy does, after others that have opened a stream and have a batch in flight, and returns how
// often they called the host and were called by it, each.
func counted(t *testing.T, path string) (c *compiled, calls, entries map[string]float64) {
	t.Helper()
	c = newCompiled(t, `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}]}`, properties)
	request := func(path string) uint32 {
		headers := [][2]string{
			{":authority", "shop.example"}, {":path", path}, {":method", "POST"}, {":scheme", "https"}, {"content-length", "512"},
			{"content-type", "application/json"}, {"user-agent", "curl/8.5.0"}, {"accept", "*/*"}, {"x-forwarded-proto", "https"},
			{"x-request-id", "5f8d5a3e-9c0b-4d3a-8f43-0a9be1b2c3d4"},
		}
		id := c.InitializeHttpContext()
		c.CallOnRequestHeaders(id, headers, false)
		c.CallOnRequestBody(id, bytes.Repeat([]byte("x"), 512), true)
		return id
	}
	c.CompleteHttpContext(request("/leads"))
	c.welcome()
	clear(c.calls)
	clear(c.entries)
	c.busy = true
	for range countedRequests / loopRequests {
		var ids []uint32
		for range loopRequests {
			ids = append(ids, request(path))
		}
		c.turn()
		for _, id := range ids {
			c.CompleteHttpContext(id)
		}
	}
	each := func(counts map[string]int) map[string]float64 {
		means := map[string]float64{}
		for name, n := range counts {
			means[name] = float64(n) / countedRequests
		}
		return means
	}
	return c, each(c.calls), each(c.entries)
}

func TestCallsOfARequestThatIsAbsorbed(t *testing.T) {
	c, calls, entries := counted(t, "/leads")
	wantCounts(t, "host calls", calls, map[string]float64{
		"proxy_get_header_map_pairs": 1, "proxy_get_buffer_bytes": 1, "proxy_get_property": 1, "proxy_send_local_response": 1,
		"proxy_set_effective_context": 1 + 1.0/loopRequests,
		"clock_time_get":              1.0 / loopRequests,
		"proxy_enqueue_shared_queue":  1.0 / loopRequests,
		"proxy_dequeue_shared_queue":  1.0 / loopRequests,
	})
	wantCounts(t, "calls of the module", entries, map[string]float64{
		"proxy_on_context_create": 1, "proxy_on_request_headers": 1, "proxy_on_request_body": 1, "proxy_on_done": 1,
		"malloc": 3, "proxy_on_queue_ready": 1.0 / loopRequests,
	})

	c.opened = 1 // the uplink has looked for another collector meanwhile
	c.ack(1)
	batch := c.sent[len(c.sent)-1].Batch
	if len(batch.Records) != countedRequests {
		t.Fatalf("%d records in the batch, want %d", len(batch.Records), countedRequests)
	}
	const most = 512 + 276 // the body; its route, topic, address, time and id, and the headers with 6 bytes for each
	if n := len(batch.Records[0]); n > most {
		t.Errorf("a record takes %d bytes, want %d at most", n, most)
	}
}

func TestCallsOfARequestThatPasses(t *testing.T) {
	_, calls, entries := counted(t, "/other")
	wantCounts(t, "host calls", calls, map[string]float64{"proxy_get_header_map_pairs": 1})
	wantCounts(t, "calls of the module", entries, map[string]float64{
		"proxy_on_context_create": 1, "proxy_on_request_headers": 1, "proxy_on_request_body": 1, "proxy_on_done": 1,
		"malloc": 1,
	})
}

func wantCounts(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestSizeOfTheModule holds what every Envoy loads and compiles, and gets with its configuration where the code is inline.
func TestSizeOfTheModule(t *testing.T) {
	const most = 5_000_000
	m, err := buildModule()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.code) > most {
		t.Errorf("%d bytes, want %d at most", len(m.code), most)
	}
}
