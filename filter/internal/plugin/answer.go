package plugin

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/abi"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// Headers of answers.
const (
	RecordIDHeader = "crowd-record-id"
	AckHeader      = "crowd-ack" // where the record is: memory, disk or kafka
)

const jsonType = "application/json;charset=UTF-8"

// reply is a route's answer as the host takes it. From one record to the next only the id differs, and that is always
// as long.
type reply struct {
	headers, body     []byte
	inHeaders, inBody []int // where the id stands
}

func newReply(rule *route.Rule, level record.Level) *reply {
	placeholder := record.NewID(time.Now()).String()
	var headers [][2]string
	if rule.ContentType != "" {
		headers = append(headers, [2]string{"content-type", rule.ContentType})
	}
	headers = append(headers, [2]string{RecordIDHeader, placeholder}, [2]string{AckHeader, level.String()})
	for _, h := range rule.Headers {
		headers = append(headers, [2]string{h.Name, string(h.Value.With(placeholder))})
	}
	r := &reply{headers: abi.AppendHeaderMap(nil, headers), body: slices.Clone(rule.Body.With(placeholder))}
	r.inHeaders, r.inBody = indices(r.headers, placeholder), indices(r.body, placeholder)
	return r
}

// indices returns where text stands in b.
func indices(b []byte, text string) (at []int) {
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(text))
		if i < 0 {
			return at
		}
		at = append(at, from+i)
		from += i + len(text)
	}
}

// write puts an id in its places.
func (r *reply) write(id record.ID) {
	first := r.inHeaders[0]
	text := id.AppendText(r.headers[first:first])
	for _, i := range r.inHeaders[1:] {
		copy(r.headers[i:], text)
	}
	for _, i := range r.inBody {
		copy(r.body[i:], text)
	}
}

// reply answers r.
func (r *request) reply() {
	switch {
	case r.failure != nil:
		r.answerFailed(r.failure)
	case r.limited > 0:
		r.answerLimited()
	case r.refusal != uplink.Taken:
		r.answerShed()
	case r.outcome.Refused != "":
		r.answerRefused(r.outcome.Refused)
	case r.outcome.Level > 0:
		r.answer(r.outcome.Level)
	default:
		r.answerLate()
	}
}

// answer gives the route's answer: the record has reached the level.
func (r *request) answer(level record.Level) {
	level = min(level, record.LevelKafka)
	reply := r.route.replies[level]
	if reply == nil {
		reply = newReply(r.rule, level)
		r.route.replies[level] = reply
	}
	reply.write(r.id)
	r.plugin.vm.metrics.answered.add()
	r.say(func() error { return abi.Answer(uint32(r.rule.Status), reply.headers, reply.body) })
}

// answerShed says that there is no room.
func (r *request) answerShed() {
	r.plugin.vm.metrics.shed[r.refusal].add()
	r.respond(503, [][2]string{{"content-type", jsonType}, retryAfter()},
		[]byte(`{"error":"overloaded","reason":"`+r.refusal.String()+`"}`))
}

// answerLimited says that the route has had its share.
func (r *request) answerLimited() {
	r.plugin.vm.metrics.rateLimited.add()
	seconds := (r.limited + time.Second - 1) / time.Second
	r.respond(429, [][2]string{{"content-type", jsonType}, {"retry-after", strconv.Itoa(int(seconds))}},
		[]byte(`{"error":"too many requests","reason":"rate_limited"}`))
}

// answerLate says that the record did not get there in time. It may still do so: whoever tries again can tell the two
// apart by their ids.
func (r *request) answerLate() {
	r.plugin.vm.metrics.late.add()
	r.respond(503, [][2]string{{"content-type", jsonType}, retryAfter(), {RecordIDHeader, r.id.String()}},
		[]byte(`{"error":"not stored in time","reason":"ack_timeout"}`))
}

// retryAfter is in seconds and differs, lest all clients come back together.
func retryAfter() [2]string { return [2]string{"retry-after", strconv.Itoa(1 + rand.IntN(3))} }

// answerRefused says that Kafka does not take the record in its topic; the class is a record.Refused's. Trying again is
// of no use, so there is no Retry-After.
func (r *request) answerRefused(class string) {
	r.plugin.vm.metrics.rejected.add()
	status := uint32(500)
	if class == tooLargeClass {
		status = 413
	}
	r.respond(status, [][2]string{{"content-type", jsonType}, {RecordIDHeader, r.id.String()}},
		[]byte(`{"error":"rejected","reason":`+strconv.Quote(class)+`}`))
}

// tooLargeClass is what collectors call a record that is larger than its topic takes (collectpb.Refused).
const tooLargeClass = "too_large"

func (r *request) answerTooLarge() {
	r.plugin.vm.metrics.tooLarge.add()
	r.respond(413, [][2]string{{"content-type", jsonType}},
		[]byte(`{"error":"body too large","max_body_bytes":`+strconv.Itoa(r.rule.MaxBody)+`}`))
	r.forget()
}

// answerFailed is for host calls that should not fail.
func (r *request) answerFailed(err error) {
	r.plugin.vm.metrics.failed.add()
	proxywasm.LogErrorf("crowd: request of route %s answered 500, it cannot be read: %v", r.rule.Name, err)
	r.respond(500, [][2]string{{"content-type", jsonType}}, []byte(`{"error":"internal"}`))
	r.forget()
}

func (r *request) respond(status uint32, headers [][2]string, body []byte) {
	r.say(func() error { return proxywasm.SendHttpResponse(status, headers, body, -1) })
}

// say gives an answer, if there is still somebody to hear it, in the request's name.
func (r *request) say(answer func() error) {
	r.answered = true
	if r.gone {
		return
	}
	err := abi.Become(r.context)
	if err == nil {
		err = answer()
	}
	if err != nil {
		proxywasm.LogErrorf("crowd: cannot answer a request of route %s: %v", r.rule.Name, err)
	}
}
