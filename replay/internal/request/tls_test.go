package request

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/replay/internal/flow"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writePEM returns the path of a new file.
func writePEM(t testing.TB, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	return path
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.certificate, a.key = certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a)
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue writes a certificate and its key.
func (a *authority) issue(t testing.TB, name, certPath, keyPath string) {
	t.Helper()
	made, key := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certPath, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw})))
	write(t, keyPath, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

// certificate is signed by an authority, or by itself where that has none yet.
func certificate(t testing.TB, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := by.certificate, by.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

// secure starts a server whose certificate a signs for "api", that asks for clients' by the authority of the same name.
func secure(t testing.TB, a *authority, handler http.HandlerFunc, change func(*httptest.Server)) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	a.issue(t, "api", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	if change != nil {
		change(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestMutualTLS(t *testing.T) {
	a := newAuthority(t)
	var client string
	server := secure(t, a, func(_ http.ResponseWriter, r *http.Request) { client = r.TLS.PeerCertificates[0].Subject.CommonName }, func(s *httptest.Server) {
		s.Config.SetKeepAlivesEnabled(false)
	})
	dir := t.TempDir()
	ca, cert, key := writePEM(t, "CERTIFICATE", a.certificate.Raw), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	a.issue(t, "replay-1", cert, key)
	c := config(server.URL)
	c.HTTP2, c.CA, c.Cert, c.Key = true, ca, cert, key
	s := newSender(t, c)
	if o := s.Send(t.Context(), attempt(get)); o.Verdict != flow.Delivered || client != "replay-1" {
		t.Fatalf("%+v by %q", o, client)
	}
	// Half of a new pair changes nothing; the whole of it counts for new connections.
	a.issue(t, "replay-2", cert, filepath.Join(dir, "later"))
	for until := time.Now().Add(checkInterval + checkInterval/2); time.Now().Before(until); {
		if o := s.Send(t.Context(), attempt(get)); o.Verdict != flow.Delivered || client != "replay-1" {
			t.Fatalf("with half a pair: %+v by %q", o, client)
		}
	}
	if err := os.Rename(filepath.Join(dir, "later"), key); err != nil {
		t.Fatal(err)
	}
	for client != "replay-2" {
		if o := s.Send(t.Context(), attempt(get)); o.Verdict != flow.Delivered {
			t.Fatalf("with a new pair: %+v by %q", o, client)
		}
	}

	c.Cert, c.Key = "", ""
	if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != flow.Failed { // TLS 1.3 says why too late for some
		t.Errorf("without a certificate: %+v", o)
	}
	c.CA, c.Cert, c.Key = "", cert, key
	if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != flow.Failed || !strings.Contains(o.Reason, "unknown authority") {
		t.Errorf("without the authority: %+v", o)
	}
}

func TestServerName(t *testing.T) {
	a := newAuthority(t)
	server := secure(t, a, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) { s.TLS.ClientAuth = tls.NoClientCert })
	c := config(server.URL)
	c.CA = writePEM(t, "CERTIFICATE", a.certificate.Raw)
	for name, want := range map[string]flow.Verdict{"": flow.Delivered, "api": flow.Delivered, "other": flow.Failed} {
		c.ServerName = name
		if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != want {
			t.Errorf("%q: %+v", name, o)
		}
	}
}

// A target that is to speak HTTP/2 and does not is told apart from one that is down.
func TestNoHTTP2(t *testing.T) {
	a := newAuthority(t)
	server := secure(t, a, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
		s.EnableHTTP2 = false
		s.TLS.ClientAuth = tls.NoClientCert
	})
	c := config(server.URL)
	c.CA = writePEM(t, "CERTIFICATE", a.certificate.Raw)
	c.HTTP1, c.HTTP2 = false, true
	if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != flow.Failed || !strings.Contains(o.Reason, "ALPN") && !strings.Contains(o.Reason, "application protocol") {
		t.Errorf("%+v", o)
	}
}

func TestTLSThatDoesNotAnswer(t *testing.T) {
	c := config(strings.Replace(listen(t, hangs), "http:", "https:", 1))
	c.HTTP2, c.Timeout = true, 200*time.Millisecond
	if o := newSender(t, c).Send(t.Context(), attempt(get)); o.Verdict != flow.Failed || o.Reason != "no answer within 200ms" {
		t.Errorf("%+v", o)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	a.issue(t, "a", file("cert"), file("key"))
	a.issue(t, "b", file("cert-b"), file("key-b"))
	write(t, file("empty"), " \n")
	write(t, file("lines"), "a\nb\n")
	for want, change := range map[string]func(*Config){
		"no such file":          func(c *Config) { c.CA = file("none") },
		"no certificate in it":  func(c *Config) { c.CA = file("key") },
		"does not match":        func(c *Config) { c.Cert, c.Key = file("cert"), file("key-b") },
		"none":                  func(c *Config) { c.Set = []Header{{Name: "a", File: file("none")}} },
		"the file is empty":     func(c *Config) { c.Set = []Header{{Name: "a", File: file("empty")}} },
		"has a control charact": func(c *Config) { c.Set = []Header{{Name: "a", File: file("lines")}} },
		"is no name":            func(c *Config) { c.Set = []Header{{Name: "a b", Value: "x"}} },
		"is no http or https":   func(c *Config) { c.Target = "ftp://a" },
		"missing protocol":      func(c *Config) { c.Target = ":a" },
		"neither HTTP/1.1 nor":  func(c *Config) { c.HTTP1 = false },
	} {
		c := config("https://api")
		change(&c)
		if _, err := NewSender(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
