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
	for range 10 { // whatever runs beside may take a free port first
		asked, err := embeddedKafka(address.Port, []string{"leads"})
		if err != nil {
			t.Fatal(err)
		}
		got := asked.ListenAddrs()
		asked.Close()
		if len(got) == 1 && got[0] == address.String() {
			return
		}
	}
	t.Errorf("never listens on %v, though it is free", address)
}
