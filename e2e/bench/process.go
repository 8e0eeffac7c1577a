package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/marceloboeira/crowd/e2e/child"
)

// patience is how long anything may take that should take no time.
const patience = 30 * time.Second

// startProcess starts a program as a part of the system and returns the submatches of the line of its output that fits
// ready.
func (s *system) startProcess(ctx context.Context, name string, ready *regexp.Regexp, program string, args ...string) ([]string, error) {
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = child.DieWithParent()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	found, output := make(chan []string, 1), make(chan []string, 1)
	go func() {
		defer read.Close()
		var last []string
		for lines := bufio.NewScanner(read); lines.Scan(); {
			if m := ready.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1:]:
				default:
				}
			}
			last = append(last[max(0, len(last)-20):], lines.Text())
		}
		output <- last
	}()
	s.onStop(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		last := <-output
		err := cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || ok && status.Signal() == syscall.SIGTERM {
			return nil
		}
		return fmt.Errorf("%s ended: %w\n%s", name, err, strings.Join(last, "\n"))
	})
	s.processes[name] = cmd.Process.Pid
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it takes too long"))
	defer cancel()
	select {
	case m := <-found:
		return m, nil
	case last := <-output:
		output <- last
		return nil, fmt.Errorf("starting %s: it ended", name)
	case <-ctx.Done():
		return nil, fmt.Errorf("starting %s: %w", name, context.Cause(ctx))
	}
}
