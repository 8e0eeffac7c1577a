package xds_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
	"github.com/marceloboeira/crowd/xds"
)

// issue puts a certificate and its key into a directory: first the key and then, in one step, both as the current ones.
func issue(t *testing.T, ca *envoytest.CA, dir, name string) {
	t.Helper()
	cert, key := ca.Issue(t, name)
	write(t, filepath.Join(dir, "tls.key"), string(key))
	write(t, filepath.Join(dir, "tls.crt"), string(cert))
}

// The gateway speaks TLS with files of Envoy's, and with their successors once they are there.
func TestGatewayOverTLS(t *testing.T) {
	dir, ca := t.TempDir(), envoytest.NewCA(t)
	issue(t, ca, dir, "one.crowd")
	c := serve(t, xds.Config{
		Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"},
		GatewayTLSCert: filepath.Join(dir, "tls.crt"), GatewayTLSKey: filepath.Join(dir, "tls.key"),
	})
	p, address := start(t, envoy.GatewayBootstrap{XDS: []string{c.Addr().String()}, Admin: "127.0.0.1:0"}, xds.GatewayListener)
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // who it is, is looked at below
		ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
	shown := func() string {
		response, err := client.Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusNotFound || response.ProtoMajor != 2 {
			t.Errorf("what no route takes: %s over %s", response.Status, response.Proto)
		}
		return response.TLS.PeerCertificates[0].DNSNames[0]
	}
	if got := shown(); got != "one.crowd" {
		t.Errorf("certificate of %s", got)
	}
	c.follows(t, p)
	issue(t, ca, dir, "two.crowd")
	for deadline := time.Now().Add(patience); shown() != "two.crowd"; {
		if time.Now().After(deadline) {
			t.Fatal("the successor is not shown")
		}
	}
	_, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// rendered is a bootstrap as it goes to Envoy.
type rendered []byte

func (r rendered) JSON() ([]byte, error) { return r, nil }

// overTLS is the gateway's bootstrap with the cluster of envoy/xds-tls, in which two servers' addresses and a directory
// for certificates stand in the place of what they are called there.
func overTLS(t *testing.T, dir string, servers [2]string) rendered {
	t.Helper()
	names := []string{"/etc/crowd/tls", dir, "/etc/crowd/xds-tls", dir}
	for i, server := range servers {
		host, port, err := net.SplitHostPort(server)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("{address: xds-%d.crowd, port_value: 18000}", i), fmt.Sprintf("{address: %s, port_value: %s}", host, port))
	}
	file := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "envoy", "xds-tls", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer(names...).Replace(string(text))
	}
	for _, name := range []string{"certificate.yaml", "ca.yaml"} {
		write(t, filepath.Join(dir, name), file(name))
	}
	bootstrap, err := envoy.GatewayBootstrap{Admin: "127.0.0.1:0"}.JSON()
	var whole map[string]any
	if err == nil {
		err = json.Unmarshal(bootstrap, &whole)
	}
	var cluster any
	if err == nil {
		err = yaml.Load([]byte(file("cluster.yaml")), &cluster)
	}
	if err == nil {
		whole["staticResources"] = map[string]any{"clusters": []any{cluster}}
		bootstrap, err = json.Marshal(whole)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bootstrap
}

// Over TLS Envoy talks to one of two servers, with a certificate whose name is on their list, and when that server is
// gone to the other one.
func TestEnvoyOverTLSGoesToTheOtherServer(t *testing.T) {
	ca, dir, servers := envoytest.NewCA(t), t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "ca.crt"), string(ca.PEM))
	issue(t, ca, dir, "spiffe://crowd/shop/1")
	issue(t, ca, servers, "xds.crowd")
	cfg := xds.Config{
		Gateway: "127.0.0.1:0", Collectors: []string{"127.0.0.1:1"},
		TLSCert: filepath.Join(servers, "tls.crt"), TLSKey: filepath.Join(servers, "tls.key"),
		TLSClientCA: filepath.Join(dir, "ca.crt"), TLSAllowSAN: []string{"spiffe://crowd/edge/*"},
	}
	one := serve(t, cfg)
	cfg.Routes, cfg.Filter = one.routes, one.filter
	two := serve(t, cfg)

	p := launch(t, overTLS(t, dir, [2]string{one.Addr().String(), two.Addr().String()}))
	one.awaitLog(t, "connection refused in the TLS handshake")
	two.awaitLog(t, "connection refused in the TLS handshake")
	issue(t, ca, dir, "spiffe://crowd/edge/1")
	address := listening(t, p, xds.GatewayListener)
	if status, _ := get(t, "http://"+address); status != http.StatusNotFound {
		t.Errorf("what no route takes: %d", status)
	}

	first, second := one, two
	if !one.logged("envoy connected") {
		first, second = two, one
	}
	first.stop()
	second.awaitLog(t, "envoy connected")
	second.follows(t, p)
}
