package xds

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/marceloboeira/crowd/xds/internal/resources"
	"github.com/marceloboeira/crowd/xds/internal/servertls"
	"github.com/marceloboeira/crowd/xds/route"
)

// What a Server does unless told otherwise.
const (
	DefaultListen = ":18000"
	DefaultAdmin  = ":18001"
	DefaultState  = "/var/lib/crowd/xds"
)

// NoState is the Config.State that says that there is none.
const NoState = "off"

// DefaultCanaryHold is how long `crowd xds` lets canaries prove a change unless told otherwise.
const DefaultCanaryHold = 30 * time.Second

// GatewayListener is the name of the gateway's listener in Envoy.
const GatewayListener = resources.ListenerName

// Config says what a Server serves, and where. Addresses are host:port, or [host]:port for IPv6.
type Config struct {
	// Routes is the path of the routes: a file (YAML), or a directory of files. All Envoys get them. Either this or Groups
	// is required.
	Routes string
	// Groups is the path of the groups file, which says which Envoys get which routes. It is read once.
	Groups string
	// State is the directory that keeps each group's last good routes, and the fields below that they were good with, so that
	// a start with broken ones serves those, and others are rolled out. It is one server's alone, and made if need be; default
	// DefaultState. NoState: nothing is kept, and a start with broken routes fails.
	State string

	// Listen is the address for Envoys (gRPC); default DefaultListen.
	Listen string
	// TLSCert and TLSKey are the server's certificate and key for Envoys, PEM files, followed. Empty: plaintext.
	TLSCert, TLSKey string
	// TLSClientCA is a PEM file with those whose certificates Envoys must show, followed. Empty: they need none.
	TLSClientCA string
	// TLSAllowSAN are the DNS names and URIs of which an Envoy's certificate must have one, exact or with one * in front or
	// at the end. Empty: any that TLSClientCA signed.
	TLSAllowSAN []string
	// Admin is the address for /metrics, /healthz, /readyz and /status (HTTP); default DefaultAdmin.
	Admin string
	// Name tells this server from others in Status; default the host's name.
	Name string

	// CanaryPercent of a group's connected Envoys, rounded up, get a change first: 0 (none, everybody at once) to 100.
	CanaryPercent int
	// CanaryHold is how long the canaries must have done well before the others get the change.
	CanaryHold time.Duration

	// The fields below are for the groups that do not say otherwise.

	// Filter is the path of crowd.wasm as Envoy sees it. Either this or FilterInline is required.
	Filter string
	// FilterInline is the path of crowd.wasm as the server sees it. The file is read once, and sent to every Envoy
	// with every change of the routes.
	FilterInline string

	// Gateway is where a gateway's Envoy listens, by IP; port 0 lets the system choose. Empty: crowd gives Envoys
	// the filter and nothing else, and the fields below must be empty too.
	Gateway string
	// GatewayTLSCert and GatewayTLSKey are the gateway's certificate and key: PEM files in one directory as Envoy sees them,
	// which follows them. Empty: plaintext.
	GatewayTLSCert, GatewayTLSKey string
	// Collectors are the addresses of the collectors as Envoy sees them. Required for a gateway.
	Collectors []string
	// Upstream is the address of what takes the requests that no route takes. Empty: they are answered with 404.
	Upstream string

	// Served is called with every document of a group once it is offered to its Envoys: with the first by New, on the
	// caller's goroutine and before New returns, and with each accepted change by Run, one group's one after another and
	// several groups' at once. It must not block, as no change is followed meanwhile, and not alter the document. Default:
	// nobody is told.
	Served func(group string, document route.Config)
}

// Validate returns everything that is wrong with c, apart from what is in the files that it names.
func (c Config) Validate() error {
	var errs []error
	if (c.Routes == "") == (c.Groups == "") {
		errs = append(errs, errors.New("routes: either routes, a file or directory, or a groups file is required"))
	}
	for _, own := range []struct{ field, address string }{{"listen", c.listen()}, {"admin", c.admin()}} {
		if _, err := resources.ParseAddress(own.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", own.field, err))
		}
	}
	errs = append(errs, c.tls().Validate())
	if c.CanaryPercent < 0 || c.CanaryPercent > 100 {
		errs = append(errs, fmt.Errorf("canary: %d%% is not a share from 0%% to 100%%", c.CanaryPercent))
	}
	if c.CanaryHold < 0 {
		errs = append(errs, fmt.Errorf("canary-hold: %v is negative", c.CanaryHold))
	}
	if c.Filter != "" && c.FilterInline != "" {
		errs = append(errs, errNoFilter)
	}
	if c.Groups == "" {
		_, err := c.deployment(defaultGroup())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) listen() string { return cmp.Or(c.Listen, DefaultListen) }
func (c Config) admin() string  { return cmp.Or(c.Admin, DefaultAdmin) }
func (c Config) state() string  { return cmp.Or(c.State, DefaultState) }

func (c Config) name() string {
	if c.Name != "" {
		return c.Name
	}
	host, _ := os.Hostname() // a server without a name is still told by its address
	return host
}

func (c Config) tls() servertls.Config {
	return servertls.Config{Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.TLSClientCA, AllowSAN: c.TLSAllowSAN}
}
