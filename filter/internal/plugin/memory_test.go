package plugin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/collector/record"
	"github.com/marceloboeira/crowd/filter/internal/uplink"
	"github.com/marceloboeira/crowd/xds/route"
)

// manyRoutes is a document of so many routes, which differs from one to the next.
func manyRoutes(routes, version int) string {
	var b strings.Builder
	b.WriteString(`{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}`)
	for i := range routes {
		fmt.Fprintf(&b, `, {"name": "route-%d", "match": {"path_template": "/v%d/shops/{shop}/items/%d", "methods": ["POST"]}, "topic": "items"}`, i, version, i)
	}
	b.WriteString("]}")
	return b.String()
}

// TestMemoryStaysFlatOverChangesOfTheConfiguration changes a large configuration again and again.
func TestMemoryStaysFlatOverChangesOfTheConfiguration(t *testing.T) {
	const routes, changes, most = 10_000, 5, 120 // MiB
	c := newCompiled(t, manyRoutes(routes, 0), map[string]string{"plugin_name": "crowd"})
	for change := range changes {
		old := c.plugin
		c.configure(old+1000, manyRoutes(routes, change+1))
		if c.call(old, "proxy_on_done") != 1 {
			t.Fatal("a context that has nothing waits for its end")
		}
		for range 10 {
			c.ahead += 100 * time.Millisecond
			c.call(c.plugin, "proxy_on_tick")
		}
		if size := c.mod.Memory().Size() >> 20; size > most {
			t.Fatalf("%d MiB after change %d, want at most %d", size, change, most)
		}
	}
}

// TestLargeExpressionsLeaveTheVMAlive changes a document whose expressions make far more garbage than table while they are
// compiled, beside the tables of before.
func TestLargeExpressionsLeaveTheVMAlive(t *testing.T) {
	const routes, changes, most = 330, 4, 800 // MiB, which is main.memoryLimit and what is no heap
	document := func(version int) string {
		var b strings.Builder
		b.WriteString(`{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}`)
		for i := range routes {
			fmt.Fprintf(&b, `, {"name": "route-%d", "match": {"safe_regex": "/%d/%d/(a{1000})(b{1000})(c{900})"}, "topic": "items"}`, i, version, i)
		}
		b.WriteString("]}")
		return b.String()
	}
	c := newCompiled(t, document(0), map[string]string{"plugin_name": "crowd"})
	for change := range changes {
		c.configure(c.plugin+1000, document(change+1))
		t.Logf("%d MiB after change %d", c.mod.Memory().Size()>>20, change)
	}
	if size := c.mod.Memory().Size() >> 20; size > most {
		t.Errorf("%d MiB, want at most %d", size, most)
	}
	if id := c.post("/leads", []byte("x")); c.GetSentLocalResponse(id) == nil {
		t.Error("a request is not answered: the document is not valid")
	}
}

// TestMemoryOfWhatIsGivenUp has many clients go on sending what was refused after its first chunk, and others wait for an
// answer: what was lent to their requests, and what those have given up, must go.
func TestMemoryOfWhatIsGivenUp(t *testing.T) {
	const most = 25 // MiB; the first chunks alone are 50
	for name, tail := range map[string]func(c *compiled, id uint32){
		"refused":  func(c *compiled, id uint32) { c.CallOnRequestBody(id, make([]byte, 900<<10), false) },
		"too long": func(c *compiled, id uint32) { c.CallOnRequestBody(id, make([]byte, 3<<20), false) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCompiled(t, routes, properties)
			held := c.InitializeHttpContext()
			c.CallOnRequestHeaders(held, headers("POST", "/track/held"), false)
			c.CallOnRequestBody(held, make([]byte, 19<<20/10), false)
			for range 200 {
				id := c.InitializeHttpContext()
				c.CallOnRequestHeaders(id, headers("POST", "/track/more"), false)
				c.CallOnRequestBody(id, make([]byte, 256<<10), false)
				tail(c, id)
				c.Tick()
			}
			if size := c.mod.Memory().Size() >> 20; size > most {
				t.Errorf("%d MiB, want at most %d", size, most)
			}
		})
	}
}

// TestFiltersShareTheBuffer has two filters in one VM, each with the largest buffer.
func TestFiltersShareTheBuffer(t *testing.T) {
	largest := fmt.Sprintf(`{"uplink": {"cluster": "collectors", "max_buffer_bytes": %d}, "routes": []}`, route.MaxMaxBufferBytes)
	vm := newEmulated(t, largest).proxy.(native).vm
	alone := vm.links[0].uplink
	if got := alone.Reserve(int(route.MaxMaxBufferBytes)); got != uplink.Taken {
		t.Fatalf("the only filter is refused its buffer: %v", got)
	}
	alone.Release(int(route.MaxMaxBufferBytes))
	_, table, err := route.CompileJSON([]byte(largest))
	if err != nil {
		t.Fatal(err)
	}
	other := vm.NewPluginContext(2).(*plugin)
	other.name = "other"
	vm.plugins = append(vm.plugins, other)
	other.use(table)
	for _, l := range vm.links {
		if half := int(route.MaxMaxBufferBytes / 2); l.uplink.Reserve(half) != uplink.Taken || l.uplink.Reserve(1) != uplink.BufferFull {
			t.Errorf("filter %q does not have half of what one may have", l.name)
		}
	}
}

// TestHeadersOfBeforeAreForgotten looks into the VM: each entry that stayed would hold all headers of its request.
func TestHeadersOfBeforeAreForgotten(t *testing.T) {
	e := newEmulated(t, routes)
	vm := e.proxy.(native).vm
	for n := range 20 {
		var more []string
		for range 20 - n {
			more = append(more, "x-more", strings.Repeat("x", 100))
		}
		id := e.InitializeHttpContext()
		e.CallOnRequestHeaders(id, headers("POST", "/leads", more...), true)
		e.CompleteHttpContext(id)
	}
	for _, h := range vm.headers[len(vm.headers):cap(vm.headers)] {
		if h != [2]string{} {
			t.Fatalf("%q of an earlier request is still there", h)
		}
	}
	for _, h := range vm.recorded[len(vm.recorded):cap(vm.recorded)] {
		if h != (record.Header{}) {
			t.Fatalf("%q of an earlier record is still there", h)
		}
	}
}

// TestNothingIsTakenForSomething has the host say that all is well and give nothing, as Envoy does where a buffer is shorter
// than it was said to be.
func TestNothingIsTakenForSomething(t *testing.T) {
	c := newCompiled(t, routes, properties)
	id := c.InitializeHttpContext()
	c.CallOnRequestHeaders(id, headers("POST", "/leads"), false)
	c.act("proxy_on_request_body", id, 5, 1)
	c.welcome()
	if body := c.records()[0].Body; len(body) > 0 {
		t.Errorf("the body is %q, want none", body)
	}
}
