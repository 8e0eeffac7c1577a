package plugin

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// VM is the Wasm VM: what outlives a version of the configuration.
//
// Plugin contexts come and go with every change of the configuration, and two of the same configuration cannot
// even wait side by side for their end (Envoy keys those by configuration, and the later one destroys the
// earlier without a word). So records are not theirs: they belong to the VM's uplink for their filter and its cluster,
// and plugin contexts only lend it their streams.
type VM struct {
	types.DefaultVMContext
	began   time.Time
	metrics *metrics
	stats   uplink.Stats // of all uplinks, also those that have ended
	plugins []*plugin    // those that have begun and not ended; that of the latest configuration or request is the last
	links   []*link
	buckets map[bucketKey]*bucket // of the rate limits that requests have met
	leftAt  time.Duration         // when the last of them began to leave
	waiting int                   // requests
	heads   [][]byte              // empty, with memory to use again

	due       []*request // see due.go
	answers   []*request
	bell      string  // see abi.Register
	waker     *plugin // in whose name turn is called; nil: none has been needed
	woken     bool    // it will be called
	turning   bool    // it is running, ...
	mayAnswer int     // ... and gives so many answers more

	// What is lent while a request's headers are looked at; memory to use again.
	headers  [][2]string
	recorded []record.Header

	opening   *link         // whose uplink is opening a stream right now
	stillborn uplink.Stream // ended before the call that opened it was over
}

// NewVM returns the VM's context.
func NewVM() *VM {
	return &VM{began: time.Now(), buckets: map[bucketKey]*bucket{}, bell: "crowd." + record.NewID(time.Now()).String()}
}

// NewPluginContext begins a plugin context.
func (v *VM) NewPluginContext(id uint32) types.PluginContext {
	return &plugin{vm: v, id: id}
}

// Memory for heads of records that is kept: as many as requests may well be under way, of a usual size.
const (
	usualHead     = 1 << 10
	largestHead   = 4 << 10
	maxSpareHeads = 256
)

// spareHead returns memory for a record's head; see keepHead.
func (v *VM) spareHead() []byte {
	last := len(v.heads) - 1
	if last < 0 {
		return make([]byte, 0, usualHead)
	}
	head := v.heads[last]
	v.heads = v.heads[:last]
	return head
}

// keepHead takes the memory of a head that nobody needs any more.
func (v *VM) keepHead(head []byte) {
	if cap(head) > 0 && cap(head) <= largestHead && len(v.heads) < maxSpareHeads {
		v.heads = append(v.heads, head[:0])
	}
}

// now is the uplinks' clock.
func (v *VM) now() time.Duration { return time.Since(v.began) }

// link is the uplink of one filter for one cluster. One that no plugin context uses any more is an orphan: it lives
// until it holds nothing, and any context will do for its streams.
type link struct {
	vm      *VM
	uplink  *uplink.Uplink
	name    string // of the filter
	cluster string // where its streams go
	owners  map[uplink.Stream]*plugin
}

// join makes p the newest user of its filter's uplink for its cluster, which begins with its first user.
func (v *VM) join(p *plugin) {
	for _, l := range v.links {
		if l.name == p.name && l.cluster == p.cluster && (p.link == nil || l.user() != nil) {
			p.link = l
		}
	}
	if p.link == nil {
		p.link = v.newLink(p)
	}
	v.adopt()
	v.limit()
}

// serving notes that p has the latest request: when a configuration comes back before its context has ended, Envoy
// goes on with that one instead of beginning another.
func (v *VM) serving(p *plugin) {
	last := len(v.plugins) - 1
	if last >= 0 && v.plugins[last] != p {
		v.plugins = append(slices.DeleteFunc(v.plugins, func(other *plugin) bool { return other == p }), p)
	}
}

func (v *VM) newLink(p *plugin) *link {
	l := &link{
		vm: v, name: p.name, cluster: p.cluster, owners: map[uplink.Stream]*plugin{},
	}
	l.uplink = uplink.New(uplink.Config{
		Hello: record.Hello{
			Uplink:      record.NewUplinkID(),
			NodeID:      property("xds", "node", "id"),
			NodeCluster: property("xds", "node", "cluster"),
			Version:     record.Version,
		},
		Rand:   rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Limits: p.limits,
	}, &host{l}, &v.stats)
	l.uplink.Tick(v.now()) // the VM may be old: the clock does not begin at 0
	v.links = append(v.links, l)
	return l
}

// tick drives the uplinks whose streams p opens, and sees to contexts that Envoy has destroyed while they waited for
// their end, or whose ticks are late.
func (v *VM) tick(p *plugin) {
	if v.woken { // by a context that is gone, perhaps: Envoy destroys some without a word
		v.wakeIn(p)
	}
	v.turn(answersInTurn)
	for _, l := range v.links {
		if l.opener() == p {
			l.uplink.Tick(v.now())
		}
	}
	v.answerSoon(p)
	for _, other := range slices.Clone(v.plugins) {
		if other != p && other.leaving && v.now() > other.leaveBy+overdue && v.left(other) {
			other.forget()
		}
	}
	v.adopt()
	v.limit()
	v.report()
}

// limit gives uplinks the limits of their newest users. Those of present configurations make room for what others still
// hold, and several filters for each other, as they share the VM's memory.
func (v *VM) limit() {
	left, most := 0, 0
	for _, l := range v.links {
		if l.present() {
			most += l.heir().limits.MaxBufferBytes
		} else {
			left += l.uplink.HeldBytes()
		}
	}
	for _, l := range v.links {
		heir := l.heir()
		if heir == nil {
			continue // it takes nothing any more
		}
		limits := heir.limits
		if l.present() {
			if most > int(route.MaxMaxBufferBytes) {
				limits.MaxBufferBytes = limits.MaxBufferBytes * int(route.MaxMaxBufferBytes) / most
			}
			limits.MaxBufferBytes = max(0, limits.MaxBufferBytes-left)
		}
		l.uplink.SetLimits(limits)
	}
}

// leave begins the end of p and reports whether nothing of it is left.
func (v *VM) leave(p *plugin) bool {
	p.leaving, p.leaveBy = true, v.now()+handoverTimeout
	if v.heir() == nil {
		v.leftAt = v.now()
		held := 0
		for _, l := range v.links {
			held += l.uplink.HeldBytes()
		}
		if held > 0 {
			proxywasm.LogCriticalf("crowd: the last configuration has ended with %d bytes of records that no collector has "+
				"stored: they are lost if Envoy ends the VM now", held)
		}
	}
	return v.left(p)
}

// left reports whether p has nothing left to wait for, and takes it off the VM then. Where another context goes on with
// an uplink, p waits for acknowledgements on its own streams; where none does, for all that the uplink holds. When it
// has waited long enough, what is left is sent again on other contexts' streams (see adopt).
func (v *VM) left(p *plugin) bool {
	if v.heir() == nil {
		p.leaveBy = max(p.leaveBy, v.leftAt+doneTimeout)
	}
	if v.now() <= p.leaveBy {
		waits := false
		for _, l := range v.links {
			if l.opener() == p {
				waits = waits || !l.uplink.Idle()
				continue
			}
			if l.owns(p) {
				l.uplink.Retire(func(s uplink.Stream) bool { return l.owners[s] == p })
			}
			waits = waits || l.owns(p)
		}
		if waits {
			return false
		}
	}
	v.plugins = slices.DeleteFunc(v.plugins, func(other *plugin) bool { return other == p })
	v.wakeNoMore(p)
	if v.newest(func(other *plugin) bool { return other.name == p.name }) == nil {
		v.keepBuckets(p.name, nil)
	}
	v.adopt()
	for _, l := range v.links {
		l.abandon(p)
	}
	return true
}

// adopt sees to links that the present configuration has left behind: an orphan that holds nothing ends; the records of
// others go to the cluster that their filter has now. Its former cluster had its chance while a context was leaving, or
// is out of reach while a long request keeps one.
func (v *VM) adopt() {
	for _, l := range slices.Clone(v.links) {
		present := v.present(l.name)
		switch {
		case l.user() == nil && l.uplink.Idle():
			v.remove(l)
		case len(v.plugins) == 0:
			proxywasm.LogCriticalf("crowd: %d bytes of records were answered and could not be stored within %v of the last "+
				"configuration's end: they are lost", l.uplink.HeldBytes(), doneTimeout)
			v.remove(l)
		case present == nil || present.cluster == l.cluster:
		case present.link == l:
			l.cluster = present.cluster
		case l.user() == nil || l.uplink.Unreachable() > handoverTimeout:
			proxywasm.LogWarnf("crowd: %d bytes of records that cluster %s has not taken go to cluster %s, which the "+
				"configuration has now", l.uplink.HeldBytes(), l.cluster, present.cluster)
			l.cluster = present.cluster
		}
	}
}

// present returns the context of a filter's present configuration; nil where it has none that is valid.
func (v *VM) present(name string) *plugin {
	return v.newest(func(p *plugin) bool { return p.name == name && p.link != nil && !p.leaving })
}

// present reports whether l is that of a present configuration.
func (l *link) present() bool {
	p := l.vm.present(l.name)
	return p != nil && p.link == l
}

func (v *VM) remove(l *link) {
	l.uplink.Close()
	v.links = slices.DeleteFunc(v.links, func(other *link) bool { return other == l })
	v.report()
}

// heir returns the newest context that is not leaving, nil where there is none. One whose configuration is invalid will
// do: it has no requests, but may have streams.
func (v *VM) heir() *plugin {
	return v.newest(func(p *plugin) bool { return !p.leaving })
}

func (v *VM) newest(fits func(*plugin) bool) *plugin {
	for _, p := range slices.Backward(v.plugins) {
		if fits(p) {
			return p
		}
	}
	return nil
}

// heir returns the newest user that is not leaving, nil where there is none.
func (l *link) heir() *plugin {
	return l.vm.newest(func(p *plugin) bool { return p.link == l && !p.leaving })
}

// user returns the newest user, leaving or not; nil: l is an orphan.
func (l *link) user() *plugin {
	return l.vm.newest(func(p *plugin) bool { return p.link == l })
}

// opener returns the context that new streams belong to and whose ticks count; nil when the VM has none left.
func (l *link) opener() *plugin {
	anyone := l.vm.newest(func(*plugin) bool { return true })
	return cmp.Or(l.heir(), l.user(), l.vm.heir(), anyone)
}

// owner returns the link of a stream of p. One that none knows yet is being opened: Envoy may end it within that call.
func (v *VM) owner(p *plugin, s uplink.Stream) *link {
	for _, l := range v.links {
		if l.owners[s] == p {
			return l
		}
	}
	return v.opening
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
			(&host{l}).Cancel(stream)
			l.uplink.Closed(stream, "its configuration has ended")
		}
	}
}

// report brings Envoy's stats up to date.
func (v *VM) report() { v.metrics.report(&v.stats, v.links, v.waiting) }
