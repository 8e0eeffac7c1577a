package resources

import (
	"encoding/json"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marceloboeira/crowd/xds/route"
)

// wasmRuntime is V8, the only Wasm runtime in Envoy's own builds.
const wasmRuntime = "envoy.wasm.runtime.v8"

// filterConfig is the filter as an Envoy asks for it over ECDS. A VM is known by its id, its configuration and
// its code, never by the plugin's configuration: new routes are a new plugin in the VM that runs.
func filterConfig(routes route.Config, filter Filter) (*corev3.TypedExtensionConfig, error) {
	document, err := json.Marshal(routes)
	if err != nil {
		return nil, fmt.Errorf("routes as the filter's configuration: %w", err)
	}
	return &corev3.TypedExtensionConfig{
		Name: FilterName,
		TypedConfig: packed(&httpwasmv3.Wasm{Config: &wasmv3.PluginConfig{
			Name:   FilterName,
			RootId: FilterName,
			Vm: &wasmv3.PluginConfig_VmConfig{VmConfig: &wasmv3.VmConfig{
				VmId:    FilterName,
				Runtime: wasmRuntime,
				Code:    filter.source(),
			}},
			Configuration: packed(wrapperspb.String(string(document))),
			// A VM that panicked is replaced; until then requests get 503, never an answer that nothing backs.
			FailurePolicy: wasmv3.FailurePolicy_FAIL_RELOAD,
			// The filter stops at the headers while it gathers the body. Envoy would otherwise go on to the
			// router and give the filter no body.
			AllowOnHeadersStopIteration: wrapperspb.Bool(true),
		}}),
	}, nil
}

func (f Filter) source() *corev3.AsyncDataSource {
	local := &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: f.Path}}
	if f.Path == "" {
		local.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: f.Code}
	}
	return &corev3.AsyncDataSource{Specifier: &corev3.AsyncDataSource_Local{Local: local}}
}
