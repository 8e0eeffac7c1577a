package tail

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/marceloboeira/crowd/collector/record"
)

var received = time.Date(2026, 11, 23, 10, 11, 12, 131415926, time.UTC)

// stored is a record as it comes out of Kafka.
func stored(r record.Record) *sarama.ConsumerMessage {
	m := &sarama.ConsumerMessage{
		Topic: r.Topic, Partition: 3, Offset: 1042, Timestamp: r.Received.Truncate(time.Millisecond), Key: r.Key, Value: r.Body,
	}
	for _, h := range r.KafkaHeaders(false) {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(h.Name), Value: []byte(h.Value)})
	}
	return m
}

func lead(body string) record.Record {
	return record.Record{
		ID: record.NewID(received), Received: received, Route: "leads", Topic: "leads", Method: "POST", Scheme: "https",
		Authority: "shop.example", Path: "/leads?x=1", Source: "192.0.2.1:1", Body: []byte(body),
	}
}

func printed(t *testing.T, m *sarama.ConsumerMessage, asJSON bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := NewPrinter(&out, asJSON).Print(m); err != nil {
		t.Fatal(err)
	}
	line, ok := strings.CutSuffix(out.String(), "\n")
	if !ok {
		t.Fatalf("no line: %q", out.String())
	}
	return line
}

func TestLineForPeople(t *testing.T) {
	at := received.Local().Format("2006-01-02T15:04:05.000Z07:00")
	hostile := lead("\x1b[31mred\x07\n\u202eevil\u009b1m\xff")
	hostile.Path = "/\x1b[2J"
	for _, c := range []struct {
		name string
		m    *sarama.ConsumerMessage
		want string
	}{
		{"plain", stored(lead(`{"a":1}`)), `  leads  leads/3/1042  POST /leads?x=1  7 B  {"a":1}`},
		{"no body", stored(lead("")), `  leads  leads/3/1042  POST /leads?x=1  0 B`},
		{"just as long as shown", stored(lead(strings.Repeat("ü", 80))),
			`  leads  leads/3/1042  POST /leads?x=1  160 B  ` + strings.Repeat("ü", 80)},
		{"longer", stored(lead(strings.Repeat("😀", 81))),
			`  leads  leads/3/1042  POST /leads?x=1  324 B  ` + strings.Repeat("😀", 80) + "…"},
		{"very long", stored(lead(strings.Repeat("x", 3<<20))),
			`  leads  leads/3/1042  POST /leads?x=1  3.0 MiB  ` + strings.Repeat("x", 80) + "…"},
		{"controls", stored(hostile),
			`  leads  leads/3/1042  POST /\x1b[2J  22 B  \x1b[31mred\a\n\u202eevil\u009b1m\xff`},
		{"faked controls", stored(lead(`\x1b`)), `  leads  leads/3/1042  POST /leads?x=1  4 B  \\x1b`},
		{"not crowd's", &sarama.ConsumerMessage{Topic: "t", Timestamp: received, Value: []byte("x")},
			`  -  t/0/0  - -  1 B  x`},
	} {
		if diff := cmp.Diff(at+c.want, printed(t, c.m, false)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestJSON(t *testing.T) {
	binary := "\xff\x00"
	for _, c := range []struct {
		name string
		m    *sarama.ConsumerMessage
		want string
	}{
		{"text", &sarama.ConsumerMessage{
			Topic: "leads", Partition: 3, Offset: 7, Timestamp: received, Key: []byte("k"), Value: []byte(`{"a":"<ü>"}`),
			Headers: []*sarama.RecordHeader{
				{Key: []byte("cookie"), Value: []byte("a=1")}, {Key: []byte("cookie"), Value: []byte("b=2")},
				{Key: []byte("x-null")},
			},
		}, `{"topic":"leads","partition":3,"offset":7,"timestamp":"2026-11-23T10:11:12.131415926Z","key":"k",` +
			`"headers":[{"name":"cookie","value":"a=1"},{"name":"cookie","value":"b=2"},{"name":"x-null","value":null}],` +
			`"value":"{\"a\":\"<ü>\"}"}`},
		{"binary", &sarama.ConsumerMessage{
			Topic: "leads", Timestamp: received, Key: []byte(binary), Value: []byte(binary),
			Headers: []*sarama.RecordHeader{{Key: []byte("x"), Value: []byte(binary)}},
		}, `{"topic":"leads","partition":0,"offset":0,"timestamp":"2026-11-23T10:11:12.131415926Z","key_base64":"/wA=",` +
			`"headers":[{"name":"x","value_base64":"/wA="}],"value_base64":"/wA="}`},
		{"null and empty", &sarama.ConsumerMessage{Topic: "leads", Timestamp: received, Value: []byte{}},
			`{"topic":"leads","partition":0,"offset":0,"timestamp":"2026-11-23T10:11:12.131415926Z","key":null,` +
				`"headers":[],"value":""}`},
		{"controls", &sarama.ConsumerMessage{Topic: "leads", Timestamp: received, Value: []byte("\x1b\u009b\u202e\U000e0001")},
			`{"topic":"leads","partition":0,"offset":0,"timestamp":"2026-11-23T10:11:12.131415926Z","key":null,` +
				`"headers":[],"value":"\u001b\u009b\u202e\udb40\udc01"}`},
	} {
		if diff := cmp.Diff(c.want, printed(t, c.m, true)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// Whatever a record holds: one line without control characters, and the JSON gives the bytes back.
func FuzzPrinter(f *testing.F) {
	f.Add([]byte("key"), "x-name", []byte("value"), []byte(`{"a":1}`))
	f.Add([]byte(nil), "\x1b[0m", []byte("\x9b"), []byte("\u009b\u202e\u2028\x00\xff😀"))
	f.Fuzz(func(t *testing.T, key []byte, name string, value, body []byte) {
		m := &sarama.ConsumerMessage{
			Topic: name, Key: key, Value: body, Timestamp: received,
			Headers: []*sarama.RecordHeader{
				{Key: []byte(name), Value: value}, {Key: []byte(":path"), Value: value}, {Key: []byte("crowd-route"), Value: body},
			},
		}
		for _, asJSON := range []bool{false, true} {
			line := printed(t, m, asJSON)
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }); i >= 0 || !utf8.ValidString(line) {
				t.Errorf("unprintable at %d: %q", i, line)
			}
		}
		var back struct {
			Value       *string
			ValueBase64 *string `json:"value_base64"`
		}
		if err := json.Unmarshal([]byte(printed(t, m, true)), &back); err != nil {
			t.Fatal(err)
		}
		var got []byte
		switch {
		case back.Value != nil:
			got = []byte(*back.Value)
		case back.ValueBase64 != nil:
			got, _ = base64.StdEncoding.DecodeString(*back.ValueBase64)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("value %q comes back as %q", body, got)
		}
	})
}
