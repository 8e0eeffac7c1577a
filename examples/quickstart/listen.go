package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// listenable returns address as Envoy takes it, by IP and the port's number, after telling early, and in words, what
// Envoy would say late.
func listenable(ctx context.Context, address string) (string, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return "", fmt.Errorf("--listen %s: %w; want host:port, such as %s", address, reason(err), DefaultListen)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", resolved.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", fmt.Errorf("cannot listen on %s: %w; stop what uses it or choose another address with --listen host:port",
			address, reason(err))
	case err != nil:
		return "", fmt.Errorf("--listen %s: %w; want an address of this machine and a port that you may use, such as %s",
			address, reason(err), DefaultListen)
	}
	return resolved.String(), l.Close()
}

// reason leaves out what net says of the operation and the address.
func reason(err error) error {
	if operation := (*net.OpError)(nil); errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

// reachable is where a client on this machine reaches what listens on address.
func reachable(address string) string {
	listener, err := netip.ParseAddrPort(address)
	if err != nil || !listener.Addr().IsUnspecified() {
		return address
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if listener.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(loopback, listener.Port()).String()
}
