// Package servertls is how Envoys reach the xDS server over TLS: its certificate, and whose certificates it takes.
package servertls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/credentials"
)

// Config names PEM files. The zero value is for plaintext.
type Config struct {
	// Cert and Key are the server's.
	Cert, Key string
	// ClientCA are those whose certificates Envoys must show. Empty: Envoys show none.
	ClientCA string
	// AllowSAN are the names of which an Envoy's certificate must have one (see Allowed). Empty: any that ClientCA signed.
	AllowSAN []string
}

// Enabled reports whether c asks for TLS.
func (c Config) Enabled() bool { return c.Cert != "" }

// Validate returns everything that is wrong with c, apart from what is in the files.
func (c Config) Validate() error {
	var errs []error
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("tls: a certificate needs its key, and a key its certificate"))
	}
	if c.ClientCA != "" && c.Cert == "" {
		errs = append(errs, errors.New("tls: a client CA means nothing without the server's own certificate and key"))
	}
	if len(c.AllowSAN) > 0 && c.ClientCA == "" {
		errs = append(errs, errors.New("tls: allowed SANs mean nothing without a client CA"))
	}
	for _, pattern := range c.AllowSAN {
		if _, err := parsePattern(pattern); err != nil {
			errs = append(errs, fmt.Errorf("tls: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Credentials are what a gRPC server takes.
type Credentials struct {
	credentials.TransportCredentials
	log      *slog.Logger
	failures prometheus.Counter
}

// New reads the files of a valid c that is Enabled.
func New(c Config, log *slog.Logger, reg prometheus.Registerer) (*Credentials, error) {
	f := &files{config: c, log: log}
	var err error
	if f.good, err = f.read(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	allowed := make(patterns, len(c.AllowSAN))
	for i, text := range c.AllowSAN {
		if allowed[i], err = parsePattern(text); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	metrics := promauto.With(reg)
	metrics.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "crowd_xds_certificate_not_after_seconds",
		Help: "When the xDS server's certificate ends, in seconds since 1970.",
	}, func() float64 { return float64(f.now().server.Leaf.NotAfter.Unix()) })
	return &Credentials{
		TransportCredentials: credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return forConnection(f.now(), allowed), nil
			},
		}),
		log: log,
		failures: metrics.NewCounter(prometheus.CounterOpts{
			Name: "crowd_xds_tls_failures_total",
			Help: "Connections that were refused in the TLS handshake; the log says whose and why.",
		}),
	}, nil
}

func forConnection(m material, allowed patterns) *tls.Config {
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12, // the most that Envoy speaks as a client unless told otherwise
		Certificates: []tls.Certificate{m.server},
		// A resumed session would outlive the CA and the list. Connections live for hours.
		SessionTicketsDisabled: true,
	}
	if m.clients != nil {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.clients
		c.VerifyConnection = func(s tls.ConnectionState) error { return allowed.check(s.PeerCertificates[0]) }
	}
	return c
}

// ServerHandshake also reports those that fail: gRPC keeps them to itself.
func (c *Credentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // with which TCP health checks end
		c.failures.Inc()
		c.log.Warn("connection refused in the TLS handshake", "remote", conn.RemoteAddr().String(), "error", err)
	}
	return secure, info, err
}
