package quickstart

import (
	"net"
	"strings"
	"testing"
)

func TestListenable(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		"127.0.0.1:0":         "127.0.0.1:0",
		"localhost:0":         "127.0.0.1:0",
		":0":                  ":0",
		taken.Addr().String(): "cannot listen on " + taken.Addr().String() + ": bind: address already in use; stop what uses it",
		"8080":                "--listen 8080: address 8080: missing port in address; want host:port",
		"127.0.0.1:nope":      "--listen 127.0.0.1:nope: lookup tcp/nope: unknown port; want host:port",
		"127.0.0.1:65536":     "--listen 127.0.0.1:65536: address 65536: invalid port; want host:port",
		"256.0.0.1:80":        "--listen 256.0.0.1:80: lookup 256.0.0.1",
		"192.0.2.1:0":         "--listen 192.0.2.1:0: bind: cannot assign requested address; want an address of this machine",
	} {
		got, err := listenable(t.Context(), address)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	// The port of a service's name may be taken, or not be ours.
	if got, err := listenable(t.Context(), "127.0.0.1:http"); got != "127.0.0.1:80" && (err == nil || strings.Contains(err.Error(), "want host:port")) {
		t.Errorf("127.0.0.1:http: %s, %v", got, err)
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:8080": "127.0.0.1:8080", "[::]:8080": "[::1]:8080",
		"127.0.0.1:1": "127.0.0.1:1", "[2001:db8::1]:2": "[2001:db8::1]:2",
	} {
		if got := reachable(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
