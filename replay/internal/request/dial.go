package request

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxAnswerHeader bounds an answer's headers, those of informational answers before it included.
	maxAnswerHeader = 256 << 10
	// An HTTP/2 connection that is silent for pingAfter is asked whether it lives, and closed without an answer after
	// pingTimeout: a request that times out does not close one, as others share it. One that takes no bytes is closed too.
	pingAfter   = 10 * time.Second
	pingTimeout = 10 * time.Second
)

// dialer returns what makes a connection to the target.
func dialer(c Config, target *url.URL) (func(context.Context) (*http.ClientConn, error), error) {
	address := target.Host
	if target.Port() == "" {
		port := map[string]string{"http": "80", "https": "443"}[target.Scheme]
		address = net.JoinHostPort(target.Hostname(), port)
	}
	// Proxies of the environment are not asked, and answers are not decompressed.
	transport := &http.Transport{
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// The pool makes another connection instead of waiting. If a server lowers its limit meanwhile, what is on its way
			// waits for its turn, and does not fail.
			StrictMaxConcurrentRequests: true,
			SendPingTimeout:             pingAfter,
			PingTimeout:                 pingTimeout,
			WriteByteTimeout:            pingTimeout,
		},
	}
	if target.Scheme == "http" {
		transport.Protocols.SetHTTP1(c.HTTP1)
		transport.Protocols.SetUnencryptedHTTP2(!c.HTTP1)
	} else {
		transport.Protocols.SetHTTP1(c.HTTP1)
		transport.Protocols.SetHTTP2(c.HTTP2)
		secure, err := newTLSDialer(c, target.Hostname())
		if err != nil {
			return nil, err
		}
		transport.DialTLSContext = secure.dial
	}
	return func(ctx context.Context) (*http.ClientConn, error) {
		return transport.NewClientConn(ctx, target.Scheme, address)
	}, nil
}

// tlsDialer reads its files for new connections.
type tlsDialer struct {
	serverName string
	protocols  []string
	files      *followed[material]
}

// material is what the files of TLS hold.
type material struct {
	authorities  *x509.CertPool // nil: the system's
	certificates []tls.Certificate
}

func newTLSDialer(c Config, host string) (*tlsDialer, error) {
	d := &tlsDialer{serverName: c.ServerName}
	if d.serverName == "" {
		d.serverName = host
	}
	if c.HTTP2 {
		d.protocols = append(d.protocols, "h2")
	}
	if c.HTTP1 {
		d.protocols = append(d.protocols, "http/1.1")
	}
	var paths []string
	if c.CA != "" {
		paths = append(paths, c.CA)
	}
	if c.Cert != "" {
		paths = append(paths, c.Cert, c.Key)
	}
	var err error
	d.files, err = follow(paths, func(texts [][]byte) (m material, err error) {
		if c.CA != "" {
			m.authorities = x509.NewCertPool()
			if !m.authorities.AppendCertsFromPEM(texts[0]) {
				return material{}, fmt.Errorf("%s: no certificate in it (want PEM)", c.CA)
			}
			texts = texts[1:]
		}
		if c.Cert != "" {
			pair, err := tls.X509KeyPair(texts[0], texts[1])
			if err != nil {
				return material{}, fmt.Errorf("%s and %s: %w", c.Cert, c.Key, err)
			}
			m.certificates = []tls.Certificate{pair}
		}
		return m, nil
	}, c.Log)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return d, nil
}

func (d *tlsDialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var plain net.Dialer
	connected, err := plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m := d.files.now()
	secure := tls.Client(connected, &tls.Config{
		MinVersion:   tls.VersionTLS12,
		ServerName:   d.serverName,
		NextProtos:   d.protocols,
		RootCAs:      m.authorities,
		Certificates: m.certificates,
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		connected.Close()
		return nil, fmt.Errorf("tls with %s: %w", address, err)
	}
	if d.protocols[0] == "h2" && len(d.protocols) == 1 && secure.ConnectionState().NegotiatedProtocol != "h2" {
		connected.Close()
		return nil, errors.New("the target does not speak HTTP/2 (ALPN)")
	}
	return secure, nil
}
