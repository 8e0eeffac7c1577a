package quickstart

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a start may take to come to a point, and to end.
const patience = 30 * time.Second

// config is one that gets as far as Envoy, which is a script that opens a FIFO when it runs.
func config(t *testing.T) (c Config, running string) {
	t.Helper()
	dir := t.TempDir()
	running = filepath.Join(dir, "running")
	if err := syscall.Mkfifo(running, 0o600); err != nil {
		t.Fatal(err)
	}
	c = Config{
		Listen: "127.0.0.1:0", Routes: filepath.Join(dir, "routes.yaml"), Filter: filepath.Join(dir, "crowd.wasm"),
		Envoy: filepath.Join(dir, "envoy"), Out: io.Discard, Log: slog.New(slog.DiscardHandler),
	}
	write(t, c.Routes, string(routes))
	write(t, c.Filter, "\x00asm")
	script(t, c.Envoy, "/bin/sleep 1000 >"+running)
	return c, running
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A start that is told to end ends at once, without a word and with nothing left.
func TestRunEndsWhileItStarts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is installed is for Linux")
	}
	installs, installing := config(t)
	installs.Envoy = ""
	bin := t.TempDir()
	script(t, filepath.Join(bin, "python3"), "/bin/sleep 1000 >"+installing)
	starts, starting := config(t)
	for name, c := range map[string]struct {
		config  Config
		running string
		path    string
	}{
		"installing Envoy": {installs, installing, bin},
		"starting Envoy":   {starts, starting, os.Getenv("PATH")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, c.config) }()
			runs := make(chan *os.File, 1)
			go func() {
				if f, err := os.Open(c.running); err == nil {
					runs <- f
				}
			}()
			select {
			case f := <-runs:
				defer f.Close()
				cancel()
				select {
				case err := <-ended:
					if err != nil {
						t.Errorf("Run: %v", err)
					}
				case <-time.After(patience):
					t.Fatal("Run does not end")
				}
				if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("what was started is still there: %v", err)
				}
			case err := <-ended:
				t.Errorf("Run: %v before that", err)
			case <-time.After(patience):
				t.Error("does not come that far")
			}
		})
	}
}

func TestRunSaysWhatToDo(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--concurrency -3: want ":               func(c *Config) { c.Concurrency = -3 },
		"--listen nowhere: ":                    func(c *Config) { c.Listen = "nowhere" },
		"--filter: open /nowhere.wasm: no such": func(c *Config) { c.Filter = "/nowhere.wasm" },
		"--routes: stat /nowhere.yaml: no such": func(c *Config) { c.Routes = "/nowhere.yaml" },
		"no Envoy to run at /nowhere/envoy":     func(c *Config) { c.Envoy = "/nowhere/envoy" },
	} {
		c, _ := config(t)
		change(&c)
		if err := Run(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Run: %v, want %s", err, want)
		}
	}
}
