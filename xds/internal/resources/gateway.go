package resources

import (
	"errors"
	"fmt"
	"path"
	"slices"
)

// Gateway is the Envoy around the filter; ParseGateway makes valid ones.
type Gateway struct {
	// Listen is the listener's address, by IP; port 0 lets the system choose.
	Listen Address
	// TLS is what clients speak to it; nil: plaintext.
	TLS *TLS
	// Collectors are the endpoints of the cluster that the routes document names; at least one.
	Collectors []Address
	// Upstream takes the requests that no route takes; nil answers them with 404.
	Upstream *Address
}

// TLS is a certificate and its key: PEM files as Envoy sees them, in one directory.
type TLS struct {
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// GatewayText is a Gateway as people give it, with addresses as host:port; what is empty is not given.
type GatewayText struct {
	Listen     string   `json:"listen,omitempty"`
	TLS        TLS      `json:"tls,omitzero"`
	Collectors []string `json:"collectors,omitempty"`
	Upstream   string   `json:"upstream,omitempty"`
}

// ParseGateway returns the gateway that t asks for, or nil where it asks for none. The error joins all that is wrong,
// each with its field's name in front.
func ParseGateway(t GatewayText) (*Gateway, error) {
	if t.Listen == "" {
		if len(t.Collectors) > 0 || t.Upstream != "" || t.TLS != (TLS{}) {
			return nil, errors.New("gateway: collectors, upstream and TLS mean nothing without the gateway's address; " +
				"where the listener is somebody else's, so are they")
		}
		return nil, nil
	}
	g := &Gateway{}
	listen, listenErr := ParseListen(t.Listen)
	g.Listen = listen
	tlsErr := t.TLS.validate()
	if t.TLS != (TLS{}) {
		g.TLS = &t.TLS
	}
	collectors, collectorsErr := parseCollectors(t.Collectors)
	g.Collectors = collectors
	var upstreamErr error
	if t.Upstream != "" {
		upstream, err := ParseRemote(t.Upstream)
		g.Upstream, upstreamErr = &upstream, err
	}
	err := errors.Join(inField("gateway", listenErr), inField("gateway TLS", tlsErr), collectorsErr,
		inField("upstream", upstreamErr))
	if err != nil {
		return nil, err
	}
	return g, nil
}

func inField(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func parseCollectors(list []string) ([]Address, error) {
	if len(list) == 0 {
		return nil, errors.New("collectors: a gateway needs at least one")
	}
	var collectors []Address
	var errs []error
	for _, s := range list {
		a, err := ParseRemote(s)
		if err == nil && slices.Contains(collectors, a) {
			err = fmt.Errorf("address %q is given twice", s)
		}
		if err != nil {
			errs = append(errs, inField("collectors", err))
		}
		collectors = append(collectors, a)
	}
	// Their order means nothing, and servers that were given another one are to agree on the version.
	slices.SortFunc(collectors, Address.compare)
	return collectors, errors.Join(errs...)
}

func (t TLS) validate() error {
	switch {
	case t == TLS{}:
		return nil
	case t.Cert == "" || t.Key == "":
		return errors.New("a certificate needs its key, and a key its certificate")
	case !path.IsAbs(t.Cert) || !path.IsAbs(t.Key):
		return fmt.Errorf("%q and %q: absolute paths are required, as Envoy sees them", t.Cert, t.Key)
	case path.Dir(t.Cert) != path.Dir(t.Key):
		return fmt.Errorf("%q and %q: one directory is required, which Envoy watches for their successors", t.Cert, t.Key)
	}
	return nil
}
