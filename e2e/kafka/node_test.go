package kafka

import (
	"errors"
	"net"
	"testing"
)

// TestPortTaken covers the race that freePorts cannot exclude: somebody listens on the port before Kafka does.
func TestPortTaken(t *testing.T) {
	b := Start(t, Config{})
	b.Stop()
	l, err := net.Listen("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := b.run(); !errors.Is(err, errPortTaken) {
		t.Errorf("run on a taken port: %v; want %v", err, errPortTaken)
	}
}
