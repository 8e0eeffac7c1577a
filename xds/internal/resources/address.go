package resources

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Address is a host, by name or IP, and a TCP port.
type Address struct {
	Host string
	Port uint16
}

// ParseAddress reads "host:port" or "[v6]:port". An empty host is left empty.
func ParseAddress(s string) (Address, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: want host:port", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: port %q is not a number from 0 to 65535", s, port)
	}
	return Address{Host: host, Port: uint16(n)}, nil
}

// ParseListen reads the address of a listener: by IP, or for all of IPv4 where the host is empty.
func ParseListen(s string) (Address, error) {
	a, err := ParseAddress(s)
	if err != nil {
		return Address{}, err
	}
	if ip, err := netip.ParseAddr(a.Host); a.Host != "" && (err != nil || ip.Zone() != "") {
		return Address{}, fmt.Errorf("address %q: a listener needs an IP address, such as 127.0.0.1 or 0.0.0.0", s)
	}
	return a, nil
}

// ParseRemote reads the address of somebody to connect to, by name or IP.
func ParseRemote(s string) (Address, error) {
	a, err := ParseAddress(s)
	if err == nil && (a.Host == "" || a.Port == 0) {
		err = fmt.Errorf("address %q: host and port are required", s)
	}
	return a, err
}

// IsIP reports whether the host needs no resolving.
func (a Address) IsIP() bool {
	_, err := netip.ParseAddr(a.Host)
	return err == nil
}

func (a Address) compare(b Address) int {
	return cmp.Or(strings.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
}

func (a Address) proto() *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port)},
	}}}
}
