package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/e2e/child"
)

// What `make build` made, seen from this directory.
const (
	crowdBinary = "../bin/crowd"
	crowdModule = "../bin/crowd.wasm"
)

// patience is how long anything may take that should take no time, on a machine that is busy with other things.
const patience = 60 * time.Second

// absolute returns a built file's path and fails the test where there is none.
func absolute(t testing.TB, file string) string {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// process is one run of bin/crowd. It ends with the test; its output is shown if the test fails.
type process struct {
	t    testing.TB
	args []string
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when the program has ended and its output is whole
}

// output collects a program's lines and lets tests wait for one.
type output struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced at every line
	ended bool
}

func (o *output) add(line string, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if line != "" {
		o.lines = append(o.lines, line)
	}
	o.ended = o.ended || ended
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// wait returns the first submatch (or else the match) in the first line that fits, from line `from` on, and the
// number of the line after it.
func (o *output) wait(ctx context.Context, pattern *regexp.Regexp, from int) (string, int, error) {
	for {
		o.mu.Lock()
		more, ended := o.more, o.ended
		for ; from < len(o.lines); from++ {
			if m := pattern.FindStringSubmatch(o.lines[from]); m != nil {
				o.mu.Unlock()
				return m[len(m)-1], from + 1, nil
			}
		}
		o.mu.Unlock()
		if ended {
			return "", from, errors.New("the program has ended")
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", from, ctx.Err()
		}
	}
}

// crowd starts bin/crowd.
func crowd(t testing.TB, args ...string) *process {
	t.Helper()
	return start(t, exec.Command(absolute(t, crowdBinary), args...))
}

func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, args: cmd.Args[1:], cmd: cmd, done: make(chan struct{}), out: &output{more: make(chan struct{})}}
	cmd.SysProcAttr = child.DieWithParent()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatalf("crowd %v: %v", p.args, err)
	}
	_ = write.Close()
	go func() {
		defer close(p.done)
		p.follow(read)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("crowd %s:\n%s", strings.Join(p.args, " "), p.out)
		}
	})
	return p
}

func (p *process) follow(read io.ReadCloser) {
	defer func() { _ = read.Close() }()
	for lines := bufio.NewReader(read); ; {
		line, err := lines.ReadString('\n')
		p.out.add(strings.TrimSuffix(line, "\n"), err != nil)
		if err != nil {
			return
		}
	}
}

// waitFor returns what a pattern finds in the output, which must come.
func (p *process) waitFor(pattern string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	found, _, err := p.out.wait(ctx, regexp.MustCompile(pattern), 0)
	if err != nil {
		p.t.Fatalf("crowd %s: waiting for %q: %v", strings.Join(p.args, " "), pattern, err)
	}
	return found
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop is SIGTERM, and must succeed.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.succeed()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("crowd %s: %v: %v", strings.Join(p.args, " "), s, err)
	}
}

// succeed waits for the program's end, which must be a success.
func (p *process) succeed() {
	p.t.Helper()
	if code := p.exit(); code != 0 {
		p.t.Fatalf("crowd %s: exit status %d", strings.Join(p.args, " "), code)
	}
}

// ended says whether the program has.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exit waits for the program's end and returns its status.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("crowd %s: still running after %v", strings.Join(p.args, " "), patience)
	}
	return p.cmd.ProcessState.ExitCode()
}
