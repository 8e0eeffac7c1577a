package quickstart

import (
	"net"
	"testing"
)

func TestEmbeddedKafkasPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	other, err := embeddedKafka(address.Port, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := other.ListenAddrs(); len(got) != 1 || got[0] == address.String() {
		t.Errorf("listens on %v, want one other than %v", got, address)
	}
	listener.Close()
	asked, err := embeddedKafka(address.Port, []string{"leads"})
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	if got := asked.ListenAddrs(); len(got) != 1 || got[0] != address.String() {
		t.Errorf("listens on %v, want %v", got, address)
	}
}
