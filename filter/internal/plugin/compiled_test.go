package plugin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/proxytest"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/marceloboeira/crowd/collector/collectpb"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/exports"
)

// buildModule compiles the filter as it is shipped, once for all tests.
var buildModule = sync.OnceValues(func() (module, error) {
	dir, err := os.MkdirTemp("", "crowd")
	if err != nil {
		return module{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "crowd.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", file,
		"github.com/marceloboeira/crowd/filter")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return module{}, fmt.Errorf("%w: %s", err, out)
	}
	built, err := os.ReadFile(file)
	if err != nil {
		return module{}, err
	}
	code, err := exports.Trim(built)
	if err != nil {
		return module{}, err
	}
	return module{code, wazero.NewCompilationCache()}, nil
})

type module struct {
	code  []byte
	cache wazero.CompilationCache
}

// Values of the proxy-wasm ABI (version 0.2.1) that the host side needs.
const (
	statusOK              = 0
	statusNotFound        = 1
	statusEmpty           = 7
	statusInternalFailure = 10
	statusUnimplemented   = 12

	bufferRequestBody  = 0
	bufferGRPCReceive  = 5
	bufferPluginConfig = 7

	mapRequestHeaders  = 0
	mapRequestTrailers = 1
)

// compiled is a proxy for the module, on wazero: as much of the ABI as crowd uses. Every host call is counted by name, and
// every call of the module.
type compiled struct {
	scene
	mod        api.Module
	calls      map[string]int
	entries    map[string]int
	failing    string // a host call that fails
	properties map[string]string

	effective uint32 // 0: current
	next      uint32
	plugin    uint32
	requests  map[uint32]*compiledRequest
	received  []byte // message of the stream, while it is delivered
	config    []byte

	metricNames []string
	metrics     map[string]int64
	shared      map[string]string // data of all VMs
	logs        []string          // critical
	ended       []uint32          // plugin contexts that ended what they had left pending
	current     uint32            // the context that was called
	hears       uint32            // the context that messages are delivered to
	ahead       time.Duration     // of the module's clock before the real one
	opener      uint32            // the context in whose name the last stream was opened
	unreachable bool              // streams end while they are opened

	busy    bool            // the event loop has more to see to in this iteration
	rings   uint32          // the context that has registered a queue
	rung    []uint32        // and was to be told of it, as often
	queued  int             // what is in that queue
	deleted map[uint32]bool // plugin contexts
	answers int             // in one callback
}

type compiledRequest struct {
	headers, trailers [][2]string
	body              []byte
	action            types.Action
	response          *proxytest.LocalHttpResponse
}

func newCompiled(t *testing.T, configuration string, properties map[string]string) *compiled {
	t.Helper()
	c := newVM(t, configuration, properties, map[string]string{})
	c.startPlugin(pluginContext)
	return c
}

// newVM is a VM without a plugin, which has data in common with others.
func newVM(t *testing.T, configuration string, properties, shared map[string]string) *compiled {
	t.Helper()
	m, err := buildModule()
	if err != nil {
		t.Fatal(err)
	}
	c := &compiled{
		calls: map[string]int{}, entries: map[string]int{}, properties: properties, requests: map[uint32]*compiledRequest{},
		metrics: map[string]int64{}, config: []byte(configuration), next: pluginContext,
		hears: pluginContext, shared: shared, deleted: map[uint32]bool{},
	}
	began := time.Now()
	ctx := t.Context()
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(m.cache))
	t.Cleanup(func() { _ = runtime.Close(context.Background()) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	code, err := runtime.CompileModule(ctx, m.code)
	if err != nil {
		t.Fatal(err)
	}
	env := runtime.NewHostModuleBuilder("env")
	for _, f := range code.ImportedFunctions() {
		from, name, _ := f.Import()
		if from != "env" {
			continue
		}
		env.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, _ api.Module, stack []uint64) {
			c.calls[name]++
			for i, typ := range f.ParamTypes() {
				if typ == api.ValueTypeI32 {
					stack[i] = uint64(uint32(stack[i])) // the upper half is not defined
				}
			}
			stack[0] = uint64(c.hostCall(name, stack))
		}), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	if _, err := env.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	c.mod, err = runtime.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithStartFunctions("_initialize").
		WithStderr(os.Stderr).WithWalltime(func() (int64, int32) {
		c.calls["clock_time_get"]++
		now := time.Now()
		return now.Unix(), int32(now.Nanosecond())
	}, 1).WithNanotime(func() int64 {
		c.calls["clock_time_get"]++
		return int64(time.Since(began) + c.ahead)
	}, 1))
	if err != nil {
		t.Fatal(err)
	}
	c.scene = scene{T: t, proxy: c}
	c.export("proxy_on_vm_start", 0, 0)
	return c
}

// startPlugin begins a plugin context, which becomes that of new requests.
func (c *compiled) startPlugin(id uint32) {
	c.Helper()
	if !c.starts(id) {
		c.Fatal("the plugin does not start")
	}
}

// starts begins a plugin context, which becomes that of new requests, and reports whether it takes its configuration.
func (c *compiled) starts(id uint32) bool {
	c.Helper()
	c.plugin = id
	c.call(id, "proxy_on_context_create", 0)
	return c.call(id, "proxy_on_configure", uint64(len(c.config))) == 1
}

// call calls one of the module's functions for a context, and ends the iteration of the event loop unless it is busy. It may
// be called within a host call.
func (c *compiled) call(id uint32, name string, args ...uint64) uint64 {
	c.Helper()
	current, effective := c.current, c.effective
	c.current, c.effective, c.answers = id, 0, 0
	result := c.export(name, append([]uint64{uint64(id)}, args...)...)
	c.current, c.effective = current, effective
	if name == "proxy_on_done" && result == 1 {
		c.deleted[id] = true
	}
	if current == 0 && !c.busy {
		c.turn()
	}
	return result
}

// turn ends an iteration of the event loop: what was posted in it is called.
func (c *compiled) turn() {
	c.Helper()
	for len(c.rung) > 0 {
		id := c.rung[0]
		if c.rung = c.rung[1:]; !c.deleted[id] {
			c.current, c.effective, c.answers = id, 0, 0
			c.export("proxy_on_queue_ready", uint64(id), 1)
			c.current = 0
		}
	}
}

// export calls one of the module's functions and returns its first result, 0 where it has none.
func (c *compiled) export(name string, args ...uint64) uint64 {
	c.Helper()
	c.entries[name]++
	out, err := c.mod.ExportedFunction(name).Call(c.Context(), args...)
	if err != nil {
		c.Fatalf("%s: %v", name, err)
	}
	if len(out) == 0 {
		return 0
	}
	return out[0]
}

func (c *compiled) read(at, n uint64) []byte {
	b, ok := c.mod.Memory().Read(uint32(at), uint32(n))
	if !ok {
		c.Fatalf("the module points at %d+%d, outside its memory", at, n)
	}
	return bytes.Clone(b)
}

// give copies bytes into memory that the module allocates and writes pointer and length where it wants them.
func (c *compiled) give(b []byte, pointer, length uint64) uint32 {
	at := uint64(0)
	if len(b) > 0 {
		at = c.export("malloc", uint64(len(b))) // which Envoy prefers to proxy_on_memory_allocate
		c.mod.Memory().Write(uint32(at), b)
	}
	c.mod.Memory().WriteUint32Le(uint32(pointer), uint32(at))
	c.mod.Memory().WriteUint32Le(uint32(length), uint32(len(b)))
	return statusOK
}

func (c *compiled) hostCall(name string, args []uint64) uint32 {
	effective := cmp.Or(c.effective, c.current)
	request := c.requests[effective]
	switch name {
	case c.failing:
		return statusInternalFailure
	case "proxy_set_effective_context":
		c.effective = uint32(args[0])
		return statusOK
	case "proxy_get_status":
		c.mod.Memory().WriteUint32Le(uint32(args[0]), 14)
		return c.give([]byte("gone"), args[1], args[2])
	case "proxy_log":
		if args[0] == 5 {
			c.logs = append(c.logs, string(c.read(args[1], args[2])))
		}
		return statusOK
	case "proxy_get_property":
		path := strings.ReplaceAll(string(c.read(args[0], args[1])), "\x00", ".")
		if value, ok := c.properties[path]; ok {
			return c.give([]byte(value), args[2], args[3])
		}
		return statusNotFound
	case "proxy_get_shared_data":
		value, ok := c.shared[string(c.read(args[0], args[1]))]
		if !ok {
			return statusNotFound
		}
		c.mod.Memory().WriteUint32Le(uint32(args[4]), 1)
		return c.give([]byte(value), args[2], args[3])
	case "proxy_set_shared_data":
		c.shared[string(c.read(args[0], args[1]))] = string(c.read(args[2], args[3]))
		return statusOK
	case "proxy_get_buffer_bytes":
		switch args[0] {
		case bufferPluginConfig:
			return c.give(c.config, args[3], args[4])
		case bufferGRPCReceive:
			return c.give(c.received, args[3], args[4])
		case bufferRequestBody:
			body := request.body[:min(len(request.body), int(args[2]))]
			if len(body) == 0 {
				return statusOK // and Envoy says nothing of where or how long it is
			}
			return c.give(body, args[3], args[4])
		}
	case "proxy_get_header_map_pairs":
		switch args[0] {
		case mapRequestHeaders:
			return c.give(serialize(request.headers), args[1], args[2])
		case mapRequestTrailers:
			return c.give(serialize(request.trailers), args[1], args[2])
		}
	case "proxy_send_local_response":
		// Envoy stops the request that is called as soon as any is answered; and it answers when the call is over, each
		// within the end of the one before.
		if c.requests[c.current] != nil && effective != c.current {
			c.Errorf("request %d is answered in a callback of request %d", effective, c.current)
		}
		if c.answers++; c.answers > 64 {
			c.Errorf("%d requests are answered in one callback", c.answers)
		}
		request.response = &proxytest.LocalHttpResponse{
			StatusCode: uint32(args[0]), Data: c.read(args[3], args[4]), Headers: deserialize(c.read(args[5], args[6])),
		}
		return statusOK
	case "proxy_define_metric":
		c.metricNames = append(c.metricNames, string(c.read(args[1], args[2])))
		c.mod.Memory().WriteUint32Le(uint32(args[3]), uint32(len(c.metricNames)-1))
		return statusOK
	case "proxy_increment_metric":
		c.metrics[c.metricNames[args[0]]] += int64(args[1])
		return statusOK
	case "proxy_record_metric":
		c.metrics[c.metricNames[args[0]]] = int64(args[1])
		return statusOK
	case "proxy_set_tick_period_milliseconds":
		return statusOK
	case "proxy_done":
		c.ended = append(c.ended, effective)
		c.deleted[effective] = true
		return statusOK
	case "proxy_register_shared_queue":
		c.rings = effective
		c.mod.Memory().WriteUint32Le(uint32(args[2]), 1)
		return statusOK
	case "proxy_enqueue_shared_queue":
		c.queued++
		c.rung = append(c.rung, c.rings)
		return statusOK
	case "proxy_dequeue_shared_queue":
		if c.queued == 0 {
			return statusEmpty
		}
		c.queued--
		return c.give(nil, args[1], args[2])
	case "proxy_grpc_stream":
		stream, status := c.OpenStream(string(c.read(args[0], args[1])), string(c.read(args[2], args[3])),
			string(c.read(args[4], args[5])))
		c.opener = effective
		c.mod.Memory().WriteUint32Le(uint32(args[8]), stream)
		if c.unreachable {
			c.call(effective, "proxy_on_grpc_close", uint64(stream), 14)
		}
		return status
	case "proxy_grpc_send":
		return c.SendMessage(uint32(args[0]), c.read(args[1], args[2]))
	case "proxy_grpc_cancel":
		return statusOK
	}
	c.Errorf("the module calls %s%v, which this host does not have", name, args)
	return statusUnimplemented
}

// serialize is Envoy's form of a header map; for an empty one it gives nothing at all.
func serialize(pairs [][2]string) []byte {
	if len(pairs) == 0 {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(pairs)))
	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[0])))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[1])))
	}
	for _, p := range pairs {
		b = append(append(append(append(b, p[0]...), 0), p[1]...), 0)
	}
	return b
}

func deserialize(b []byte) [][2]string {
	n := int(binary.LittleEndian.Uint32(b))
	sizes, data := b[4:], b[4+8*n:]
	text := func(i int) string {
		size := binary.LittleEndian.Uint32(sizes[4*i:])
		s := string(data[:size])
		data = data[size+1:]
		return s
	}
	pairs := make([][2]string, n)
	for i := range pairs {
		pairs[i] = [2]string{text(2 * i), text(2*i + 1)}
	}
	return pairs
}

func (c *compiled) InitializeHttpContext() uint32 {
	c.next++
	c.requests[c.next] = &compiledRequest{}
	c.call(c.next, "proxy_on_context_create", uint64(c.plugin))
	return c.next
}

func (c *compiled) act(name string, id uint32, args ...uint64) types.Action {
	c.requests[id].action = types.Action(c.call(id, name, args...))
	return c.requests[id].action
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func (c *compiled) CallOnRequestHeaders(id uint32, headers [][2]string, end bool) types.Action {
	c.requests[id].headers = headers
	return c.act("proxy_on_request_headers", id, uint64(len(headers)), number(end))
}

func (c *compiled) CallOnRequestBody(id uint32, body []byte, end bool) types.Action {
	r := c.requests[id]
	if r.action == types.ActionContinue {
		r.body = nil // has gone on
	}
	r.body = append(r.body, body...)
	action := c.act("proxy_on_request_body", id, uint64(len(r.body)), number(end))
	if action == stopAndDrop {
		r.body = nil
	}
	return action
}

func (c *compiled) CallOnRequestTrailers(id uint32, trailers [][2]string) types.Action {
	c.requests[id].trailers = trailers
	return c.act("proxy_on_request_trailers", id, uint64(len(trailers)))
}

func (c *compiled) CompleteHttpContext(id uint32) {
	c.call(id, "proxy_on_done")
}

func (c *compiled) GetSentLocalResponse(id uint32) *proxytest.LocalHttpResponse {
	return c.requests[id].response
}

func (c *compiled) GetCurrentRequestBody(id uint32) []byte { return c.requests[id].body }

func (c *compiled) Tick() { c.call(pluginContext, "proxy_on_tick") }

func (c *compiled) FinishVM() bool { return c.call(pluginContext, "proxy_on_done") != 0 }

func (c *compiled) done() bool { return len(c.ended) > 0 }

func (c *compiled) GetCriticalLogs() []string { return c.logs }

func (c *compiled) GetCounterMetric(name string) (uint64, error) {
	value, err := c.GetGaugeMetric(name)
	return uint64(value), err
}

func (c *compiled) GetGaugeMetric(name string) (uint64, error) {
	value, ok := c.metrics[name]
	if !ok {
		for _, defined := range c.metricNames {
			if defined == name {
				return 0, nil
			}
		}
		return 0, errors.New("no metric " + name)
	}
	return uint64(value), nil
}

func (c *compiled) deliver(stream uint32, message []byte) {
	c.received = message
	c.call(c.hears, "proxy_on_grpc_receive", uint64(stream), uint64(len(message)))
}

// welcomeOf and ackOf speak to another plugin context than the first.
func (c *compiled) welcomeOf(id uint32) { c.hears = id; c.welcome(); c.hears = pluginContext }

func (c *compiled) ackOf(id uint32, sequence uint64) {
	c.hears = id
	c.ack(sequence)
	c.hears = pluginContext
}

func (c *compiled) closeStream(stream uint32) {
	c.call(pluginContext, "proxy_on_grpc_close", uint64(stream), 14)
}

// TestAnotherPluginContextTakesOver changes the configuration with a batch in flight: the records stay, the streams
// of the old context are used until they are acknowledged, and new ones are opened in the name of the new context.
func TestAnotherPluginContextTakesOver(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	if c.opener != pluginContext || len(c.records()) != 1 {
		t.Fatalf("context %d opened a stream and sent %d records", c.opener, len(c.records()))
	}
	c.next = second
	c.startPlugin(second)
	if c.FinishVM() {
		t.Fatal("the old context ended with a batch in flight on its stream")
	}
	c.CompleteHttpContext(c.post("/leads", []byte("second")))
	c.untilOpened(2, func() { c.call(second, "proxy_on_tick") })
	if c.opener != second {
		t.Fatalf("the second stream was opened in the name of context %d, want %d", c.opener, second)
	}
	if c.Tick(); c.done() {
		t.Fatal("the old context ended with a batch in flight on its stream")
	}
	c.opened = 1
	c.ack(1)
	if c.Tick(); !c.done() || c.ended[0] != pluginContext {
		t.Fatalf("ended: %v, want the old context", c.ended)
	}
	c.opened = 2
	c.welcomeOf(second)
	all := c.records()
	if len(all) != 2 || string(all[1].Body) != "second" {
		t.Fatalf("%d records sent, want the second one too", len(all))
	}
	if last := c.sent[len(c.sent)-1].Batch; last.Sequence != 2 || last.Redelivered {
		t.Errorf("sent batch %d (again: %v), want 2: the sequence goes on", last.Sequence, last.Redelivered)
	}
}

// elsewhere is routes with another cluster of collectors.
var elsewhere = strings.Replace(routes, `"collectors"`, `"others"`, 1)

// configure begins a plugin context with another configuration, which becomes that of new requests.
func (c *compiled) configure(id uint32, configuration string) {
	c.Helper()
	c.next, c.config = id, []byte(configuration)
	c.startPlugin(id)
}

// changed begins a second plugin context with another configuration and ends the first one's requests.
func (c *compiled) changed(second uint32, configuration string) {
	c.Helper()
	c.configure(second, configuration)
	if c.FinishVM() {
		c.Fatal("the old context ended with a batch in flight on its stream")
	}
}

// TestRecordsFollowTheConfigurationToAnotherCluster takes the cluster away from an uplink that holds something: it
// goes to the next one, as the same uplink, when the old one has had its chance.
func TestRecordsFollowTheConfigurationToAnotherCluster(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	c.changed(second, elsewhere)
	if c.Tick(); c.done() || c.opened != 1 {
		t.Fatalf("ended %v, opened %d streams, though the old collector may still answer", c.ended, c.opened)
	}
	c.ahead = handoverTimeout + time.Second
	if c.Tick(); !c.done() {
		t.Fatal("the old context does not end")
	}
	c.untilOpened(2, func() { c.call(second, "proxy_on_tick") })
	if c.opener != second || c.service != abi.EnvoyGRPC("others") {
		t.Fatalf("context %d opened a stream to %q", c.opener, c.service)
	}
	c.welcomeOf(second)
	last := c.sent[len(c.sent)-1].Batch
	if last == nil || last.Sequence != 1 || !last.Redelivered || len(c.records()) != 2 {
		t.Fatalf("%d batches are sent, the last is %+v; want the first one again", len(c.records()), last)
	}
	c.ackOf(second, 1)
	c.call(second, "proxy_on_tick")
	if held, err := c.GetGaugeMetric("crowd.held_bytes"); err != nil || held != 0 {
		t.Errorf("%d bytes are held, %v", held, err)
	}
}

// TestALongRequestDoesNotKeepRecordsFromTheNewCluster has a request of the old configuration go on, a tunnel perhaps,
// so that its context does not leave.
func TestALongRequestDoesNotKeepRecordsFromTheNewCluster(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.closeStream(1)
	c.configure(second, elsewhere)
	c.CompleteHttpContext(c.InitializeHttpContext())
	for c.service != abi.EnvoyGRPC("others") {
		if c.ahead += 100 * time.Millisecond; c.ahead > 2*handoverTimeout {
			t.Fatalf("streams go to %q after %v", c.service, c.ahead)
		}
		c.Tick()
		c.call(second, "proxy_on_tick")
		c.closeStream(c.opened)
	}
	if c.ahead < handoverTimeout {
		t.Errorf("the old cluster had only %v", c.ahead)
	}

	// The first configuration comes back, and Envoy takes its context again.
	c.plugin = pluginContext
	c.CompleteHttpContext(c.post("/leads", []byte("second")))
	if c.call(second, "proxy_on_done") != 1 {
		t.Error("the second context does not end, though it has nothing")
	}
	streams := c.opened
	for c.opened == streams {
		c.ahead += 100 * time.Millisecond
		c.Tick()
	}
	if c.service != abi.EnvoyGRPC("collectors") || c.opener != pluginContext {
		t.Errorf("context %d opened a stream to %q", c.opener, c.service)
	}
}

// TestAContextWhoseUplinkComesBackRetiresItsStreams has the first cluster come back while the first context waits for
// its end: that one's streams are replaced, and not used until it is too late.
func TestAContextWhoseUplinkComesBackRetiresItsStreams(t *testing.T) {
	const second, third = 1000, 2000
	c := newCompiled(t, routes, properties)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	c.changed(second, elsewhere)
	c.configure(third, strings.Replace(routes, `"1KiB"`, `"2KiB"`, 1))
	c.Tick()
	if c.opened != 2 || c.opener != third {
		t.Fatalf("%d streams opened, the last in the name of context %d, want a second one in that of %d", c.opened, c.opener, third)
	}
	c.opened = 1
	c.ack(1)
	c.opened = 2
	if c.Tick(); !c.done() || c.ended[0] != pluginContext {
		t.Fatalf("ended: %v, want the first context, whose stream has nothing in flight", c.ended)
	}
	c.CompleteHttpContext(c.post("/leads", []byte("second")))
	c.welcomeOf(third)
	if last := c.sent[len(c.sent)-1].Batch; c.opener != third || last.Sequence != 2 || last.Redelivered {
		t.Errorf("context %d opened a stream and sent %+v, want batch 2 for the first time", c.opener, last)
	}
}

// TestFiltersOfOtherNamesKeepTheirClusters runs two filters in one VM, of which one goes: its records are not the other
// one's.
func TestFiltersOfOtherNamesKeepTheirClusters(t *testing.T) {
	const second = 1000
	names := map[string]string{"plugin_name": "first"}
	c := newCompiled(t, routes, names)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	names["plugin_name"] = "second"
	c.changed(second, elsewhere)
	c.ahead = handoverTimeout + time.Second
	if c.Tick(); !c.done() {
		t.Fatal("the first context does not end")
	}
	c.untilOpened(2, func() { c.call(second, "proxy_on_tick") })
	if c.opener != second || c.service != abi.EnvoyGRPC("collectors") {
		t.Errorf("context %d opened a stream to %q, want the first filter's collectors", c.opener, c.service)
	}
}

// TestFiltersOfOtherNamesShareNothing has a filter of another name move to another cluster, from the same one, which
// then cannot be reached: the first one's records stay, and take no room from the second.
func TestFiltersOfOtherNamesShareNothing(t *testing.T) {
	const second, third = 1000, 2000
	names := map[string]string{"plugin_name": "first"}
	c := newCompiled(t, routes, names)
	names["plugin_name"] = "second"
	c.startPlugin(second)
	c.config = []byte(elsewhere)
	c.startPlugin(third)
	if c.call(second, "proxy_on_done") != 1 {
		t.Fatal("the second filter's old context waits, though it has nothing")
	}
	c.plugin, c.next = pluginContext, 5000
	id := c.post("/track/1", make([]byte, 2<<20))
	c.wantAnswer(id, 202, "")
	c.CompleteHttpContext(id)
	for c.ahead < 3*handoverTimeout {
		c.closeStream(c.opened)
		c.ahead += 100 * time.Millisecond
		c.Tick()
		c.call(third, "proxy_on_tick")
		if c.service != abi.EnvoyGRPC("collectors") {
			t.Fatalf("a stream goes to %q after %v", c.service, c.ahead)
		}
	}
	c.plugin = third
	c.wantAnswer(c.post("/track/2", make([]byte, 2<<20)), 202, "")
}

// TestAnInvalidConfigurationKeepsRecords has nobody but a context with an invalid configuration carry on: one that was
// taken when there was no other.
func TestAnInvalidConfigurationKeepsRecords(t *testing.T) {
	const second, third = 1000, 2000
	c := newCompiled(t, `{"routes": 7}`, properties)
	c.configure(second, routes)
	if !c.FinishVM() {
		t.Fatal("the first context waits, though it has nothing")
	}
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.call(second, "proxy_on_grpc_close", 1, 14) // the collector is down
	c.configure(third, `{"routes": 7}`)
	if c.call(second, "proxy_on_done") != 0 {
		t.Fatal("the second context ended with a record that nobody has stored")
	}
	c.ahead = handoverTimeout + time.Second
	if c.call(second, "proxy_on_tick"); !c.done() {
		t.Fatal("the second context does not end")
	}
	c.untilOpened(c.opened+1, func() { c.call(third, "proxy_on_tick") })
	if c.opener != third || c.service != abi.EnvoyGRPC("collectors") {
		t.Fatalf("context %d opened a stream to %q", c.opener, c.service)
	}
	c.welcomeOf(third)
	if all := c.records(); len(all) != 1 || string(all[0].Body) != "first" {
		t.Fatalf("%d records sent, want the one that was answered", len(all))
	}
	c.ackOf(third, 1)
	if c.call(third, "proxy_on_done") != 1 {
		t.Error("the last context does not end, though everything is stored")
	}
}

// TestADestroyedContextIsNotWaitedFor never calls a context again that waits for its end, which is all that Envoy
// does when the same configuration comes back and ends once more.
func TestADestroyedContextIsNotWaitedFor(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	c.changed(second, routes)
	c.ahead = handoverTimeout + 2*overdue
	c.call(second, "proxy_on_tick")
	if c.opener != second || c.calls["proxy_grpc_cancel"] != 1 {
		t.Fatalf("context %d opened a stream, %d were canceled", c.opener, c.calls["proxy_grpc_cancel"])
	}
	c.welcomeOf(second)
	if last := c.sent[len(c.sent)-1].Batch; last == nil || !last.Redelivered {
		t.Errorf("the last batch sent is %+v, want the first one again", last)
	}
	if c.Tick(); !slices.Contains(c.ended, uint32(pluginContext)) { // it was only late: the worker has stood still
		t.Errorf("a context that lives has not ended, but %v", c.ended)
	}
}

// TestWaitingRequestsSurviveAChangeOfTheConfiguration answers a request of the old configuration when the collector's
// word for it comes on the new one's stream.
func TestWaitingRequestsSurviveAChangeOfTheConfiguration(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	id := c.post("/orders", []byte("order"))
	c.welcome()
	c.configure(second, elsewhere)
	c.closeStream(1)
	c.untilOpened(2, func() { c.Tick(); c.call(second, "proxy_on_tick") })
	c.hears = c.opener
	c.welcome()
	c.hear(ackAt(collectpb.Level_LEVEL_DISK, 1))
	c.hears = pluginContext
	if got := header(c.wantAnswer(id, 200, `{"status":"OK"}`).Headers, AckHeader); got != "disk" {
		t.Errorf("%s is %q, want disk", AckHeader, got)
	}
	c.CompleteHttpContext(id)
}

// TestAckTimeout lets a request wait for longer than its route allows.
func TestAckTimeout(t *testing.T) {
	c := newCompiled(t, routes, properties)
	id := c.post("/orders", []byte("order"))
	c.welcome()
	c.ahead = 1900 * time.Millisecond
	if c.Tick(); c.GetSentLocalResponse(id) != nil {
		t.Fatal("answered before its time")
	}
	c.ahead = 3 * time.Second
	c.Tick()
	r := c.wantAnswer(id, 503, `{"error":"not stored in time","reason":"ack_timeout"}`)
	if header(r.Headers, "retry-after") == "" || header(r.Headers, RecordIDHeader) != c.records()[0].ID.String() {
		t.Errorf("headers %v, want retry-after and the record's id", r.Headers)
	}
	c.CompleteHttpContext(id)
	c.hear(ackAt(collectpb.Level_LEVEL_DISK, 1))
	if late, waiting, answered := c.counter("ack_timeout"), c.gauge("waiting_requests"), c.counter("answered"); late != 1 || waiting != 0 || answered != 0 {
		t.Errorf("%d late, %d waiting, %d answered, want 1, 0, 0", late, waiting, answered)
	}
}
