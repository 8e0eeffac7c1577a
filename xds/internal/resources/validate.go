package resources

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Validate returns everything that Envoy would refuse: values that its API's rules forbid, at whatever depth, names
// that are given twice or are none, and names that lead nowhere or to which nothing leads.
func (r Resources) Validate() error {
	c := checker{given: map[reference]bool{}, wanted: map[reference]string{}}
	for _, l := range r.Listeners {
		c.add(reference{"listener", l.GetName()}, l)
	}
	for _, rc := range r.Routes {
		c.add(reference{"route configuration", rc.GetName()}, rc)
	}
	for _, cluster := range r.Clusters {
		c.add(reference{"cluster", cluster.GetName()}, cluster)
	}
	for _, e := range r.Endpoints {
		c.add(reference{"endpoints", e.GetClusterName()}, e)
	}
	for _, x := range r.ExtensionConfigs {
		c.add(reference{"extension configuration", x.GetName()}, x)
	}
	for _, s := range r.Secrets {
		c.add(reference{"secret", s.GetName()}, s)
	}
	c.resolve()
	return errors.Join(c.errs...)
}

// reference is a resource by kind and name.
type reference struct{ kind, name string }

func (r reference) String() string { return fmt.Sprintf("%s %q", r.kind, r.name) }

type checker struct {
	given  map[reference]bool
	wanted map[reference]string // by whom
	errs   []error
}

func (c *checker) failf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *checker) add(self reference, m proto.Message) {
	switch {
	case self.name == "":
		c.failf("%s without a name", self.kind)
	case c.given[self]:
		c.failf("%v is there twice", self)
	}
	c.given[self] = true
	// The generated rules end at each Any; the walk goes on inside.
	err := protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
		at := p.Index(-1)
		message, ok := at.Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if packed, ok := message.Interface().(*anypb.Any); ok {
			if _, err := packed.UnmarshalNew(); err != nil { // and would be passed over
				c.failf("%v: what is said to be %s is none", self, packed.MessageName())
			}
		}
		if kind := at.Step.Kind(); kind == protopath.RootStep || kind == protopath.AnyExpandStep {
			c.obey(self, message.Interface())
		}
		c.follow(self, message.Interface())
		return nil
	})
	if err != nil {
		c.failf("%v: %w", self, err)
	}
}

// obey checks a message against the rules in Envoy's API.
func (c *checker) obey(self reference, m proto.Message) {
	ruled, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return // such as google.protobuf.StringValue
	}
	if err := ruled.ValidateAll(); err != nil {
		c.failf("%v: %w", self, err)
	}
}

// follow notes what a message refers to.
func (c *checker) follow(self reference, m proto.Message) {
	want := func(kind, name string) { c.wanted[reference{kind, name}] = self.String() }
	switch m := m.(type) {
	case *hcmv3.Rds:
		want("route configuration", m.GetRouteConfigName())
	case *hcmv3.HttpFilter:
		if m.GetConfigDiscovery() != nil {
			want("extension configuration", m.GetName())
		}
	case *tlsv3.SdsSecretConfig:
		want("secret", m.GetName())
	case *routev3.RouteAction:
		want("cluster", m.GetCluster())
	case *clusterv3.Cluster:
		if m.GetType() == clusterv3.Cluster_EDS {
			want("endpoints", m.GetName())
		}
	}
}

// resolve compares what is referred to with what is there. Listeners and clusters are asked for by type, and the
// filter by listeners of others too: nothing here need refer to them.
func (c *checker) resolve() {
	for _, r := range sorted(c.wanted) {
		if !c.given[r] {
			c.failf("%s refers to %v, which is not there", c.wanted[r], r)
		}
	}
	for _, r := range sorted(c.given) {
		if _, ok := c.wanted[r]; !ok && slices.Contains([]string{"route configuration", "endpoints", "secret"}, r.kind) {
			c.failf("nothing refers to %v", r)
		}
	}
}

func sorted[V any](m map[reference]V) []reference {
	return slices.SortedFunc(maps.Keys(m), func(a, b reference) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
}
