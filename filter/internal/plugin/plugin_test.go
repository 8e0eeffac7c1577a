package plugin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/proxytest"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
	"google.golang.org/protobuf/proto"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
)

const routes = `{
  "uplink": {"cluster": "collectors", "streams": 1, "max_buffer_bytes": "3MiB"},
  "routes": [
    {"name": "leads", "match": {"path": "/leads", "methods": ["POST"]}, "topic": "leads", "key": "%REQ(x-tenant)%", "max_body": "1KiB"},
    {"name": "tracking", "match": {"prefix": "/track/"}, "topic": "tracking", "max_body": "2MiB",
     "answer": {"status": 202, "body": "", "content_type": "text/plain"}},
    {"name": "orders", "match": {"path": "/orders"}, "topic": "orders", "ack": "disk", "ack_timeout": "2s"},
    {"name": "payments", "match": {"path": "/payments"}, "topic": "orders", "ack": "kafka"}
  ]
}`

// proxy is what the tests need of a proxy. The SDK's emulator is one for the native code, and compiled is one
// for the Wasm module.
type proxy interface {
	InitializeHttpContext() uint32
	CallOnRequestHeaders(id uint32, headers [][2]string, endOfStream bool) types.Action
	CallOnRequestBody(id uint32, body []byte, endOfStream bool) types.Action
	CallOnRequestTrailers(id uint32, trailers [][2]string) types.Action
	CompleteHttpContext(id uint32)
	GetSentLocalResponse(id uint32) *proxytest.LocalHttpResponse
	GetCurrentRequestBody(id uint32) []byte
	Tick()
	FinishVM() bool
	GetCriticalLogs() []string
	GetCounterMetric(name string) (uint64, error)
	GetGaugeMetric(name string) (uint64, error)
	deliver(stream uint32, message []byte)
	closeStream(stream uint32)
	done() bool // the plugin has ended what it left pending
}

// scene is a proxy with a plugin in it, and the collector's side of its streams.
type scene struct {
	*testing.T
	proxy
	service string
	opened  uint32
	sent    []record.UplinkMessage
}

const pluginContext = proxytest.PluginContextID

var properties = map[string]string{"source.address": "10.1.2.3:4444", "xds.node.id": "edge-1"}

// play runs a test twice: natively, and with the compiled module.
func play(t *testing.T, configuration string, test func(t *testing.T, s *scene)) {
	t.Run("native", func(t *testing.T) { test(t, &newEmulated(t, configuration).scene) })
	t.Run("wasm", func(t *testing.T) { test(t, &newCompiled(t, configuration, properties).scene) })
}

// emulated is the SDK's emulator of a proxy, with the streams that it lacks.
type emulated struct {
	scene
	proxytest.HostEmulator
}

func newEmulated(t *testing.T, configuration string) *emulated {
	t.Helper()
	vm := NewVM()
	options := proxytest.NewEmulatorOption().WithVMContext(vm).WithPluginConfiguration([]byte(configuration))
	for path, value := range properties {
		options.WithProperty(strings.Split(path, "."), []byte(value))
	}
	host, reset := proxytest.NewHostEmulator(options)
	e := &emulated{HostEmulator: host}
	e.scene = scene{T: t, proxy: native{host, vm}}
	abi.SetHost(&e.scene)
	t.Cleanup(func() {
		reset()
		abi.SetHost(nil)
	})
	if status := host.StartPlugin(); status != types.OnPluginStartStatusOK {
		t.Fatalf("plugin start: %v", status)
	}
	return e
}

// native adds to the emulator what a proxy does when a message arrives.
type native struct {
	proxytest.HostEmulator
	vm *VM
}

func (native) deliver(stream uint32, message []byte) { abi.Receive(pluginContext, stream, message) }

func (native) closeStream(stream uint32) { abi.CloseStream(pluginContext, stream, 14, "gone") }

// done is not to be had from the emulator, but the plugin's link is gone when it has ended.
func (n native) done() bool { return len(n.vm.links) == 0 }

func (n native) GetGaugeMetric(name string) (uint64, error) {
	return n.HostEmulator.GetGaugeMetric(name)
}

func (e *scene) OpenStream(grpcService, service, method string) (stream, status uint32) {
	if service+"/"+method != strings.TrimPrefix(collectpb.Collector_Collect_FullMethodName, "/") {
		e.Errorf("opened %s/%s", service, method)
	}
	e.service = grpcService
	e.opened++
	return e.opened, 0
}

func (e *scene) SendMessage(_ uint32, message []byte) (status uint32) {
	m, err := record.ParseUplinkMessage(bytes.Clone(message))
	if err != nil {
		e.Error(err)
	}
	e.sent = append(e.sent, m)
	return 0
}

func (e *scene) CancelStream(uint32) {}

func (e *scene) hear(m *collectpb.CollectorMessage) {
	e.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		e.Fatal(err)
	}
	e.deliver(e.opened, raw)
}

func (e *scene) welcome() {
	e.Helper()
	e.hear(&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Welcome{
		Welcome: &collectpb.Welcome{Levels: []collectpb.Level{collectpb.Level_LEVEL_KAFKA}, WindowBytes: 1 << 20}}})
}

func (e *scene) ack(sequence uint64) {
	e.Helper()
	e.hear(&collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{
		Ack: &collectpb.Ack{Sequence: sequence, Level: collectpb.Level_LEVEL_KAFKA}}})
}

// records returns those of every batch sent so far.
func (e *scene) records() (all []record.Record) {
	e.Helper()
	for _, m := range e.sent {
		if m.Batch == nil {
			continue
		}
		for _, raw := range m.Batch.Records {
			r, err := record.Parse(raw)
			if err != nil {
				e.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

func headers(method, path string, more ...string) [][2]string {
	h := [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "shop.example"}, {":path", path}}
	for i := 0; i < len(more); i += 2 {
		h = append(h, [2]string{more[i], more[i+1]})
	}
	return h
}

// post sends a request of the given chunks and returns its context.
func (e *scene) post(path string, chunks ...[]byte) uint32 {
	id := e.InitializeHttpContext()
	e.CallOnRequestHeaders(id, headers("POST", path), len(chunks) == 0)
	for i, c := range chunks {
		e.CallOnRequestBody(id, c, i == len(chunks)-1)
	}
	return id
}

func (e *scene) wantAnswer(id uint32, status uint32, body string) *proxytest.LocalHttpResponse {
	e.Helper()
	r := e.GetSentLocalResponse(id)
	if r == nil {
		e.Fatalf("no answer, want %d", status)
	}
	if r.StatusCode != status || string(r.Data) != body {
		e.Fatalf("answer %d %q, want %d %q", r.StatusCode, r.Data, status, body)
	}
	return r
}

// untilOpened lets ticks pass until the backoff is over and so many streams have been opened.
func (e *scene) untilOpened(streams uint32, tick func()) {
	e.Helper()
	for end := time.Now().Add(10 * time.Second); e.opened < streams; tick() {
		if time.Now().After(end) {
			e.Fatalf("%d streams opened, want %d", e.opened, streams)
		}
	}
}

func (e *scene) counter(name string) uint64 {
	e.Helper()
	e.Tick()
	n, err := e.GetCounterMetric("crowd." + name)
	if err != nil {
		e.Fatal(err)
	}
	return n
}

func (e *scene) gauge(name string) uint64 {
	e.Helper()
	e.Tick()
	n, err := e.GetGaugeMetric("crowd." + name)
	if err != nil {
		e.Fatal(err)
	}
	return n
}

func header(hs [][2]string, name string) string {
	for _, h := range hs {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

func TestARequestBecomesARecord(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/leads?a=b", "x-tenant", "acme", "x-twice", "1", "x-twice", "2",
			"authorization", "Bearer secret", "cookie", "secret"), false)
		if a := e.CallOnRequestBody(id, []byte("one\x00"), false); a != stopAndDrop {
			t.Errorf("action %v while the body arrives, though Envoy should not keep it", a)
		}
		if r := e.GetSentLocalResponse(id); r != nil {
			t.Fatal("answered before the request was whole")
		}
		e.CallOnRequestBody(id, []byte("two"), false)
		e.CallOnRequestTrailers(id, [][2]string{{"checksum", "x"}, {"authorization", "secret"}})
		answer := e.wantAnswer(id, 200, `{"status":"OK"}`)
		if got := header(answer.Headers, "content-type"); got != "application/json;charset=UTF-8" {
			t.Errorf("content-type %q", got)
		}

		if e.service != abi.EnvoyGRPC("collectors") || len(e.sent) != 1 || e.sent[0].Hello == nil || e.sent[0].Hello.NodeID != "edge-1" {
			t.Fatalf("opened a stream to %q with %+v", e.service, e.sent)
		}
		e.welcome()
		got := e.records()
		if len(got) != 1 {
			t.Fatalf("%d records, want 1", len(got))
		}
		r := got[0]
		if r.ID.String() != header(answer.Headers, "crowd-record-id") {
			t.Errorf("record %v, the client was told %q", r.ID, header(answer.Headers, "crowd-record-id"))
		}
		want := fmt.Sprint("leads leads acme POST https shop.example /leads?a=b 10.1.2.3:4444 memory ",
			[]record.Header{{Name: "x-tenant", Value: "acme"}, {Name: "x-twice", Value: "1"}, {Name: "x-twice", Value: "2"}},
			[]record.Header{{Name: "checksum", Value: "x"}}, "one\x00two")
		if is := fmt.Sprint(r.Route, " ", r.Topic, " ", string(r.Key), " ", r.Method, " ", r.Scheme, " ", r.Authority, " ",
			r.Path, " ", r.Source, " ", r.Ack, " ", r.Headers, r.Trailers, string(r.Body)); is != want {
			t.Errorf("record is\n%s, want\n%s", is, want)
		}
		e.CompleteHttpContext(id)
		e.ack(1)
		if n := e.counter("records_stored"); n != 1 {
			t.Errorf("%d records stored, want 1", n)
		}
		if held, err := e.GetGaugeMetric("crowd.held_bytes"); err != nil || held != 0 {
			t.Errorf("%d bytes held (%v), want 0", held, err)
		}
	})
}

func TestNoTrailersAtTheEnd(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/leads"), false)
		e.CallOnRequestBody(id, []byte("x"), false)
		e.CallOnRequestTrailers(id, nil)
		e.wantAnswer(id, 200, `{"status":"OK"}`)
	})
}

// TestTinyChunks sends a body of many chunks of one byte, which would not fit if each were kept on its own.
func TestTinyChunks(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/track/1"), false)
		var body []byte
		for i := range 60_000 {
			body = append(body, byte(i), byte(i>>8))
			e.CallOnRequestBody(id, body[2*i:2*i+1], false)
			e.CallOnRequestBody(id, body[2*i+1:], false)
		}
		if held := e.gauge("held_bytes"); held < uint64(len(body)) || held > uint64(len(body))*11/10 {
			t.Errorf("%d bytes held for a body of %d", held, len(body))
		}
		e.CallOnRequestBody(id, nil, true)
		e.wantAnswer(id, 202, "")
		e.welcome()
		if all := e.records(); len(all) != 1 || !bytes.Equal(all[0].Body, body) {
			t.Errorf("%d records, or another body", len(all))
		}
	})
}

func TestOtherRequestsGoOnUntouched(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		for _, h := range [][][2]string{
			headers("GET", "/leads"), headers("POST", "/other"), headers("POST", "/leads/1"),
			headers("POST", "/leads", "content-type", "application/grpc+proto"), headers("POST", "/leads", "upgrade", "websocket"),
			headers("CONNECT", "/track/1"),
		} {
			id := e.InitializeHttpContext()
			if a := e.CallOnRequestHeaders(id, h, false); a != types.ActionContinue {
				t.Errorf("%v: headers: %v", h, a)
			}
			if a := e.CallOnRequestBody(id, []byte("body"), true); a != types.ActionContinue {
				t.Errorf("%v: body: %v", h, a)
			}
			if got := string(e.GetCurrentRequestBody(id)); got != "body" {
				t.Errorf("%v: body is now %q", h, got)
			}
			if r := e.GetSentLocalResponse(id); r != nil {
				t.Errorf("%v: answered %d", h, r.StatusCode)
			}
			e.CompleteHttpContext(id)
		}
		if e.opened != 0 {
			t.Error("opened a stream")
		}
	})
}

func TestARouteHasItsOwnAnswer(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.post("/track/x")
		r := e.wantAnswer(id, 202, "")
		if header(r.Headers, "crowd-record-id") == "" {
			t.Error("no crowd-record-id")
		}
	})
}

func TestTooLarge(t *testing.T) {
	const body = `{"error":"body too large","max_body_bytes":1024}`
	t.Run("declared", func(t *testing.T) {
		play(t, routes, func(t *testing.T, e *scene) {
			id := e.InitializeHttpContext()
			e.CallOnRequestHeaders(id, headers("POST", "/leads", "content-length", "1025"), false)
			e.wantAnswer(id, 413, body)
		})
	})
	t.Run("chunked", func(t *testing.T) {
		play(t, routes, func(t *testing.T, e *scene) {
			id := e.post("/leads", make([]byte, 1024), make([]byte, 1), nil)
			e.wantAnswer(id, 413, body)
			e.CompleteHttpContext(id)
			if n := e.counter("too_large"); n != 1 {
				t.Errorf("counted %d, want 1", n)
			}
			if held, _ := e.GetGaugeMetric("crowd.held_bytes"); held != 0 || e.opened != 0 {
				t.Errorf("%d bytes held, %d streams opened, want none", held, e.opened)
			}
		})
	})
	t.Run("exactly", func(t *testing.T) {
		play(t, routes, func(t *testing.T, e *scene) {
			e.wantAnswer(e.post("/leads", make([]byte, 1024)), 200, `{"status":"OK"}`)
		})
	})
}

func TestShed(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		first := e.post("/track/1", make([]byte, 2<<20))
		e.wantAnswer(first, 202, "")
		second := e.InitializeHttpContext()
		e.CallOnRequestHeaders(second, headers("POST", "/track/2"), false)
		e.CallOnRequestBody(second, make([]byte, 1<<19), false)
		e.CallOnRequestBody(second, make([]byte, 1<<19), false)
		if r := e.GetSentLocalResponse(second); r != nil {
			t.Error("answered before the request was whole: that costs the client its connection")
		}
		e.CallOnRequestBody(second, make([]byte, 1<<19), true)
		r := e.wantAnswer(second, 503, `{"error":"overloaded","reason":"buffer_full"}`)
		if header(r.Headers, "retry-after") == "" {
			t.Error("no retry-after")
		}
		if n := e.counter("shed.buffer_full"); n != 1 {
			t.Errorf("counted %d, want 1", n)
		}
		e.welcome()
		e.ack(1)
		e.wantAnswer(e.post("/track/3", make([]byte, 2<<20)), 202, "")
	})
}

func ackAt(level collectpb.Level, sequence uint64, refused ...*collectpb.Refused) *collectpb.CollectorMessage {
	return &collectpb.CollectorMessage{Message: &collectpb.CollectorMessage_Ack{
		Ack: &collectpb.Ack{Sequence: sequence, Level: level, Refused: refused}}}
}

func TestAnswersWaitForTheirLevel(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		order, payment := e.post("/orders", []byte("o")), e.post("/payments", []byte("p"))
		e.welcome()
		if n := e.gauge("waiting_requests"); n != 2 {
			t.Errorf("%d requests wait, want 2", n)
		}
		if r := e.GetSentLocalResponse(order); r != nil {
			t.Fatal("answered before the record was stored")
		}
		e.hear(ackAt(collectpb.Level_LEVEL_DISK, 1))
		r := e.wantAnswer(order, 200, `{"status":"OK"}`)
		if header(r.Headers, AckHeader) != "disk" || header(r.Headers, RecordIDHeader) != e.records()[0].ID.String() {
			t.Errorf("headers %v, want the level and the record's id", r.Headers)
		}
		if r := e.GetSentLocalResponse(payment); r != nil {
			t.Fatal("answered before Kafka had the record")
		}
		e.hear(ackAt(collectpb.Level_LEVEL_KAFKA, 2))
		if got := header(e.wantAnswer(payment, 200, `{"status":"OK"}`).Headers, AckHeader); got != "kafka" {
			t.Errorf("%s is %q, want kafka", AckHeader, got)
		}
		if records := e.records(); records[0].Ack != record.LevelDisk || records[1].Ack != record.LevelKafka {
			t.Errorf("the records ask for %v and %v", records[0].Ack, records[1].Ack)
		}
		memory := e.post("/leads", []byte("l"))
		if got := header(e.wantAnswer(memory, 200, `{"status":"OK"}`).Headers, AckHeader); got != "memory" {
			t.Errorf("%s is %q, want memory", AckHeader, got)
		}
		if waiting, answered := e.gauge("waiting_requests"), e.counter("answered"); waiting != 0 || answered != 3 {
			t.Errorf("%d wait, %d answered, want 0 and 3", waiting, answered)
		}
	})
}

func TestRecordsThatKafkaDoesNotTake(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		large := e.post("/payments", []byte("p"))
		e.welcome()
		e.hear(ackAt(collectpb.Level_LEVEL_KAFKA, 1, &collectpb.Refused{Class: "too_large", DeadLettered: true}))
		e.wantAnswer(large, 413, `{"error":"rejected","reason":"too_large"}`)
		invalid := e.post("/payments", []byte("p"))
		e.hear(ackAt(collectpb.Level_LEVEL_KAFKA, 2, &collectpb.Refused{Class: "invalid_topic"}))
		e.wantAnswer(invalid, 500, `{"error":"rejected","reason":"invalid_topic"}`)
		if dead, refused := e.counter("records_dead_lettered"), e.counter("records_refused"); dead != 1 || refused != 1 {
			t.Errorf("%d dead-lettered, %d refused, want one of each", dead, refused)
		}
	})
}

func TestAClientThatLeavesWhileItWaits(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.post("/orders", []byte("o"))
		e.welcome()
		e.CompleteHttpContext(id)
		e.hear(ackAt(collectpb.Level_LEVEL_DISK, 1))
		if r := e.GetSentLocalResponse(id); r != nil {
			t.Errorf("answered %+v, though nobody is there", r)
		}
		if abandoned, waiting, stored := e.counter("abandoned"), e.gauge("waiting_requests"), e.counter("records_stored"); abandoned != 1 ||
			waiting != 0 || stored != 1 {
			t.Errorf("%d abandoned, %d wait, %d stored, want 1, 0, 1", abandoned, waiting, stored)
		}
	})
}

func TestTheClientLeaves(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/track/1"), false)
		e.CallOnRequestBody(id, make([]byte, 1<<20), false)
		e.CompleteHttpContext(id)
		if n := e.counter("abandoned"); n != 1 {
			t.Errorf("counted %d, want 1", n)
		}
		if held, _ := e.GetGaugeMetric("crowd.held_bytes"); held != 0 || e.opened != 0 {
			t.Errorf("%d bytes held, %d streams opened, want none", held, e.opened)
		}
	})
}

func TestInvalidConfigurationPassesTrafficAndSaysSo(t *testing.T) {
	for name, configuration := range map[string]string{
		"none":          "",
		"not JSON":      "{",
		"unknown field": `{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads", "mathc": 1}]}`,
		"no topic":      `{"routes": [{"name": "leads", "match": {"path": "/leads"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			play(t, configuration, func(t *testing.T, e *scene) {
				id := e.InitializeHttpContext()
				if a := e.CallOnRequestHeaders(id, headers("POST", "/leads"), false); a != types.ActionContinue {
					t.Errorf("action %v", a)
				}
				e.CallOnRequestBody(id, []byte("x"), true)
				e.CompleteHttpContext(id)
				if n, err := e.GetCounterMetric("crowd.config_invalid"); err != nil || n != 1 {
					t.Errorf("counted %d (%v), want 1", n, err)
				}
				if logs := e.GetCriticalLogs(); len(logs) != 1 || !strings.Contains(logs[0], "invalid configuration") {
					t.Errorf("critical logs %q", logs)
				}
				if !e.FinishVM() {
					t.Error("an empty plugin does not end")
				}
			})
		})
	}
}

func TestAPluginEndsWhenEverythingIsStored(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		e.post("/leads", []byte("x"))
		e.welcome()
		e.Tick()
		if e.FinishVM() {
			t.Fatal("ended with a record that nobody has stored")
		}
		if logs := e.GetCriticalLogs(); len(logs) != 1 || !strings.Contains(logs[0], "lost if Envoy ends the VM now") {
			t.Errorf("critical logs %q, want that of a VM whose last context goes", logs)
		}
		e.Tick()
		if e.done() {
			t.Fatal("ended with a record that nobody has stored")
		}
		e.ack(1)
		e.Tick()
		if !e.done() {
			t.Error("not ended though everything is stored")
		}
	})
}

func TestAStreamThatEndsIsReplaced(t *testing.T) {
	play(t, routes, func(t *testing.T, e *scene) {
		e.post("/leads", []byte("x"))
		e.welcome()
		e.closeStream(1)
		e.untilOpened(2, e.Tick)
		e.welcome()
		if last := e.sent[len(e.sent)-1].Batch; last == nil || last.Sequence != 1 || !last.Redelivered {
			t.Errorf("sent %+v, want batch 1 again", last)
		}
		e.ack(1)
		if n := e.counter("batches_resent"); n != 1 {
			t.Errorf("counted %d, want 1", n)
		}
	})
}

// FuzzConfiguration starts a plugin with anything for a configuration: it may not take it, but each request passes, is
// answered, or waits, and no more is held than may be.
func FuzzConfiguration(f *testing.F) {
	for _, configuration := range []string{"", "{", routes, mirrorRoutes, limitedRoutes} {
		for _, path := range []string{"/leads", "/track/1", "/orders", "/limited?a=b"} {
			f.Add([]byte(configuration), "POST", path, []byte("x"))
		}
	}
	f.Fuzz(func(t *testing.T, configuration []byte, method, path string, body []byte) {
		e := &newEmulated(t, string(configuration)).scene
		vm := e.proxy.(native).vm
		for range 3 {
			waiting := vm.waiting
			id := e.InitializeHttpContext()
			passes := e.CallOnRequestHeaders(id, headers(method, path), false) == types.ActionContinue
			if a := e.CallOnRequestBody(id, body, true); passes != (a == types.ActionContinue) {
				t.Errorf("headers passed: %v, and the body: %v", passes, a)
			}
			answered, waits := e.GetSentLocalResponse(id) != nil, vm.waiting > waiting
			if passes == (answered || waits) || answered && waits {
				t.Errorf("passes: %v, answered: %v, waits: %v, want one of them", passes, answered, waits)
			}
			e.Tick()
			e.CompleteHttpContext(id)
		}
		for _, l := range vm.links {
			if limits := vm.plugins[0].limits; l.uplink.HeldBytes() > limits.MaxBufferBytes {
				t.Errorf("%d bytes held, %d may be", l.uplink.HeldBytes(), limits.MaxBufferBytes)
			}
		}
		e.FinishVM()
	})
}
