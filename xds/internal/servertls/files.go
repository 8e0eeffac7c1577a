package servertls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// material is what the files hold.
type material struct {
	server  tls.Certificate
	clients *x509.CertPool // nil where clients need no certificate
}

// files are read for each connection: they may have been replaced, and connections are few and last. It is safe for
// concurrent use.
type files struct {
	config Config
	log    *slog.Logger

	mu     sync.Mutex
	good   material
	failed string // why they could not be read the last time
}

// now returns what the files hold, or what they held last while they are broken or, half replaced, do not fit together.
func (f *files) now() material {
	m, err := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.good, f.failed = m, ""
	} else if err.Error() != f.failed {
		f.failed = err.Error()
		f.log.Error("TLS files not taken, the last good ones stay", "error", err)
	}
	return f.good
}

func (f *files) read() (m material, err error) {
	if m.server, err = tls.LoadX509KeyPair(f.config.Cert, f.config.Key); err != nil {
		return material{}, fmt.Errorf("%s and %s: %w", f.config.Cert, f.config.Key, err)
	}
	if f.config.ClientCA == "" {
		return m, nil
	}
	text, err := os.ReadFile(f.config.ClientCA)
	if err != nil {
		return material{}, err
	}
	m.clients = x509.NewCertPool()
	if !m.clients.AppendCertsFromPEM(text) {
		return material{}, fmt.Errorf("%s: no certificate in it (want PEM)", f.config.ClientCA)
	}
	return m, nil
}
