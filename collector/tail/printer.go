package tail

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/IBM/sarama"

	"github.com/marceloboeira/crowd/collector/record"
)

// shownBody is how much of a body is shown, in characters.
const shownBody = 80

// Printer writes records, one a line: for people
//
//	TIME  ROUTE  TOPIC/PARTITION/OFFSET  METHOD PATH  SIZE  FIRST BYTES OF THE BODY
//
// with two spaces between the fields, or for programs as JSON objects (see message). Neither form contains
// control characters, which a terminal would obey: much of a record was chosen by whoever sent the request. It is
// safe for concurrent use.
type Printer struct {
	json bool
	mu   sync.Mutex
	out  io.Writer
	line []byte
}

// NewPrinter returns a printer that writes to out.
func NewPrinter(out io.Writer, asJSON bool) *Printer { return &Printer{out: out, json: asJSON} }

// Print writes one record.
func (p *Printer) Print(m *sarama.ConsumerMessage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		line, err := appendJSON(p.line[:0], m)
		if err != nil {
			return fmt.Errorf("printing %s/%d/%d: %w", m.Topic, m.Partition, m.Offset, err)
		}
		p.line = line
	} else {
		p.line = appendText(p.line[:0], m)
	}
	if _, err := p.out.Write(append(p.line, '\n')); err != nil {
		return fmt.Errorf("printing %s/%d/%d: %w", m.Topic, m.Partition, m.Offset, err)
	}
	return nil
}

// appendText appends the line for people. What a record lacks, because something else than crowd produced it, is
// shown as "-".
func appendText(dst []byte, m *sarama.ConsumerMessage) []byte {
	headers := make([]record.Header, len(m.Headers))
	for i, h := range m.Headers {
		headers[i] = record.Header{Name: string(h.Key), Value: string(h.Value)}
	}
	r, _ := record.FromKafka(m.Topic, m.Key, m.Value, m.Timestamp, headers)
	word := func(s string) string {
		if s == "" {
			return "-"
		}
		return printable(s, len(s))
	}
	dst = r.Received.Local().AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
	dst = fmt.Appendf(dst, "  %s  %s/%d/%d  %s %s  %s", word(r.Route), word(m.Topic), m.Partition, m.Offset,
		word(r.Method), word(r.Path), size(len(m.Value)))
	if len(m.Value) > 0 {
		dst = append(dst, "  "...)
		dst = append(dst, printable(string(m.Value[:min(len(m.Value), (shownBody+1)*utf8.UTFMax)]), shownBody)...)
	}
	return dst
}

// printable returns the first most characters of s, those that do not print and backslashes escaped as Go does, and …
// where there are more.
func printable(s string, most int) string {
	var out strings.Builder
	for ; s != ""; most-- {
		if most == 0 {
			out.WriteString("…")
			break
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, s[0])
		case unicode.IsPrint(r) && r != '\\':
			out.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			out.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return out.String()
}

func size(n int) string {
	switch {
	case n < 1<<10:
		return strconv.Itoa(n) + " B"
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
}

// message is a record as JSON. Of each pair of fields one is there: the text where the bytes are UTF-8, the other
// in base64 (RFC 4648) where they are not; a key or value that is null in Kafka is "key": null.
type message struct {
	Topic       string    `json:"topic"`
	Partition   int32     `json:"partition"`
	Offset      int64     `json:"offset"`
	Timestamp   time.Time `json:"timestamp"`
	Key         **string  `json:"key,omitempty"`
	KeyBase64   *string   `json:"key_base64,omitempty"`
	Headers     []header  `json:"headers"`
	Value       **string  `json:"value,omitempty"`
	ValueBase64 *string   `json:"value_base64,omitempty"`
}

// header is one header: a list of them keeps their order, and names that come twice.
type header struct {
	Name        string   `json:"name"`
	Value       **string `json:"value,omitempty"`
	ValueBase64 *string  `json:"value_base64,omitempty"`
}

// split returns b as one of the two forms. The first is a pointer to nil for null.
func split(b []byte) (text **string, inBase64 *string) {
	if b == nil {
		return new(*string), nil
	}
	if s := string(b); utf8.ValidString(s) {
		p := &s
		return &p, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}

// appendJSON appends the JSON object.
func appendJSON(dst []byte, m *sarama.ConsumerMessage) ([]byte, error) {
	out := message{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UTC(), Headers: []header{},
	}
	out.Key, out.KeyBase64 = split(m.Key)
	out.Value, out.ValueBase64 = split(m.Value)
	for _, h := range m.Headers {
		o := header{Name: strings.ToValidUTF8(string(h.Key), "\ufffd")}
		o.Value, o.ValueBase64 = split(h.Value)
		out.Headers = append(out.Headers, o)
	}
	var encoded bytes.Buffer
	e := json.NewEncoder(&encoded)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	// encoding/json leaves some control characters as they are. All that is not ASCII is inside strings, where
	// the escaped form means the same.
	for _, r := range strings.TrimSuffix(encoded.String(), "\n") {
		switch {
		case unicode.IsPrint(r):
			dst = utf8.AppendRune(dst, r)
		case r > 0xffff:
			r -= 0x10000
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
	}
	return dst, nil
}
