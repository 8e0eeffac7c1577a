package request

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// What requests get beside their own headers.
const (
	idempotencyKey = "idempotency-key"
	ownPrefix      = record.ReservedPrefix
	recordID       = ownPrefix + "record-id"
	attemptNumber  = ownPrefix + "attempt" // from 1
	age            = ownPrefix + "age"     // since the request was received, in seconds
)

// connectionHeaders are about the connection on which a request came, or about how it was framed, or are sent by other
// means (host). They are not sent as they were.
var connectionHeaders = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true,
	"upgrade": true, "content-length": true, "expect": true, "host": true,
}

// MadeHere reports whether a header, given in lower case, is made for each request, and cannot be set or removed.
func MadeHere(name string) bool { return connectionHeaders[name] }

// request returns what is sent for an attempt. The error is a sentence that says why there can be no such request; all is
// checked here that net/http would refuse, which then would look like trouble with the network.
func (s *Sender) request(a flow.Attempt) (*http.Request, error) {
	r := &a.Record
	switch {
	case a.Unreadable != "":
		return nil, errors.New(a.Unreadable)
	case r.Method == "":
		return nil, errors.New("the record has no method")
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return nil, fmt.Errorf("%.80q is no method", r.Method)
	case r.Method == http.MethodConnect:
		return nil, errors.New("CONNECT asks for a tunnel, which cannot be sent again")
	}
	host := r.Authority
	if s.config.Host != "" {
		host = s.config.Host
	}
	if !httpguts.ValidHostHeader(host) {
		return nil, fmt.Errorf("%.80q is no host", host)
	}
	path, err := s.path(r.Path)
	if err != nil {
		return nil, err
	}
	header, err := s.header(a)
	if err != nil {
		return nil, err
	}
	trailer, err := trailer(r.Trailers)
	if err != nil {
		return nil, err
	}
	made := &http.Request{Method: r.Method, URL: s.url(host, path), Host: host, Header: header, Trailer: trailer}
	if len(trailer) > 0 {
		made.TransferEncoding = []string{"chunked"} // also without a body
	}
	return made, nil
}

// setBody gives a request its body, from the beginning.
func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = http.NoBody, 0
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	if len(r.Trailer) > 0 { // which need a body of unknown length
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
	}
}

// header returns the headers to send, with their names in lower case, as they came through Envoy: net/http, which knows
// its own by their usual spelling, leaves them alone.
func (s *Sender) header(a flow.Attempt) (map[string][]string, error) {
	r := &a.Record
	header := make(map[string][]string, len(r.Headers)+5+len(s.set))
	values := make([]string, 0, len(r.Headers)+4) // one array for most of the lists
	add := func(name, value string) {
		if list, ok := header[name]; ok {
			header[name] = append(list, value)
			return
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	named := namedByConnection(r.Headers)
	for _, h := range r.Headers {
		name, value, err := checkHeader("header", h)
		if err != nil {
			return nil, err
		}
		switch {
		case connectionHeaders[name] && name != "te", slices.Contains(named, name), strings.HasPrefix(name, ownPrefix):
			continue
		case name == "te" && !httpguts.HeaderValuesContainsToken([]string{value}, "trailers"):
			continue
		case name == "te":
			value = "trailers"
		}
		add(name, value)
	}
	id := identity(a.Message)
	if _, ok := header[idempotencyKey]; !ok {
		add(idempotencyKey, id)
	}
	add(recordID, id)
	add(attemptNumber, strconv.Itoa(a.Number))
	add(age, strconv.FormatInt(int64(max(0, a.Age)/time.Second), 10))
	for _, name := range s.remove {
		delete(header, name)
	}
	for _, h := range s.set {
		header[h.name] = []string{h.value()}
	}
	if agents := header["user-agent"]; len(agents) > 1 { // of which net/http sends the first
		header["user-agent"] = []string{strings.Join(agents, " ")}
	}
	header["User-Agent"] = nil // or net/http would add its own
	return header, nil
}

// identity is the record's id. What something else has put into the topic may have none: then it is where it stands, as one
// key for many would have an API take one of them and drop the others.
func identity(m *flow.Message) string {
	if m.Record.ID == (record.ID{}) {
		return fmt.Sprintf("%s-%d-%d", m.Topic, m.Partition, m.Offset)
	}
	return m.Record.ID.String()
}

// namedByConnection returns the names that connection headers have, in lower case: they too are about the connection.
func namedByConnection(headers []record.Header) (names []string) {
	for _, h := range headers {
		if strings.EqualFold(h.Name, "connection") {
			for name := range strings.SplitSeq(h.Value, ",") {
				names = append(names, strings.ToLower(strings.Trim(name, " \t")))
			}
		}
	}
	return names
}

// trailer returns the trailers to send, nil for none.
func trailer(trailers []record.Header) (http.Header, error) {
	var made http.Header
	for _, t := range trailers {
		name, value, err := checkHeader("trailer", t)
		if err != nil {
			return nil, err
		}
		if connectionHeaders[name] {
			continue
		}
		if made == nil {
			made = http.Header{}
		}
		made[name] = append(made[name], value)
	}
	return made, nil
}

// checkHeader returns a header as it can be sent: the name in lower case, the value without the white space around it,
// which is none of it.
func checkHeader(kind string, h record.Header) (name, value string, err error) {
	if !httpguts.ValidHeaderFieldName(h.Name) {
		return "", "", fmt.Errorf("%.80q is no name of a %s", h.Name, kind)
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) { // which may be a secret
		return "", "", fmt.Errorf("the %s %.80q has a control character in its value", kind, h.Name)
	}
	return strings.ToLower(h.Name), strings.Trim(h.Value, " \t\r\n"), nil
}

// setHeader is a header that every request gets.
type setHeader struct {
	name  string // in lower case
	value func() string
}

func setHeaders(headers []Header, log *slog.Logger) (all []setHeader, err error) {
	for _, h := range headers {
		name, value, err := checkHeader("header", record.Header{Name: h.Name, Value: h.Value})
		if err != nil {
			return nil, err
		}
		made := setHeader{name, func() string { return value }}
		if h.File != "" {
			file, err := follow([]string{h.File}, func(texts [][]byte) (string, error) {
				_, value, err := checkHeader("header", record.Header{Name: h.Name, Value: strings.TrimSpace(string(texts[0]))})
				if err == nil && value == "" {
					err = errors.New("the file is empty")
				}
				if err != nil {
					err = fmt.Errorf("%s: %w", h.File, err)
				}
				return value, err
			}, log)
			if err != nil {
				return nil, fmt.Errorf("header %s: %w", h.Name, err)
			}
			made.value = file.now
		}
		all = append(all, made)
	}
	return all, nil
}
