package plugin

import (
	"math/rand/v2"
	"strconv"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
)

// RecordIDHeader carries the record's id in an answer.
const RecordIDHeader = "crowd-record-id"

const jsonType = "application/json;charset=UTF-8"

// answer gives the route's answer: the record is the uplink's from now on.
func (r *request) answer() {
	headers := make([][2]string, 0, 2)
	if r.rule.ContentType != "" {
		headers = append(headers, [2]string{"content-type", r.rule.ContentType})
	}
	headers = append(headers, [2]string{RecordIDHeader, r.record.ID.String()})
	r.plugin.vm.metrics.answered.add()
	r.respond(r.rule.Status, headers, r.rule.Body)
}

// answerShed says that there is no room. Retry-After is in seconds and differs, lest all clients come back
// together.
func (r *request) answerShed() {
	r.plugin.vm.metrics.shed[r.refusal].add()
	r.respond(503, [][2]string{
		{"content-type", jsonType},
		{"retry-after", strconv.Itoa(1 + rand.IntN(3))},
	}, []byte(`{"error":"overloaded","reason":"`+r.refusal.String()+`"}`))
}

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

func (r *request) respond(status int, headers [][2]string, body []byte) {
	r.answered = true
	if err := proxywasm.SendHttpResponse(uint32(status), headers, body, -1); err != nil {
		proxywasm.LogErrorf("crowd: cannot answer a request of route %s: %v", r.rule.Name, err)
	}
}
