// Package plugin is the filter as Envoy sees it: contexts that read the configuration, capture the requests
// that a route takes, hand them to the uplink and answer.
//
// One plugin context exists for each version of the configuration in each worker, and one more on the main
// thread, which gets ticks but never a request. What was answered is the VM's (see VM), not theirs.
package plugin

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

const (
	// tickMilliseconds is the uplink's clock: how finely it counts backoff and silence, and how old the metrics
	// of an idle worker may be.
	tickMilliseconds = 100
	// handoverTimeout bounds how long a plugin context waits for acknowledgements on its streams when another
	// one takes over. What is not acknowledged by then is sent again by that one.
	handoverTimeout = 5 * time.Second
	// doneTimeout bounds how long the VM's last plugin context waits for everything to be stored. Envoy does not wait: it
	// ends the VM with its last context.
	doneTimeout = 30 * time.Second
	// overdue is how late a context that is leaving must be with its end to be taken for destroyed.
	overdue = time.Second
)

// plugin is one version of the configuration in one worker.
type plugin struct {
	types.DefaultPluginContext
	vm *VM
	id uint32

	name string // of the filter: whoever has the same one is another version of it

	table   *route.Table               // nil: the configuration is invalid, and everything passes untouched
	link    *link                      // nil where table is
	routes  map[*route.Rule]*usedRoute // of the table, as far as they have been used
	cluster string
	limits  uplink.Limits

	leaving bool          // OnPluginDone has been called
	leaveBy time.Duration // on the VM's clock
	ended   bool          // nothing is left of it but Envoy's context, if that
}

// OnPluginStart reads the configuration. An invalid one is refused where Envoy has an earlier one to go on with; where not,
// it leaves the plugin without routes, and traffic goes on untouched (see takeInvalid). The log and the metric
// `crowd.config_invalid` say so.
func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	if p.vm.metrics == nil {
		p.vm.metrics = defineMetrics()
	}
	p.name = property("plugin_name")
	raw, config, table, err := readTable()
	if err != nil {
		p.vm.metrics.configInvalid.Increment(1)
		if !takeInvalid(p.name, raw) {
			proxywasm.LogCriticalf("crowd: invalid configuration refused, the one before it stays: %v", err)
			return types.OnPluginStartStatusFailed
		}
		proxywasm.LogCriticalf("crowd: invalid configuration, no request is absorbed and all go on untouched: %v", err)
	}
	p.vm.plugins = append(p.vm.plugins, p)
	abi.Handle(p.id, p)
	p.setTicks(tickMilliseconds)
	if table != nil {
		noteValid(p.name)
		p.use(table)
		p.vm.keepBuckets(p.name, config.Routes)
	}
	return types.OnPluginStartStatusOK
}

// use gives p its routes.
func (p *plugin) use(table *route.Table) {
	config := table.Uplink()
	p.table, p.cluster, p.routes = table, config.Cluster, map[*route.Rule]*usedRoute{}
	p.limits = uplink.Limits{
		MaxBufferBytes:     int(config.MaxBufferBytes),
		MaxBatchBytes:      int(config.MaxBatchBytes),
		UnreachableTimeout: time.Duration(config.UnreachableTimeout),
		Streams:            config.Streams,
	}
	p.vm.join(p)
}

// setTicks also ends the ticks: Envoy would go on with them after the context is gone.
func (p *plugin) setTicks(milliseconds uint32) {
	if err := proxywasm.SetTickPeriodMilliSeconds(milliseconds); err != nil {
		proxywasm.LogCriticalf("crowd: cannot set the tick to %d ms: %v", milliseconds, err)
	}
}

// readTable returns the configuration as it came, as it was read and compiled, the latter nil where there is an error.
//
// What the one before has left is collected first, and nothing meanwhile, unless the VM's memory gets scarce: the worker stands
// still, and a collector would take a quarter of the time, although there is most often little garbage before the whole document
// has been read.
func readTable() (raw []byte, config route.Config, table *route.Table, err error) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	raw, err = proxywasm.GetPluginConfiguration()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
		return nil, config, nil, err
	}
	config, table, err = route.CompileJSON(raw)
	return raw, config, table, err
}

// property reads an Envoy attribute, "" where there is none.
func property(path ...string) string {
	value, err := proxywasm.GetProperty(path)
	if err != nil {
		return ""
	}
	return string(value)
}

// usedRoute is what goes with a rule of a table.
type usedRoute struct {
	uplink  *uplink.Route
	limit   *bucket                       // nil: none
	replies [record.LevelKafka + 1]*reply // by the level that the record has reached, as far as they have been given
}

// route returns what goes with a rule of p's table.
func (p *plugin) route(rule *route.Rule) *usedRoute {
	r := p.routes[rule]
	if r == nil {
		r = &usedRoute{
			uplink: p.link.uplink.Route(rule.Name, rule.Topic, levels[rule.Ack], rule.AckTimeout),
			limit:  p.vm.bucket(p.name, rule),
		}
		p.routes[rule] = r
	}
	return r
}

// levels are those of the route language.
var levels = map[route.Level]record.Level{
	route.LevelMemory: record.LevelMemory, route.LevelDisk: record.LevelDisk, route.LevelKafka: record.LevelKafka,
}

// NewHttpContext begins a request.
func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	p.vm.serving(p)
	return &request{plugin: p, context: id}
}

// OnTick tells uplinks the time. In the call in which p ends it opens no stream: one that failed at once would still be
// reported to it.
func (p *plugin) OnTick() {
	if p.leaving && (p.ended || p.vm.left(p)) {
		p.end()
		proxywasm.PluginDone()
		return
	}
	p.vm.tick(p)
	// Lets the garbage collector go on. Nothing else of the module's is ever scheduled: exported functions run on the one
	// goroutine that there is, so a collection that had begun in one would not end before a later one allocates, which may
	// be hundreds of megabytes later.
	runtime.Gosched()
}

// OnQueueReady is what p.vm has had itself woken for.
func (p *plugin) OnQueueReady(uint32) {
	p.vm.woken = false
	p.vm.turn(answersInTurn)
	p.vm.answerSoon(p)
}

// OnPluginDone is called when the last request of this configuration has ended. Its streams end with the context,
// so it stays until they are no longer needed.
func (p *plugin) OnPluginDone() bool {
	if !p.vm.leave(p) {
		return false
	}
	p.end()
	return true
}

// end is called in p's own context.
func (p *plugin) end() {
	p.setTicks(0)
	abi.Handle(p.id, nil)
	p.forget()
}

// forget lets go of what p has. A tick, if one comes, still ends it.
func (p *plugin) forget() {
	p.ended, p.link, p.table, p.routes = true, nil, nil, nil
}

// StreamMessage passes a collector's message on.
func (p *plugin) StreamMessage(stream uint32, message []byte) {
	if l := p.vm.owner(p, uplink.Stream(stream)); l != nil {
		l.uplink.Received(uplink.Stream(stream), message)
		p.vm.answerSoon(p)
	}
}

// StreamClosed passes a stream's end on.
func (p *plugin) StreamClosed(stream, status uint32, message string) {
	if l := p.vm.owner(p, uplink.Stream(stream)); l != nil {
		if l == p.vm.opening && l.owners[uplink.Stream(stream)] != p {
			p.vm.stillborn = uplink.Stream(stream)
		}
		delete(l.owners, uplink.Stream(stream))
		l.uplink.Closed(uplink.Stream(stream), closeReason(status, message))
	}
}
