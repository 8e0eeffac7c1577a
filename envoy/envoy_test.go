package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
)

// parentOfEnvoy in the environment makes the test binary a program that starts the Envoy of that path, prints where
// its admin interface is, and waits to be killed.
const parentOfEnvoy = "CROWD_TEST_PARENT_OF_ENVOY"

// busyEnvoy in the environment makes the test binary an Envoy that compiles its filter: its admin interface has
// answered once and answers nothing more, and SIGTERM must wait.
const busyEnvoy = "CROWD_TEST_BUSY_ENVOY"

func TestMain(m *testing.M) {
	if os.Getenv(busyEnvoy) != "" {
		fmt.Fprintln(os.Stderr, beBusyEnvoy())
		os.Exit(1)
	}
	if path := os.Getenv(parentOfEnvoy); path != "" {
		fmt.Fprintln(os.Stderr, beParentOfEnvoy(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func beParentOfEnvoy(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p, err := envoy.Start(ctx, envoy.ProcessConfig{Path: path, Bootstrap: []byte(proxyTo("127.0.0.1", 1))})
	if err != nil {
		return err
	}
	fmt.Println(p.Admin())
	<-ctx.Done()
	return errors.New("was not killed")
}

func beBusyEnvoy() error {
	signal.Ignore(syscall.SIGTERM)
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	file := os.Args[slices.Index(os.Args, "--admin-address-path")+1]
	if err := os.WriteFile(file, []byte(admin.Addr().String()), 0o600); err != nil {
		return err
	}
	return http.Serve(admin, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/server_info" {
			select {}
		}
	}))
}

// proxyTo is the bootstrap of an Envoy with a listener "proxy" in front of one backend.
func proxyTo(host string, port int) string {
	const hcm = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	const router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
	return fmt.Sprintf(`{
  "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
  "static_resources": {
    "listeners": [{
      "name": "proxy",
      "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
      "filter_chains": [{"filters": [{
        "name": "http",
        "typed_config": {
          "@type": %q,
          "stat_prefix": "proxy",
          "http_filters": [{"name": "router", "typed_config": {"@type": %q}}],
          "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
          ]}]}
        }
      }]}]
    }],
    "clusters": [{
      "name": "backend",
      "type": "STATIC",
      "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": %q, "port_value": %d}}}}
      ]}]}
    }]
  }
}`, hcm, router, host, port)
}

// The files are what people start their Envoys with.
func TestBootstrapFiles(t *testing.T) {
	for _, file := range []string{"bootstrap-gateway.yaml", "bootstrap-filter.yaml"} {
		t.Run(file, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), envoytest.Path(t), "--mode", "validate", "--config-path", file).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
