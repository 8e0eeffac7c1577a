package plugin

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
		c.call(old, "proxy_on_delete")
		for range 10 {
			c.ahead += 100 * time.Millisecond
			c.call(c.plugin, "proxy_on_tick")
		}
		if size := c.mod.Memory().Size() >> 20; size > most {
			t.Fatalf("%d MiB after change %d, want at most %d", size, change, most)
		}
	}
}
