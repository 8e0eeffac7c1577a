// Package request makes requests of records, and says what answers mean.
package request

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

// Config says where requests go, and what is different from those that were received.
type Config struct {
	// Target is an http or https URL with host, and a path to put before requests'.
	Target string
	// HTTP1 and HTTP2 are what may be spoken; both: HTTP/2 where TLS's ALPN says so.
	HTTP1, HTTP2 bool
	// CA, Cert, Key and ServerName are as in replay.TLS.
	CA, Cert, Key, ServerName string
	// Timeout is for one attempt, from connecting to the answer's last byte.
	Timeout time.Duration

	// Host is the host to ask for; empty: the request's own.
	Host string
	// Paths are tried in order, and the first whose pattern fits is applied.
	Paths []PathRewrite
	// Set gives headers a value; Remove takes headers away.
	Set    []Header
	Remove []string

	// Expected and Retriable say what answers mean.
	Expected, Retriable func(status int) bool

	// Log is told when a file has changed for the worse: what it held before stays.
	Log *slog.Logger
}

// PathRewrite changes a path, without its query.
type PathRewrite struct {
	Pattern *regexp.Regexp
	// Substitution is in the form of regexp.Expand ($1 is the first group).
	Substitution string
}

// Header is one to be set.
type Header struct {
	Name, Value string
	// File is where the value is instead, if not empty.
	File string
}

// Sender sends. It is safe for concurrent use.
type Sender struct {
	config Config
	target *url.URL
	// prefix is the target's path as it is put before requests'.
	prefix string
	set    []setHeader
	remove []string // in lower case
	pool   *pool
}

// NewSender fails for a target or files that cannot be used.
func NewSender(c Config) (*Sender, error) {
	target, err := url.Parse(c.Target)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	if target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("target: %q is no http or https URL with a host", c.Target)
	}
	if !c.HTTP1 && !c.HTTP2 {
		return nil, fmt.Errorf("target: neither HTTP/1.1 nor HTTP/2 may be spoken")
	}
	s := &Sender{config: c, target: target, prefix: strings.TrimSuffix(target.EscapedPath(), "/")}
	if s.set, err = setHeaders(c.Set, c.Log); err != nil {
		return nil, err
	}
	for _, name := range c.Remove {
		s.remove = append(s.remove, strings.ToLower(name))
	}
	dial, err := dialer(c, target)
	if err != nil {
		return nil, err
	}
	s.pool = newPool(dial, c.HTTP2)
	return s, nil
}

// Send makes an attempt. If ctx ends first, the verdict is flow.Canceled.
func (s *Sender) Send(ctx context.Context, a flow.Attempt) flow.Outcome {
	began := time.Now()
	o := s.send(ctx, a)
	o.Took = time.Since(began)
	return o
}

func (s *Sender) send(ctx context.Context, a flow.Attempt) flow.Outcome {
	r, err := s.request(a)
	if err != nil {
		return flow.Outcome{Verdict: flow.Unsendable, Reason: reason(err.Error())}
	}
	limited, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	r = r.WithContext(limited)
	for repeats := 0; ; repeats++ {
		setBody(r, a.Record.Body)
		c, response, err := s.pool.roundTrip(r)
		switch {
		case err == nil:
			defer s.pool.put(c)
			return s.answered(ctx, limited, response)
		case !unprocessed(err) || repeats == maxRepeats:
			return s.unanswered(ctx, limited, err)
		}
	}
}

// headersTooLarge is in net/http's error for headers beyond what the other side has said over HTTP/2 that it takes
// (SETTINGS_MAX_HEADER_LIST_SIZE). There is no name for it.
const headersTooLarge = "request header list larger than peer's advertised limit"

// unanswered is the outcome without an answer.
func (s *Sender) unanswered(ctx, limited context.Context, err error) flow.Outcome {
	switch {
	case ctx.Err() != nil:
		return flow.Outcome{Verdict: flow.Canceled, Reason: "cut off at this side"}
	case limited.Err() != nil:
		return flow.Outcome{Verdict: flow.Failed, Reason: fmt.Sprintf("no answer within %v", s.config.Timeout)}
	case strings.Contains(err.Error(), headersTooLarge):
		return flow.Outcome{Verdict: flow.Unsendable, Reason: reason(err.Error())}
	}
	return flow.Outcome{Verdict: flow.Failed, Reason: reason("no answer: " + err.Error())}
}

// Describe returns the method and URL that a message would be sent with, for people, or an error if no request can be
// made of it.
func (s *Sender) Describe(m *flow.Message) (string, error) {
	r, err := s.request(flow.Attempt{Message: m, Number: 1})
	if err != nil {
		return "", err
	}
	path, err := s.path(m.Record.Path)
	if err != nil {
		return "", err
	}
	text := r.Method + " " + s.target.Scheme + "://" + s.target.Host + path
	if r.Host != "" && r.Host != s.target.Host {
		text += " (host " + r.Host + ")"
	}
	return text, nil
}

// Close closes the connections that are idle.
func (s *Sender) Close() { s.pool.close() }
