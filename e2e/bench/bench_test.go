package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/marceloboeira/crowd/xds"
)

func TestAnsweringEnvoy(t *testing.T) {
	for _, processor := range []string{"", "127.0.0.1:4711"} {
		text, err := answeringEnvoy(processor)
		if err != nil {
			t.Fatal(err)
		}
		var b bootstrapv3.Bootstrap
		if err := protojson.Unmarshal(text, &b); err != nil {
			t.Errorf("with %q: %v", processor, err)
		}
		if name := b.GetStaticResources().GetListeners()[0].GetName(); name != xds.GatewayListener {
			t.Errorf("listener %q", name)
		}
		if n := len(b.GetStaticResources().GetClusters()); n > 0 != (processor != "") {
			t.Errorf("with %q: %d clusters", processor, n)
		}
	}
	if _, err := answeringEnvoy("nowhere"); err == nil {
		t.Error("no error for an address that is none")
	}
}

func TestNumbers(t *testing.T) {
	n := numbers{7}
	if err := n.Set("0,512,1048576"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbers{0, 512, 1048576}, n); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n.String() != "0,512,1048576" {
		t.Errorf("%q", n.String())
	}
	for _, bad := range []string{"", "x", "-1", "1,"} {
		if n.Set(bad) == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestBody(t *testing.T) {
	for _, n := range []int{0, 1, 512} {
		if b := body(n); len(b) != n || !bytes.Equal(b, body(n)) || bytes.ContainsAny(b, "\r\n\x00\x7f") {
			t.Errorf("%d bytes: %q", n, b)
		}
	}
}

func TestCommandLines(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-only nobody", `no contestant "nobody"`},
		{"-rounds 0", "at least one round"},
		{"-connections 1,0", "-connections: want at least one"},
		{"-duration 0s", "some duration"},
		{"now", "flags alone"},
		{"-build /nowhere", "run `make build` first"},
		{"peer nobody", `no peer "nobody"`},
	} {
		err := run(strings.Fields(c.args))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want %q", c.args, err, c.want)
		}
	}
}

func TestHostCleansUp(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		do   func(*host) error
		want string
	}{
		"success": {func(*host) error { return nil }, "<nil>"},
		"error":   {func(*host) error { return broken }, "broken"},
		"fatal":   {func(h *host) error { h.Fatalf("no %s", "java"); return nil }, "no java"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &host{ctx: context.Background()}
			var order []int
			err := h.run(func() error {
				for i := range 3 {
					h.Cleanup(func() {
						order = append(order, i)
						if h.Failed() != (c.want != "<nil>") {
							t.Errorf("failed: %v", h.Failed())
						}
					})
				}
				return c.do(h)
			})
			if got := fmt.Sprint(err); got != c.want {
				t.Errorf("error %q; want %q", got, c.want)
			}
			if diff := cmp.Diff([]int{2, 1, 0}, order); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("panic", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("a panic that is none of Fatal's was swallowed")
			}
		}()
		_ = (&host{}).run(func() error { panic("BUG: other") })
	})
}
