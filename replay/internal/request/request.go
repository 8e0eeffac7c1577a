// Package request makes requests of records, and says what answers mean.
package request

import (
	"context"
	"regexp"
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
	// Connections is how many attempts there may be at once at most.
	Connections int

	// Host is the host to ask for; empty: the request's own.
	Host string
	// Paths are tried in order, and the first whose pattern fits is applied.
	Paths []PathRewrite
	// Set gives headers a value; Remove takes headers away.
	Set    []Header
	Remove []string

	// Expected and Retriable say what answers mean.
	Expected, Retriable func(status int) bool
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
type Sender struct{}

// NewSender fails for a target or files that cannot be used.
func NewSender(c Config) (*Sender, error) { panic("not yet") }

// Send makes an attempt. If ctx ends first, the verdict is flow.Canceled.
func (s *Sender) Send(ctx context.Context, a flow.Attempt) flow.Outcome { panic("not yet") }

// Describe returns the method and URL that a message would be sent with, for people, or an error if no request can be
// made of it.
func (s *Sender) Describe(m *flow.Message) (string, error) { panic("not yet") }

// Close closes the connections that are idle.
func (s *Sender) Close() { panic("not yet") }
