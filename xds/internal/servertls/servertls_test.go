package servertls

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marceloboeira/crowd/envoy/envoytest"
)

// place is a directory with a server's files.
type place struct {
	Config
	ca *envoytest.CA // of the server's own certificate
}

func newPlace(t *testing.T) place {
	t.Helper()
	directory := t.TempDir()
	file := func(name string) string { return filepath.Join(directory, name) }
	p := place{Config{Cert: file("tls.crt"), Key: file("tls.key"), ClientCA: file("ca.crt")}, envoytest.NewCA(t)}
	p.issue(t, "server-1")
	return p
}

func (p place) issue(t *testing.T, name string) {
	t.Helper()
	cert, key := p.ca.Issue(t, name)
	write(t, p.Cert, cert)
	write(t, p.Key, key)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p place) serve(t *testing.T) *Credentials {
	t.Helper()
	c, err := New(p.Config, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect makes one connection with a client's certificate, or none, and returns the name on the server's and how the
// handshake ended at the server.
func (p place) connect(t *testing.T, c *Credentials, cert, key []byte) (server string, err error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ended := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		secure, _, err := c.ServerHandshake(conn)
		if err == nil {
			_, err = secure.Write([]byte("welcome"))
		}
		ended <- err
	}()

	config := &tls.Config{
		InsecureSkipVerify: true, // what is tested is the server
		NextProtos:         []string{"h2"},
		VerifyConnection: func(s tls.ConnectionState) error {
			server = s.PeerCertificates[0].DNSNames[0]
			return nil
		},
	}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, dialErr := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", listener.Addr().String())
	if dialErr == nil {
		_, _ = io.ReadAll(conn) // with TLS 1.3 the client is done before the server has seen its certificate
		conn.Close()
	}
	return server, <-ended
}

func TestOnlyAllowedClientsConnect(t *testing.T) {
	clients, others := envoytest.NewCA(t), envoytest.NewCA(t)
	for _, c := range []struct {
		name   string
		allow  []string
		ca     *envoytest.CA // of the client; nil: it shows no certificate
		client []string
		want   string
	}{
		{"any of the CA", nil, clients, []string{"edge-1"}, ""},
		{"of another CA", nil, others, []string{"edge-1"}, "certificate signed by unknown authority"},
		{"none", nil, nil, nil, "client didn't provide a certificate"},
		{"on the list", []string{"other", "edge-1"}, clients, []string{"edge-1"}, ""},
		{"one of its names", []string{"spiffe://crowd/ns/prod/*"}, clients, []string{"edge-1", "spiffe://crowd/ns/prod/edge"}, ""},
		{"not on the list", []string{"edge-2", "spiffe://crowd/ns/prod/*"}, clients, []string{"edge-1", "spiffe://crowd/ns/test/edge"},
			`none of the client certificate's names ["spiffe://crowd/ns/test/edge" "edge-1"] is allowed`},
		{"on the list, of another CA", []string{"edge-1"}, others, []string{"edge-1"}, "certificate signed by unknown authority"},
		{"on the list, none", []string{"edge-1"}, nil, nil, "client didn't provide a certificate"},
		{"without a name", []string{"edge-1"}, clients, nil, "none of the client certificate's names [] is allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.AllowSAN = c.allow
			write(t, p.ClientCA, clients.PEM)
			creds := p.serve(t)
			var cert, key []byte
			if c.ca != nil {
				cert, key = c.ca.Issue(t, c.client...)
			}
			_, err := p.connect(t, creds, cert, key)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if n := testutil.ToFloat64(creds.failures); (n == 1) != (c.want != "") {
				t.Errorf("%v failures counted", n)
			}
		})
	}
}

func TestWithoutAClientCANobodyShowsACertificate(t *testing.T) {
	p := newPlace(t)
	p.ClientCA = ""
	if server, err := p.connect(t, p.serve(t), nil, nil); err != nil || server != "server-1" {
		t.Errorf("%s, %v", server, err)
	}
}

// Whatever replaces the files is for the next connection; what is broken or half replaced is not.
func TestRotation(t *testing.T) {
	clients, next := envoytest.NewCA(t), envoytest.NewCA(t)
	p := newPlace(t)
	write(t, p.ClientCA, clients.PEM)
	creds := p.serve(t)
	cert, key := clients.Issue(t, "edge")
	nextCert, nextKey := next.Issue(t, "edge")
	expect := func(step, server string, cert, key []byte, allowed bool) {
		t.Helper()
		got, err := p.connect(t, creds, cert, key)
		if got != server || (err == nil) != allowed {
			t.Errorf("%s: %s, %v", step, got, err)
		}
	}
	expect("at first", "server-1", cert, key, true)
	p.issue(t, "server-2")
	expect("another certificate", "server-2", cert, key, true)
	half, _ := p.ca.Issue(t, "server-3")
	write(t, p.Cert, half)
	expect("a certificate without its key", "server-2", cert, key, true)
	p.issue(t, "server-4")
	expect("and with it", "server-4", cert, key, true)
	write(t, p.ClientCA, []byte("nothing"))
	expect("no CA", "server-4", cert, key, true)
	write(t, p.ClientCA, next.PEM)
	expect("another CA, a client of the old one", "server-4", cert, key, false)
	expect("another CA", "server-4", nextCert, nextKey, true)
	if err := os.Remove(p.Key); err != nil {
		t.Fatal(err)
	}
	expect("no key", "server-4", nextCert, nextKey, true)
}

func TestNewFails(t *testing.T) {
	p := newPlace(t)
	write(t, p.ClientCA, []byte("nothing"))
	for _, c := range []struct {
		edit func(*Config)
		want string
	}{
		{func(*Config) {}, "tls: " + p.ClientCA + ": no certificate in it (want PEM)"},
		{func(c *Config) { c.ClientCA += ".none" }, "tls: open "},
		{func(c *Config) { c.Key = c.ClientCA }, "tls: " + p.Cert + " and " + p.ClientCA + ": "},
		{func(c *Config) { c.Cert += ".none" }, "tls: " + p.Cert + ".none and " + p.Key + ": open "},
	} {
		config := p.Config
		c.edit(&config)
		if _, err := New(config, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestTheCertificatesEndIsAMetric(t *testing.T) {
	p := newPlace(t)
	p.ClientCA = ""
	registry := prometheus.NewRegistry()
	if _, err := New(p.Config, slog.New(slog.DiscardHandler), registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "crowd_xds_certificate_not_after_seconds" {
			left := time.Until(time.Unix(int64(f.GetMetric()[0].GetGauge().GetValue()), 0))
			if left < 50*time.Minute || left > time.Hour {
				t.Errorf("ends in %v, want an hour", left)
			}
			return
		}
	}
	t.Error("no such metric")
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{}, ""},
		{Config{Cert: "/a/tls.crt", Key: "/b/tls.key"}, ""},
		{Config{Cert: "tls.crt", Key: "tls.key", ClientCA: "ca.crt", AllowSAN: []string{"a", "*.b", "spiffe://c/*"}}, ""},
		{Config{Cert: "tls.crt"}, "tls: a certificate needs its key, and a key its certificate"},
		{Config{Key: "tls.key"}, "tls: a certificate needs its key, and a key its certificate"},
		{Config{ClientCA: "ca.crt", AllowSAN: []string{"*"}}, "tls: a client CA means nothing without the server's own certificate and key\n" +
			`tls: "*" is not a SAN (allowed: a DNS name or URI, with one * in front or at the end)`},
		{Config{Cert: "a", Key: "b", AllowSAN: []string{"", "a*b", "*a*"}}, "tls: allowed SANs mean nothing without a client CA\n" +
			`tls: "" is not a SAN (allowed: a DNS name or URI, with one * in front or at the end)` + "\n" +
			`tls: "a*b" is not a SAN (allowed: a DNS name or URI, with one * in front or at the end)` + "\n" +
			`tls: "*a*" is not a SAN (allowed: a DNS name or URI, with one * in front or at the end)`},
	} {
		got := ""
		if err := c.config.Validate(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.config, diff)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"edge-1", "edge-1", true},
		{"Edge-1", "EDGE-1", true},
		{"edge-1", "edge-10", false},
		{"edge-*", "edge-10", true},
		{"edge-*", "an-edge-1", false},
		{"*.crowd.svc", "edge.crowd.svc", true},
		{"*.crowd.svc", "crowd.svc", false},
		{"*.crowd.svc", "edge.crowd.svc.evil", false},
		{"spiffe://crowd/ns/prod/sa/edge", "spiffe://crowd/ns/prod/sa/edge", true},
		{"spiffe://crowd/ns/prod/sa/edge", "spiffe://crowd/ns/prod/sa/Edge", false},
		{"spiffe://crowd/ns/prod/*", "spiffe://crowd/ns/production", false},
		{"*/sa/edge", "spiffe://crowd/ns/prod/sa/edge", true},
		// A name of one kind does not stand in for the other.
		{"*edge", "spiffe://crowd/ns/prod/sa/edge", false},
		{"spiffe*", "spiffe-edge", true},
		{"spiffe*", "spiffe://crowd", false},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		ca := envoytest.NewCA(t)
		cert, key := ca.Issue(t, c.name)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if got := (patterns{p}).check(pair.Leaf) == nil; got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.name, got)
		}
	}
}
