package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/child"
	"github.com/marceloboeira/crowd/e2e/kafka"
)

// children returns the processes that a process has started, and theirs.
func children(t testing.TB, pid int) (all []int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range threads {
		out, err := os.ReadFile(file)
		if err != nil {
			continue // that thread has ended
		}
		for _, field := range strings.Fields(string(out)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			all = append(append(all, child), children(t, child)...)
		}
	}
	return all
}

// devCommand is `crowd dev` on a free port, with a configuration directory of its own.
func devCommand(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, absolute(t, crowdBinary), append([]string{"dev", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	return cmd
}

// dev starts `crowd dev` and waits until it is ready.
func dev(t *testing.T, args ...string) (p *process, gateway string) {
	t.Helper()
	p = start(t, devCommand(t.Context(), t, args...))
	gateway = p.waitFor(`crowd listens on (http://\S+)`)
	p.waitFor(`^ready$`)
	return p, gateway
}

// TestDev is a new user's first minute: one command, the request it proposes, the record on the screen, the end.
func TestDev(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p, gateway := dev(t)
			if try := p.waitFor(`^  (curl .*)$`); !strings.Contains(try, gateway+"/leads") {
				t.Errorf("proposes %q", try)
			}
			r := request{path: "/leads?from=test", kind: kindJSON, body: []byte(`{"email":"ada@example.com"}`)}
			if a := r.send(t.Context(), newClient(false), gateway); a.err != nil || a.status != http.StatusOK {
				t.Fatalf("%+v", a)
			}
			line := p.waitFor(`.*\?from=test.*`)
			for _, part := range []string{"leads", "POST", "27", `{"email":"ada@example.com"}`} {
				if !strings.Contains(line, part) {
					t.Errorf("the record's line %q lacks %q", line, part)
				}
			}
			started := children(t, p.cmd.Process.Pid)
			if len(started) == 0 {
				t.Error("no process was started: where is Envoy?")
			}
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			for _, pid := range started {
				if err := syscall.Kill(pid, 0); err == nil {
					t.Errorf("process %d is still there", pid)
				}
			}
		})
	}
}

// TestDevFollowsRoutes adds a route with a topic that nobody knows yet: the change is seen to be taken, and so are its
// records.
func TestDevFollowsRoutes(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, routes: filepath.Join(t.TempDir(), "routes.yaml")}
	s.writeRoutes(absorbRoutes)
	p, gateway := dev(t, "--routes", s.routes)
	s.writeRoutes(absorbRoutes + "  - {name: new, match: {path: /new}, topic: new, answer: {status: 201}}\n")
	if n := p.waitFor(`^routes changed: (\d+) routes$`); n != "4" {
		t.Errorf("%s routes, want 4", n)
	}
	client := newClient(false)
	s.eventually("the new route is active", func() bool {
		r := request{path: "/new", kind: kindJSON, body: []byte("fresh")}
		return r.send(t.Context(), client, gateway).status == http.StatusCreated
	})
	if line := p.waitFor(`.*  new  new/.*`); !strings.Contains(line, "fresh") {
		t.Errorf("the record's line is %q", line)
	}
	p.stop()
}

// TestDevTail copies the line that reads what has landed.
func TestDevTail(t *testing.T) {
	t.Parallel()
	p, gateway := dev(t, "--quiet")
	r := request{path: "/leads?from=test", kind: kindJSON, body: []byte("{}")}
	if a := r.send(t.Context(), newClient(false), gateway); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	line := p.waitFor(`^  (\S+ tail leads .*)$`)
	if !strings.HasPrefix(line, absolute(t, crowdBinary)) {
		t.Errorf("proposes %q", line)
	}
	tail := start(t, exec.Command("/bin/sh", "-c", "exec "+line+" --count 1"))
	tail.waitFor(`.*\?from=test.*`)
	p.stop()
}

// TestDevWithoutReader closes the standard output, as `| head` does: that ends it in order, and what has been answered
// is in Kafka.
func TestDevWithoutReader(t *testing.T) {
	t.Parallel()
	const connections, largest = 4, 1_000
	broker := kafka.Borrow(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := devCommand(ctx, t, "--kafka", broker.Addr())
	cmd.SysProcAttr = child.DieWithParent()
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	reader, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gateway := ""
	for lines := bufio.NewScanner(reader); lines.Scan() && lines.Text() != "ready"; {
		if m := regexp.MustCompile(`crowd listens on (http://\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			gateway = m[1]
		}
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	answers := loadUntilRefused(ctx, gateway, "/leads", connections, largest)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v, want exit status 1", err)
	}
	if !strings.Contains(complaint.String(), "broken pipe") {
		t.Errorf("says %q", &complaint)
	}
	if o := verify(t, broker, "leads", "/leads", answers, largest); o.answered == 0 {
		t.Error("no request was answered")
	}
}

// loadUntilRefused sends requests over some connections until none is taken any more, or ctx ends.
func loadUntilRefused(ctx context.Context, base, path string, connections, largest int) []answer {
	perConnection := make([][]answer, connections)
	var all sync.WaitGroup
	for c := range connections {
		client := newClient(c%2 == 1)
		all.Go(func() {
			defer client.CloseIdleConnections()
			for id := c; ; id += connections {
				r := makeRequest(path, id, largest)
				a := r.send(ctx, client, base)
				perConnection[c] = append(perConnection[c], a)
				if a.err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	var answers []answer
	for c, own := range perConnection {
		for i, a := range own {
			id := c + i*connections
			answers = append(answers, make([]answer, max(0, id+1-len(answers)))...)
			answers[id] = a
		}
	}
	return answers
}

// TestDevInterrupted ends it while Envoy starts: at once, and without a complaint.
func TestDevInterrupted(t *testing.T) {
	t.Parallel()
	p := start(t, devCommand(t.Context(), t))
	var started []int
	for end := time.Now().Add(patience); len(started) == 0; started = children(t, p.cmd.Process.Pid) {
		if time.Now().After(end) {
			t.Fatal("no process was started: where is Envoy?")
		}
	}
	interrupted := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 0 || p.out.String() != "" {
		t.Errorf("exit status %d, %s", code, p.out)
	}
	if took := time.Since(interrupted); took > patience/6 {
		t.Errorf("takes %v", took)
	}
}

// TestDevWithoutEnvoy kills its Envoy, which is one reason to end and not two.
func TestDevWithoutEnvoy(t *testing.T) {
	t.Parallel()
	p, _ := dev(t)
	for _, pid := range children(t, p.cmd.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.exit(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	if says := p.out.String(); !strings.Contains(says, "envoy ended (signal: killed)") || strings.Contains(says, "stop envoy") {
		t.Errorf("says %q, want no more than that Envoy was killed", says)
	}
}

// TestDevSaysWhatToDo checks what can go wrong before anything runs.
func TestDevSaysWhatToDo(t *testing.T) {
	t.Parallel()
	config := "XDG_CONFIG_HOME=" + t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("routes:\n  - name: leads\n    match: {pth: /leads}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		want []string
	}{
		"port in use": {
			args: []string{"--listen", taken.Addr().String()},
			want: []string{taken.Addr().String(), "in use", "--listen"},
		},
		"broken routes":   {args: []string{"--routes", bad}, want: []string{bad + ":3:13", "pth", "topic"}},
		"no routes":       {args: []string{"--routes", "/nowhere.yaml"}, want: []string{"--routes", "/nowhere.yaml", "no such file"}},
		"not a filter":    {args: []string{"--filter", bad}, want: []string{"--filter", bad, "make build"}},
		"no such host":    {args: []string{"--listen", "256.0.0.1:80"}, want: []string{"--listen 256.0.0.1:80", "no such host"}},
		"no such Envoy":   {args: []string{"--envoy", "/nowhere/envoy"}, want: []string{"/nowhere/envoy"}},
		"no such flag":    {args: []string{"--lisen", "x"}, want: []string{"lisen", "usage: crowd dev"}},
		"no Python":       {env: []string{"PATH=", "XDG_CACHE_HOME=" + t.TempDir()}, want: []string{"python3", "install"}},
		"nothing to eat":  {args: []string{"leads"}, want: []string{`want flags alone, not "leads"`, "usage: crowd dev"}},
		"Kafka is not up": {args: []string{"--kafka", "127.0.0.1:1"}, want: []string{"no Kafka at [127.0.0.1:1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"dev"}, c.args...)
			if c.args == nil || c.args[0] != "--listen" {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			cmd := exec.Command(absolute(t, crowdBinary), args...)
			cmd.Env = append(append(os.Environ(), config), c.env...)
			p := start(t, cmd)
			if code := p.exit(); code == 0 {
				t.Error("exit status 0")
			}
			for _, part := range c.want {
				if !strings.Contains(p.out.String(), part) {
					t.Errorf("says %q, want %q in it", p.out, part)
				}
			}
			if strings.Contains(p.out.String(), "goroutine ") {
				t.Error("panics")
			}
		})
	}
}

// TestTail reads a topic as people and programs do.
func TestTail(t *testing.T) {
	t.Parallel()
	s := newStack(t, absorbRoutes, 1)
	client := newClient(true)
	sent := []request{
		{id: 1, path: "/orders/1", kind: kindBinary, body: []byte{0, 0xff, 'x'}},
		{id: 2, path: "/orders/2", kind: kindJSON, body: []byte("text \x1b[31m ünï")},
		{id: 3, path: "/orders/3", kind: kindEmpty},
	}
	for _, r := range sent {
		if a := r.send(t.Context(), client, s.gateway); a.err != nil || a.status != http.StatusAccepted {
			t.Fatalf("%+v", a)
		}
	}
	s.drained(len(sent))

	p := crowd(t, "tail", "orders", "--kafka", s.kafka.Addr(), "--from-start", "--json", "--count", "3")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit status %d: %s", code, p.out)
	}
	type header struct{ Name, Value string }
	seen := map[string]bool{}
	for line := range strings.Lines(p.out.String()) {
		var r struct {
			Topic       string
			Partition   *int
			Offset      *int
			Key         *string
			Headers     []header
			Value       *string
			ValueBase64 []byte `json:"value_base64"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.Topic != "orders" || r.Partition == nil || r.Offset == nil || r.Key != nil {
			t.Errorf("%q", line)
		}
		body := r.ValueBase64
		if r.Value != nil {
			body = []byte(*r.Value)
		}
		for _, h := range r.Headers {
			if h.Name == ":path" {
				seen[h.Value+" "+string(body)] = true
			}
		}
	}
	for _, r := range sent {
		if !seen[r.path+" "+string(r.body)] {
			t.Errorf("%s is missing in %v", r.path, seen)
		}
	}

	p = crowd(t, "tail", "orders", "--kafka", s.kafka.Addr(), "--from-start", "--count", "3")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit status %d: %s", code, p.out)
	}
	if strings.Contains(p.out.String(), "\x1b") || !strings.Contains(p.out.String(), "ünï") {
		t.Errorf("for people: %q", p.out)
	}
	if n := len(regexp.MustCompile(`(?m)orders/\d+/\d+`).FindAllString(p.out.String(), -1)); n < 3 {
		t.Errorf("topic/partition/offset in %d lines of %q, want 3", n, p.out)
	}

	p = crowd(t, "tail", "nothing", "--kafka", s.kafka.Addr())
	if code := p.exit(); code == 0 || !strings.Contains(p.out.String(), "nothing") {
		t.Errorf("a topic that does not exist: exit status %d, %q", code, p.out)
	}
	p = crowd(t, "tail", "leads")
	if code := p.exit(); code == 0 || !strings.Contains(p.out.String(), "--kafka") {
		t.Errorf("no Kafka given: exit status %d, %q", code, p.out)
	}
}
