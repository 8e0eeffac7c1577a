package replay

import (
	"log/slog"
	"slices"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/request"
)

// request returns what c, which is valid and has its defaults, says of how requests are sent.
func (c Config) request(log *slog.Logger) request.Config {
	made := request.Config{
		Target: c.Target,
		HTTP1:  c.Protocol != ProtocolHTTP2, HTTP2: c.Protocol != ProtocolHTTP1,
		CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, ServerName: c.TLS.ServerName,
		Timeout:   time.Duration(c.Timeout),
		Host:      c.Rewrite.HostRewriteLiteral,
		Remove:    c.Rewrite.RequestHeaders.Remove,
		Expected:  oneOfStatuses(c.ExpectedStatuses),
		Retriable: oneOfStatuses(c.Retry.RetriableStatusCodes),
		Log:       log,
	}
	for _, rewrite := range c.Rewrite.PathRewrites {
		pattern, err := rewrite.pattern()
		if err != nil {
			panic("BUG: a valid pattern does not compile: " + err.Error())
		}
		substitution, err := expansion(rewrite.Substitution, pattern.NumSubexp())
		if err != nil {
			panic("BUG: a valid substitution is none: " + err.Error())
		}
		made.Paths = append(made.Paths, request.PathRewrite{Pattern: pattern, Substitution: substitution})
	}
	for _, h := range c.Rewrite.RequestHeaders.Set {
		made.Set = append(made.Set, request.Header{Name: h.Name, Value: h.Value, File: h.File})
	}
	return made
}

func oneOfStatuses(statuses []Statuses) func(int) bool {
	return func(status int) bool {
		return slices.ContainsFunc(statuses, func(s Statuses) bool { return s.From <= status && status <= s.To })
	}
}
