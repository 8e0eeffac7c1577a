package envoy

import "testing"

func TestBoundAddress(t *testing.T) {
	const listeners = `{"listener_statuses": [
		{"name": "other", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}},
		{"name": "six", "local_address": {"socket_address": {"address": "::1", "port_value": 2}}},
		{"name": "pipe", "local_address": {"pipe": {"path": "/x"}}}
	]}`
	for name, want := range map[string]string{"other": "127.0.0.1:1", "six": "[::1]:2", "pipe": "", "none": ""} {
		if got, err := boundAddress([]byte(listeners), name); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := boundAddress([]byte("no"), "x"); err == nil {
		t.Error("no error for what is not JSON")
	}
}

func TestAnyAbove0(t *testing.T) {
	tests := []struct {
		stats string
		want  bool
	}{
		{`{"stats": []}`, false},
		{`{"stats": [{"name": "http.admin.downstream_rq_active", "value": 1}]}`, false},
		{`{"stats": [{"name": "http.in.downstream_rq_active", "value": 0}, {"name": "wasmcustom.crowd.held_bytes", "value": 0}]}`, false},
		{`{"stats": [{"name": "http.in.downstream_rq_active", "value": 1}]}`, true},
		{`{"stats": [{"name": "wasmcustom.crowd.held_bytes", "value": 5}]}`, true},
	}
	for _, tt := range tests {
		if got, err := anyAbove0([]byte(tt.stats)); got != tt.want || err != nil {
			t.Errorf("%s: %t, %v; want %t", tt.stats, got, err, tt.want)
		}
	}
}
