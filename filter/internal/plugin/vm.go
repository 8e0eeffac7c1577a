package plugin

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
)

// VM is the Wasm VM: what outlives a version of the configuration.
//
// Plugin contexts come and go with every change of the configuration, and two of the same configuration cannot
// even wait side by side for their end (Envoy keys those by configuration, and the later one destroys the
// earlier). So records are not theirs: they belong to the VM's uplink for a cluster, and plugin contexts only
// lend it their streams.
type VM struct {
	types.DefaultVMContext
	began   time.Time
	metrics *metrics
	stats   uplink.Stats // of all uplinks, also those that have ended
	links   []*link
}

// NewVM returns the VM's context.
func NewVM() *VM { return &VM{began: time.Now()} }

// NewPluginContext begins a plugin context.
func (v *VM) NewPluginContext(id uint32) types.PluginContext {
	return &plugin{vm: v, id: id}
}

// now is the uplinks' clock.
func (v *VM) now() time.Duration { return time.Since(v.began) }

// link is the uplink for one cluster, and the plugin contexts that use it.
type link struct {
	uplink  *uplink.Uplink
	cluster string
	counts  map[string]*uplink.Count // by route
	users   []*plugin                // the newest last; it opens the streams
	owners  map[uplink.Stream]*plugin
}

// join makes p the newest user of the uplink for its cluster, which begins with its first user.
func (v *VM) join(p *plugin, cluster string, limits uplink.Limits) *link {
	for _, l := range v.links {
		if l.cluster == cluster {
			l.users = append(l.users, p)
			l.uplink.SetLimits(limits)
			return l
		}
	}
	l := &link{
		cluster: cluster, counts: map[string]*uplink.Count{}, users: []*plugin{p}, owners: map[uplink.Stream]*plugin{},
	}
	l.uplink = uplink.New(uplink.Config{
		Hello: record.Hello{
			Uplink:      record.NewUplinkID(),
			NodeID:      property("xds", "node", "id"),
			NodeCluster: property("xds", "node", "cluster"),
			Version:     record.Version,
		},
		Rand:   rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Limits: limits,
	}, &host{link: l, service: abi.EnvoyGRPC(cluster)}, &v.stats)
	v.links = append(v.links, l)
	return l
}

// leave begins the end of p and reports whether nothing of it is left. Where another context uses the uplink, only
// p's streams have to end; otherwise everything that the uplink holds must be stored.
func (v *VM) leave(p *plugin) bool {
	l := p.link
	p.leaving, p.leaveBy = true, v.now()+handoverTimeout
	if l.heir() == nil {
		p.leaveBy = v.now() + doneTimeout
	}
	return v.left(p)
}

// left reports whether p has nothing left to wait for, and forgets it then.
func (v *VM) left(p *plugin) bool {
	l := p.link
	late := v.now() > p.leaveBy
	if l.heir() != nil {
		if l.owns(p) && !p.retired {
			p.retired = true
			l.uplink.Retire()
		}
		if late {
			l.abandon(p)
		}
		if l.owns(p) {
			return false
		}
	} else if !late && !l.uplink.Idle() {
		return false
	}
	l.users = slices.DeleteFunc(l.users, func(other *plugin) bool { return other == p })
	if len(l.users) == 0 {
		if !l.uplink.Idle() {
			proxywasm.LogCriticalf("crowd: %d bytes of records were answered and could not be stored within %v of the last "+
				"configuration's end: they are lost", l.uplink.HeldBytes(), doneTimeout)
		}
		l.uplink.Close()
		v.links = slices.DeleteFunc(v.links, func(other *link) bool { return other == l })
		v.report()
	}
	return true
}

// heir returns the newest user that is not leaving, nil where there is none.
func (l *link) heir() *plugin {
	for _, p := range slices.Backward(l.users) {
		if !p.leaving {
			return p
		}
	}
	return nil
}

// opener returns the context that new streams belong to.
func (l *link) opener() *plugin {
	if p := l.heir(); p != nil {
		return p
	}
	return l.users[len(l.users)-1]
}

// owns reports whether a stream of p is open.
func (l *link) owns(p *plugin) bool {
	for _, owner := range l.owners {
		if owner == p {
			return true
		}
	}
	return false
}

// abandon ends the streams of p; what is in flight on them is sent again on another.
func (l *link) abandon(p *plugin) {
	for stream, owner := range l.owners {
		if owner == p {
			(&host{link: l}).Cancel(stream)
			l.uplink.Closed(stream, "its configuration has ended")
		}
	}
}

// count returns the ledger's line of a route.
func (l *link) count(route string) *uplink.Count {
	c := l.counts[route]
	if c == nil {
		c = l.uplink.Count(route, record.LevelMemory)
		l.counts[route] = c
	}
	return c
}

// report brings Envoy's stats up to date.
func (v *VM) report() { v.metrics.report(&v.stats, v.links) }
