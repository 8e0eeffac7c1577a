package xds

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/route"
)

// Where a Server listens unless told otherwise.
const (
	DefaultListen = ":18000"
	DefaultAdmin  = ":18001"
)

// DefaultCanaryHold is how long `crowd xds` lets canaries prove a change unless told otherwise.
const DefaultCanaryHold = 30 * time.Second

// GatewayListener is the name of the gateway's listener in Envoy.
const GatewayListener = resources.ListenerName

// Config says what a Server serves, and where. Addresses are host:port, or [host]:port for IPv6.
type Config struct {
	// Routes is the path of the routes file (YAML). Required.
	Routes string
	// Listen is the address for Envoys (gRPC, plaintext: encryption is the mesh's); default DefaultListen.
	Listen string
	// Admin is the address for /metrics, /healthz, /readyz and /status (HTTP); default DefaultAdmin.
	Admin string
	// Name tells this server from others in Status; default the host's name.
	Name string

	// CanaryPercent of a group's connected Envoys, rounded up, get a change first: 0 (none, everybody at once) to 100.
	CanaryPercent int
	// CanaryHold is how long the canaries must have done well before the others get the change.
	CanaryHold time.Duration

	// Filter is the path of crowd.wasm as Envoy sees it. Either this or FilterInline is required.
	Filter string
	// FilterInline is the path of crowd.wasm as the server sees it. The file is read once, and sent to every Envoy
	// with every change of the routes.
	FilterInline string

	// Gateway is where a gateway's Envoy listens, by IP; port 0 lets the system choose. Empty: crowd gives Envoys
	// the filter and nothing else, and the fields below must be empty too.
	Gateway string
	// Collectors are the addresses of the collectors as Envoy sees them. Required for a gateway.
	Collectors []string
	// Upstream is the address of what takes the requests that no route takes. Empty: they are answered with 404.
	Upstream string

	// Served is called with every document once it is what Envoys get: with the first by New, on the caller's
	// goroutine and before New returns, and with each accepted change by Run, one after another on a goroutine of its
	// own. It must not block, as no change is followed meanwhile, and not alter the document. Default: nobody is told.
	Served func(route.Config)
}

// Validate returns everything that is wrong with c, apart from what is in the files that it names.
func (c Config) Validate() error {
	var errs []error
	if c.Routes == "" {
		errs = append(errs, errors.New("routes: a file is required"))
	}
	for _, own := range []struct{ field, address string }{{"listen", c.listen()}, {"admin", c.admin()}} {
		if _, err := resources.ParseAddress(own.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", own.field, err))
		}
	}
	if (c.Filter == "") == (c.FilterInline == "") {
		errs = append(errs, errors.New("filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required"))
	}
	if c.CanaryPercent < 0 || c.CanaryPercent > 100 {
		errs = append(errs, fmt.Errorf("canary: %d%% is not a share from 0%% to 100%%", c.CanaryPercent))
	}
	if c.CanaryHold < 0 {
		errs = append(errs, fmt.Errorf("canary-hold: %v is negative", c.CanaryHold))
	}
	_, err := c.gateway()
	return errors.Join(append(errs, err)...)
}

func (c Config) listen() string { return cmp.Or(c.Listen, DefaultListen) }
func (c Config) name() string {
	if c.Name != "" {
		return c.Name
	}
	host, _ := os.Hostname() // a server without a name is still told by its address
	return host
}
func (c Config) admin() string { return cmp.Or(c.Admin, DefaultAdmin) }

// gateway returns the gateway that c asks for, or nil. The error joins all that is wrong.
func (c Config) gateway() (*resources.Gateway, error) {
	return resources.ParseGateway(resources.GatewayText{Listen: c.Gateway, Collectors: c.Collectors, Upstream: c.Upstream})
}
