package plugin

import (
	"strings"
	"testing"
)

// TestAnInvalidConfigurationIsRefusedOnceThereWasAValidOne tries configurations as Envoy does, each in a VM of its own that
// has data in common with the others.
func TestAnInvalidConfigurationIsRefusedOnceThereWasAValidOne(t *testing.T) {
	const before, after = `{"routes": 7}`, `{"routes": 8}`
	shared, name := map[string]string{}, map[string]string{"plugin_name": "crowd"}
	for _, step := range []struct {
		what, configuration, filter string
		taken                       bool
	}{
		{"an invalid one at first", before, "crowd", true},
		{"a valid one", routes, "crowd", true},
		{"an invalid one after it", after, "crowd", false},
		{"the same, which Envoy may try again", after, "crowd", false},
		{"the first, which Envoy brings back without trying it", before, "crowd", true},
		{"another valid one", elsewhere, "crowd", true},
		{"an invalid one of a filter that had no valid one", after, "other", true},
		{"which Envoy then takes for the first filter too", after, "crowd", true},
	} {
		name["plugin_name"] = step.filter
		c := newVM(t, step.configuration, name, shared)
		if taken := c.starts(pluginContext); taken != step.taken {
			t.Fatalf("%s: taken is %v, want %v", step.what, taken, step.taken)
		}
		invalid := !strings.Contains(step.configuration, "leads")
		if n := c.metrics["crowd.config_invalid"]; n != int64(number(invalid)) {
			t.Errorf("%s: counted %d", step.what, n)
		}
		if len(c.logs) != int(number(invalid)) || invalid && strings.Contains(c.logs[0], "refused") == step.taken {
			t.Errorf("%s: critical logs %q", step.what, c.logs)
		}
	}
}

// TestARefusedContextIsNobody has a context refuse in a VM that goes on.
func TestARefusedContextIsNobody(t *testing.T) {
	const second = 1000
	c := newCompiled(t, routes, properties)
	c.config = []byte(`{"routes": 7}`)
	if c.starts(second) {
		t.Fatal("taken")
	}
	c.plugin = pluginContext
	c.CompleteHttpContext(c.post("/leads", []byte("first")))
	c.welcome()
	if c.opener != pluginContext || len(c.records()) != 1 {
		t.Errorf("context %d opened a stream, %d records sent", c.opener, len(c.records()))
	}
	c.ack(1)
	if !c.FinishVM() {
		t.Error("the first context does not end, though everything is stored")
	}
}
