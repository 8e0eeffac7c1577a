package xds

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/marceloboeira/crowd/xds/internal/nodegroup"
	"github.com/marceloboeira/crowd/xds/internal/resources"
)

// deployment is what a group's Envoys get besides its routes.
type deployment struct {
	filter  resources.Filter // its code is not read yet
	gateway *resources.Gateway
	// gatewayText is what gateway was made of.
	gatewayText resources.GatewayText
}

// settings are a deployment as the state keeps it, as JSON: what routes were good with is restored with them.
type settings struct {
	// Filter is the path of crowd.wasm, empty where it is sent inline: its code is not kept.
	Filter  string                `json:"filter,omitempty"`
	Gateway resources.GatewayText `json:"gateway,omitzero"`
}

func (d deployment) settings() string {
	text, err := json.Marshal(settings{d.filter.Path, d.gatewayText})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(text)
}

// as returns the deployment that text, of settings, says.
func (d deployment) as(text string) (deployment, error) {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return deployment{}, fmt.Errorf("settings: %w", err)
	}
	if s.Filter != "" || d.filter.Code != nil {
		d.filter.Path = s.Filter
	}
	d.gatewayText = s.Gateway
	var err error
	d.gateway, err = resources.ParseGateway(s.Gateway)
	return d, err
}

var errNoFilter = errors.New("filter: either the path of crowd.wasm as Envoy sees it or a file to send inline is required")

// defaultGroup takes every node.
func defaultGroup() nodegroup.Group { return nodegroup.Group{Name: "default"} }

// groups returns the groups, of which there is one at least.
func (c Config) groups() (nodegroup.Groups, error) {
	if c.Groups != "" {
		return nodegroup.Load(c.Groups)
	}
	all := defaultGroup()
	all.Routes = c.Routes
	return nodegroup.Groups{all}, nil
}

// deployments returns those of groups, in order. The error joins all that is wrong.
func (c Config) deployments(groups nodegroup.Groups) ([]deployment, error) {
	var all []deployment
	var errs []error
	var code []byte
	if c.FilterInline != "" {
		var err error
		if code, err = readFilter(c.FilterInline); err != nil {
			return nil, err
		}
	}
	for _, g := range groups {
		d, err := c.deployment(g)
		if err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", g.Name, err))
		}
		if d.filter.Path == "" {
			d.filter.Code = code
		}
		all = append(all, d)
	}
	gateway := func(d deployment) bool { return d.gateway != nil }
	if len(errs) == 0 && c.saysOfGateways() && !slices.ContainsFunc(all, gateway) {
		errs = append(errs, errors.New("collectors, upstream and TLS mean nothing where no group has a gateway's address"))
	}
	return all, errors.Join(errs...)
}

// saysOfGateways reports whether there is anything for gateways besides their address.
func (c Config) saysOfGateways() bool {
	return len(c.Collectors) > 0 || c.Upstream != "" || c.GatewayTLSCert != "" || c.GatewayTLSKey != ""
}

// deployment returns what a group's own settings make of c. The error joins all that is wrong.
func (c Config) deployment(g nodegroup.Group) (deployment, error) {
	d := deployment{filter: resources.Filter{Path: cmp.Or(g.Filter, c.Filter)}}
	var errs []error
	if d.filter.Path == "" && c.FilterInline == "" {
		errs = append(errs, errNoFilter)
	}
	text := resources.GatewayText{
		Listen:     cmp.Or(g.Gateway, c.Gateway),
		TLS:        resources.TLS{Cert: c.GatewayTLSCert, Key: c.GatewayTLSKey},
		Collectors: g.Collectors,
		Upstream:   cmp.Or(g.Upstream, c.Upstream),
	}
	if g.Collectors == nil {
		text.Collectors = c.Collectors
	}
	if c.Groups != "" && text.Listen == "" { // what is said for all groups is meant for those with a gateway
		text = resources.GatewayText{Collectors: g.Collectors, Upstream: g.Upstream}
	}
	d.gatewayText = text
	var err error
	d.gateway, err = resources.ParseGateway(text)
	return d, errors.Join(append(errs, err)...)
}

func readFilter(path string) ([]byte, error) {
	if err := CheckFilter(path); err != nil {
		return nil, fmt.Errorf("--filter-inline: %w", err)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--filter-inline: %w", err)
	}
	return code, nil
}
