// Package plugin is the filter as Envoy sees it: contexts that read the configuration, capture the requests
// that a route takes, hand them to the uplink and answer.
//
// One plugin context exists for each version of the configuration in each worker, and one more on the main
// thread, which gets ticks but never a request. All state hangs off the plugin context: a change of
// configuration makes a new one in the same VM, and the old one ends when its requests have ended and what it
// holds is stored.
package plugin

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// tickMilliseconds is the uplink's clock: how finely it counts backoff and silence, and how old the metrics
// of an idle worker may be.
const tickMilliseconds = 100

// doneTimeout bounds how long an outgoing plugin context waits for its last acknowledgements.
const doneTimeout = 30 * time.Second

// VM is the Wasm VM, which has no state of its own.
type VM struct {
	types.DefaultVMContext
}

// NewPluginContext begins a plugin context.
func (*VM) NewPluginContext(id uint32) types.PluginContext {
	return &plugin{id: id, began: time.Now()}
}

// plugin is one version of the configuration in one worker.
type plugin struct {
	types.DefaultPluginContext
	id    uint32
	began time.Time

	metrics metrics
	table   *route.Table // nil: the configuration is invalid, and everything passes untouched
	uplink  *uplink.Uplink
	counts  map[*route.Rule]*uplink.Count

	finishing  bool
	finishedBy time.Duration
}

// OnPluginStart reads the configuration. An invalid one leaves the plugin without routes: traffic goes on
// untouched, and the log and the metric `crowd.config_invalid` say so. Refusing to start would make Envoy
// answer every request of the listener with an error.
func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	p.metrics = defineMetrics()
	table, err := readTable()
	if err != nil {
		p.metrics.configInvalid.Increment(1)
		proxywasm.LogCriticalf("crowd: invalid configuration, no request is absorbed and all go on untouched: %v", err)
		return types.OnPluginStartStatusOK
	}
	config := table.Uplink()
	hello := record.Hello{
		Uplink:      record.NewUplinkID(),
		NodeID:      property("xds", "node", "id"),
		NodeCluster: property("xds", "node", "cluster"),
	}
	p.table = table
	p.counts = map[*route.Rule]*uplink.Count{}
	p.uplink = uplink.New(uplink.Config{
		Hello:              hello,
		MaxBufferBytes:     int(config.MaxBufferBytes),
		MaxBatchBytes:      int(config.MaxBatchBytes),
		UnreachableTimeout: time.Duration(config.UnreachableTimeout),
		Rand:               rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}, &host{cluster: config.Cluster})
	abi.Handle(p.id, p)
	if err := proxywasm.SetTickPeriodMilliSeconds(tickMilliseconds); err != nil {
		proxywasm.LogCriticalf("crowd: no ticks, lost streams will not be opened again: %v", err)
	}
	return types.OnPluginStartStatusOK
}

func readTable() (*route.Table, error) {
	raw, err := proxywasm.GetPluginConfiguration()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
		return nil, err
	}
	config, err := route.ParseJSON(raw)
	if err != nil {
		return nil, err
	}
	return route.Compile(config)
}

// property reads an Envoy attribute, "" where there is none.
func property(path ...string) string {
	value, err := proxywasm.GetProperty(path)
	if err != nil {
		return ""
	}
	return string(value)
}

// count returns the ledger line of a rule.
func (p *plugin) count(rule *route.Rule) *uplink.Count {
	c := p.counts[rule]
	if c == nil {
		c = p.uplink.Count(rule.Name, record.LevelMemory)
		p.counts[rule] = c
	}
	return c
}

// NewHttpContext begins a request.
func (p *plugin) NewHttpContext(uint32) types.HttpContext {
	return &request{plugin: p}
}

// OnTick tells the uplink the time.
func (p *plugin) OnTick() {
	if p.uplink == nil {
		return
	}
	now := time.Since(p.began)
	p.uplink.Tick(now)
	p.metrics.report(p.uplink)
	if p.finishing && (p.uplink.Idle() || now > p.finishedBy) {
		p.finish()
		proxywasm.PluginDone()
	}
}

// OnPluginDone is called when the last request of this configuration has ended. The streams end with the
// plugin context, so it stays until everything that was answered is stored, for doneTimeout at most.
func (p *plugin) OnPluginDone() bool {
	if p.uplink == nil {
		return true
	}
	if p.uplink.Idle() {
		p.finish()
		return true
	}
	p.finishing, p.finishedBy = true, time.Since(p.began)+doneTimeout
	return false
}

func (p *plugin) finish() {
	if !p.uplink.Idle() {
		proxywasm.LogCriticalf("crowd: %d bytes of records were answered and could not be stored within %v of the "+
			"configuration's end: they are lost", p.uplink.HeldBytes(), doneTimeout)
	}
	p.uplink.Close()
	p.metrics.report(p.uplink)
	abi.Handle(p.id, nil)
	p.uplink, p.table = nil, nil
}

// StreamMessage passes a collector's message on.
func (p *plugin) StreamMessage(stream uint32, message []byte) {
	p.uplink.Received(uplink.Stream(stream), message)
}

// StreamClosed passes a stream's end on.
func (p *plugin) StreamClosed(stream, status uint32, message string) {
	p.uplink.Closed(uplink.Stream(stream), closeReason(status, message))
}
