package plugin

import (
	"slices"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/marceloboeira/crowd/filter/internal/abi"
)

// Requests are recorded, sent and answered together: those that arrive in one iteration of the worker's event loop, when it
// has seen to all of them. None waits for anything but others' turns, and each costs Envoy a fifth less: what one request
// after another goes through stays in the processor's caches, while the way from one socket to the next drives it out.
//
//	headers, body ─▶ later ─▶ VM.due ─ catchUp ─▶ capture, finish ─▶ ready ─▶ VM.answers ─ turn ─▶ reply
//	                                                Settled ────────▶
//
// Recording may be brought forward. Answers are given in callbacks of plugin contexts alone: Envoy stops the request that it
// is in the middle of as soon as any is answered.

// answersInTurn is how many answers are given in one callback. Envoy gives them when it is over, each within the end of the
// request before it, so that their number is bounded by its stack: some 340 have been too many (Envoy 1.40).
const answersInTurn = 32

// later has r recorded when the iteration ends.
func (r *request) later() {
	if !r.due {
		r.due = true
		r.plugin.vm.due = append(r.plugin.vm.due, r)
	}
	r.plugin.vm.wake(r.plugin)
}

// ready has r answered: in the turn that is under way, or one that answerSoon asks for.
func (r *request) ready() {
	vm := r.plugin.vm
	if vm.mayAnswer > 0 {
		vm.mayAnswer--
		r.reply()
		return
	}
	r.answering = true
	vm.answers = append(vm.answers, r)
}

// answerSoon has the requests answered that are ready. It is not for calls of an uplink's, which turn may call.
func (v *VM) answerSoon(p *plugin) {
	if len(v.answers) > 0 {
		v.wake(p)
	}
}

// wake has turn called at the end of the iteration, in the name of some context that lives; p is one. Where the host cannot,
// it is called now.
func (v *VM) wake(p *plugin) {
	if v.woken || v.turning {
		return
	}
	if v.waker == nil {
		v.wakeIn(p)
	}
	if v.woken = abi.Wake(); !v.woken {
		v.turn(len(v.due) + len(v.answers))
	}
}

// wakeIn has turn called in the name of p from now on.
func (v *VM) wakeIn(p *plugin) {
	v.waker, v.woken = p, false
	if err := abi.As(p.id, func() error { return abi.Register(v.bell) }); err != nil {
		proxywasm.LogWarnf("crowd: every request is answered by itself, which costs more: %v", err)
	}
}

// wakeNoMore has turn no longer called in the name of p, which ends.
func (v *VM) wakeNoMore(p *plugin) {
	if v.waker != p {
		return
	}
	v.waker, v.woken = nil, false
	for _, r := range slices.Concat(v.due, v.answers) {
		if !r.gone {
			v.wake(r.plugin)
			return
		}
	}
}

// turn sees to all that is due, and gives so many answers at most.
func (v *VM) turn(answers int) {
	v.turning = true
	first := min(answers, len(v.answers))
	for _, r := range v.answers[:first] {
		if r.answering {
			r.answering = false
			r.reply()
		}
	}
	v.answers = slices.Delete(v.answers, 0, first)
	v.mayAnswer = answers - first
	v.catchUp()
	v.turning, v.mayAnswer = false, 0
}

// catchUp records the requests that are due, and sends what has been recorded.
func (v *VM) catchUp() {
	var now time.Time // which is a host call: once for all
	if len(v.due) > 0 {
		now = abi.Now()
	}
	for i, r := range v.due {
		v.due[i] = nil
		if r.due {
			r.goOn(now)
		}
	}
	v.due = v.due[:0]
	abi.TakeBack()
	for _, l := range v.links {
		l.uplink.Send()
	}
	_ = abi.Become(0)
}

// makeRoom has memory for what the host is about to lend.
func (v *VM) makeRoom() {
	if abi.Full() {
		v.catchUp()
	}
}

// goOn records what has been lent of a request that has arrived now, and hands it on if it is whole.
func (r *request) goOn(now time.Time) {
	r.due = false
	if r.raw != nil {
		raw := r.raw
		r.raw = nil
		match, err := r.plugin.vm.read(raw)
		if err == nil {
			err = abi.Become(r.context)
		}
		if err != nil {
			r.failure = err
			r.ready()
			return
		}
		r.capture(&match, now)
	}
	if r.whole {
		r.finish()
	}
}
