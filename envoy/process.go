package envoy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// pollInterval is how often Envoy is asked for what it announces in no other way.
const pollInterval = 20 * time.Millisecond

const (
	// exitTime is how long Envoy may take to end once it is told to, before it is killed.
	exitTime = 5 * time.Second
	// outputTime is how long what Envoy has started may outlive it, before it is killed too.
	outputTime = time.Second
	// probeTime is how long an Envoy that nobody has seen ready may take to say that it is, before it is ended.
	probeTime = 500 * time.Millisecond
)

// ProcessConfig says what to run.
type ProcessConfig struct {
	// Path is Envoy's binary, as Find returns it. Required.
	Path string
	// Bootstrap is Envoy's configuration, as JSON. Required.
	Bootstrap []byte
	// Concurrency is the number of workers; default one for each CPU.
	Concurrency int
	// LogLevel is one of Envoy's; default warning.
	LogLevel string
	// Log takes what Envoy writes, line by line or in larger pieces; default nothing.
	Log io.Writer
}

// Validate returns everything that is wrong with c.
func (c ProcessConfig) Validate() error {
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("path: an Envoy is required"))
	}
	if len(c.Bootstrap) == 0 {
		errs = append(errs, errors.New("bootstrap: required"))
	}
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("concurrency: %d is negative", c.Concurrency))
	}
	return errors.Join(errs...)
}

// Process is an Envoy that runs as a child of this process, and ends with it (on Linux; where Path is a script, the
// script does). Its methods are safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	admin string
	log   *tail
	ready atomic.Bool // it has been seen ready

	exited chan struct{} // closed when the process has ended
}

// Start runs an Envoy and waits until its admin interface answers. ctx bounds the wait, and not the life of the
// process, which Stop ends.
func Start(ctx context.Context, cfg ProcessConfig) (*Process, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	// Envoy reads and writes here only while it starts.
	dir, err := os.MkdirTemp("", "crowd-envoy-*")
	if err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	defer os.RemoveAll(dir)
	bootstrap, adminAddress := filepath.Join(dir, "bootstrap.json"), filepath.Join(dir, "admin")
	if err := os.WriteFile(bootstrap, cfg.Bootstrap, 0o600); err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}

	args := []string{
		"--config-path", bootstrap,
		"--admin-address-path", adminAddress,
		"--log-level", cmp.Or(cfg.LogLevel, "warning"),
		// Hot restart needs shared memory with an id that no other Envoy of this machine has.
		"--disable-hot-restart",
	}
	if cfg.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(cfg.Concurrency))
	}
	p := &Process{
		cmd:    exec.Command(cfg.Path, args...),
		log:    &tail{to: cfg.Log},
		exited: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = childAttributes()
	p.cmd.WaitDelay = outputTime
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("start envoy: %w", err)
	}
	if err := p.awaitAdmin(ctx, adminAddress); err != nil {
		return nil, fmt.Errorf("start envoy: %w", errors.Join(err, p.Kill()))
	}
	return p, nil
}

// run starts the process and sees to its end. Linux ends a child when the thread that started it does, so that
// thread is kept for as long as the child lives.
func (p *Process) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = p.cmd.Wait() // says what cmd.ProcessState does
		// Where nothing is left of the group, its number is nobody's: the system does not give it away again so soon.
		_ = signalGroup(p.cmd.Process, syscall.SIGKILL)
		close(p.exited)
	}()
	return <-started
}

func (p *Process) awaitAdmin(ctx context.Context, file string) error {
	return p.poll(ctx, "admin interface", func() (bool, error) {
		address, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		p.admin = string(address)
		// The file is there before it is written: the address may be missing, or a part of itself.
		_, err = p.ask(ctx, http.MethodGet, "/server_info")
		return err == nil, err
	})
}

// poll asks until done, and fails when ctx ends or Envoy does. An error of done means: not yet.
func (p *Process) poll(ctx context.Context, what string, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.exited:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for envoy's %s: %w%s", what, errors.Join(ctx.Err(), err), p.log.quoted())
		}
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended, for whatever reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err says how the process ended, and what it last logged; nil before Exited is closed.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return fmt.Errorf("envoy ended (%v)%s", p.cmd.ProcessState, p.log.quoted())
	default:
		return nil
	}
}

// Stop lets the requests under way end and a collector have what the filter holds (see drain), for as long as ctx
// lasts, then ends the process and all that it has started. One that was never ready has nothing to drain and is ended at
// once. The process has ended in any case; an error says that it was cut short, or that it had ended before.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Err(); err != nil {
		return fmt.Errorf("stop envoy: %w", err)
	}
	if !p.wasReady(ctx) {
		return p.Kill()
	}
	err := p.drain(ctx)
	_ = signalGroup(p.cmd.Process, syscall.SIGTERM) // fails only when it has ended
	select {
	case <-p.exited:
	case <-time.After(exitTime):
		err = errors.Join(err, fmt.Errorf("still there %v after SIGTERM", exitTime), p.Kill())
	}
	if err != nil {
		return fmt.Errorf("stop envoy: %w", err)
	}
	return nil
}

// wasReady reports whether a request may have come to this Envoy. One that has not been seen ready is asked once more,
// briefly: while it compiles the filter it answers nothing.
func (p *Process) wasReady(ctx context.Context) bool {
	if p.ready.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err := p.ask(ctx, http.MethodGet, "/ready")
	return err == nil
}

// Kill ends the process, and all that it has started, at once. What the filter holds is gone.
func (p *Process) Kill() error {
	_ = signalGroup(p.cmd.Process, syscall.SIGKILL) // fails only when it has ended
	select {
	case <-p.exited:
		return nil
	case <-time.After(exitTime):
		return fmt.Errorf("envoy, process %d, is still there %v after SIGKILL", p.cmd.Process.Pid, exitTime)
	}
}
