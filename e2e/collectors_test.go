package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// collector is one of a stack's collectors: a process, which may be followed by another in its place.
type collector struct {
	*process // of the present or last run
	stack    *stack
	name     string
	flags    []string
	spool    string // the directory
	address  string // port 0 before the first start, the same after a restart
	admin    string
	frozen   bool
	counted  []string // /metrics of each run, as last seen
}

// addCollectors adds collectors that have not been started, with flags beside those that all have.
func (s *stack) addCollectors(n int, flags ...string) {
	for range n {
		s.collectors = append(s.collectors, &collector{
			stack: s, name: fmt.Sprintf("collector-%d", len(s.collectors)), flags: flags, spool: s.t.TempDir(),
			address: "127.0.0.1:0", admin: "127.0.0.1:0",
		})
	}
}

// args are the collector's; of a flag that is given twice, the last counts: "--spool", "off" makes it diskless.
func (c *collector) args() []string {
	return append([]string{
		"collector", "--name", c.name, "--listen", c.address, "--admin", c.admin, "--kafka", c.stack.kafka.Addr(),
		"--spool", c.spool,
	}, c.flags...)
}

// start starts the collector, again on the addresses and the spool that it had.
func (c *collector) start() {
	c.stack.t.Helper()
	c.process, c.frozen = crowd(c.stack.t, c.args()...), false
	c.admin = c.waitFor(`collector listening.* admin=(\S+)`)
	c.address = c.waitFor(`collector listening.* address=(\S+)`)
	c.counted = append(c.counted, "")
}

// kill is kill -9. What the collector counts just before it dies is not in the ledger.
func (c *collector) kill() {
	c.observe()
	c.process.kill()
}

// stop is SIGTERM, and must succeed. The metrics are read again and again until the end; under load, the last few
// records that a collector counts are still not in the ledger, as it ends within milliseconds of them.
func (c *collector) stop() {
	c.t.Helper()
	c.observe()
	c.signal(syscall.SIGTERM)
	for end := time.Now().Add(patience); !c.ended() && time.Now().Before(end); {
		c.observe()
	}
	c.succeed()
}

// freeze is SIGSTOP: the collector keeps its connections and does nothing, until it is thawed or killed.
func (c *collector) freeze() {
	c.t.Helper()
	c.observe()
	c.signal(syscall.SIGSTOP)
	c.frozen = true
}

// thaw is SIGCONT.
func (c *collector) thaw() {
	c.t.Helper()
	c.signal(syscall.SIGCONT)
	c.frozen = false
}

// observe reads the metrics, if the collector can answer.
func (c *collector) observe() {
	if c.frozen || c.ended() {
		return
	}
	client := http.Client{Timeout: patience}
	response, err := client.Get("http://" + c.admin + "/metrics") //nolint:noctx // a test's own address
	if err != nil {
		return // it is about to end
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return // the same
	}
	if response.StatusCode != http.StatusOK {
		c.stack.t.Fatalf("%s: metrics: %d %s", c.name, response.StatusCode, text)
	}
	c.counted[len(c.counted)-1] = string(text)
}

// ledger sums what collectors have counted in all their runs, also in those that are over. Only one goroutine may
// use it and the collectors.
type ledger []*collector

func (s *stack) ledger() ledger { return s.collectors }

// observe reads the metrics of all collectors that run. Totals of one observation belong together.
func (l ledger) observe() {
	for _, c := range l {
		c.observe()
	}
}

// total sums the metrics of a name that have all the labels, written as route="leads", as last observed.
func (l ledger) total(name string, labels ...string) (sum float64) {
	for _, c := range l {
		for _, text := range c.counted {
			sum += total(c.stack.t, text, name, labels)
		}
	}
	return sum
}

// total sums in one text of Prometheus's format, as its Go client writes it.
func total(t testing.TB, text, name string, labels []string) (sum float64) {
	t.Helper()
lines:
	for line := range strings.Lines(text) {
		series, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		metric, in, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		if metric != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(","+in+",", ","+label+",") {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return sum
}

// TestLedger ends collectors in every way and finds all that they counted, and them where they were.
func TestLedger(t *testing.T) {
	t.Parallel()
	const requests = 300 // of each load
	s := newStack(t, absorbRoutes, 2)
	sent := 0
	send := func() {
		allAnswered(t, sendLoad(t, s.gateway, "/leads", requests, 4, 1_000, func(int) {}))
		sent += requests
		s.drained(sent)
	}
	first, second := s.collectors[0], s.collectors[1]
	addresses := []string{first.address, first.admin, second.address, second.admin}
	send()
	first.kill()
	send()
	first.start()
	second.stop()
	send()
	second.start()
	first.freeze()
	s.ledger().observe() // does not wait for it
	first.thaw()
	send()

	l := s.ledger()
	l.observe()
	for _, name := range []string{"crowd_answered_total", "crowd_stored_total"} {
		if got := l.total(name, `level="memory"`, `route="leads"`); got != float64(sent) {
			t.Errorf("%s is %v, want %d", name, got, sent)
		}
		if got := l.total(name, `route="lead"`); got != 0 {
			t.Errorf("%s of another route is %v", name, got)
		}
	}
	for i, address := range []string{first.address, first.admin, second.address, second.admin} {
		if address != addresses[i] {
			t.Errorf("a collector was at %s and is at %s", addresses[i], address)
		}
	}
}
