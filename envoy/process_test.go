package envoy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marceloboeira/crowd/envoy"
	"github.com/marceloboeira/crowd/envoy/envoytest"
)

func start(t *testing.T, cfg envoy.ProcessConfig) *envoy.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := envoy.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = p.Stop(ctx) // an error where the test has stopped it
	})
	return p
}

// untilRefused waits until nothing listens at address any more.
func untilRefused(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return
		}
		conn.Close()
	}
	t.Fatalf("%s still takes connections", address)
}

// Stop takes no new connection and lets the request under way end.
func TestStopDrains(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		fmt.Fprint(w, "done")
	}))
	defer backend.Close()
	to := backend.Listener.Addr().(*net.TCPAddr)
	p := start(t, envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: []byte(proxyTo("127.0.0.1", to.Port)), Concurrency: 1})
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	address, err := p.ListenerAddr(t.Context(), "proxy")
	if err != nil {
		t.Fatal(err)
	}

	answered := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + address)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(t.Context()) }()
	untilRefused(t, address)
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request under way (%v)", err)
	default:
	}
	close(release)
	if got := <-answered; got != "done" {
		t.Errorf("the request under way ended with %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := p.Err(); err == nil {
		t.Error("no Err after the end")
	}
}

// A drain that lasts too long is cut short.
func TestStopInTime(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	defer backend.Close()
	defer close(release)
	to := backend.Listener.Addr().(*net.TCPAddr)
	p := start(t, envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: []byte(proxyTo("127.0.0.1", to.Port)), Concurrency: 1})
	address, err := p.ListenerAddr(t.Context(), "proxy")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if response, err := http.Get("http://" + address); err == nil {
			response.Body.Close()
		}
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "last requests and records") {
		t.Errorf("Stop: %v", err)
	}
	<-p.Exited()
}

// stopped fails the test where Stop takes as long as draining a busy Envoy would, or longer.
func stopped(t *testing.T, p *envoy.Process) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Stop(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("Stop does not return")
		return nil
	}
}

// An Envoy that was never ready is not drained, which its admin interface could not answer for.
func TestStopBeforeReady(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(busyEnvoy, "1")
	p := start(t, envoy.ProcessConfig{Path: self, Bootstrap: []byte("{}")})
	if err := stopped(t, p); err != nil {
		t.Error(err)
	}
	<-p.Exited()
}

// script writes an Envoy that is a shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// An Envoy in a script that starts it as a child ends with the script.
func TestStopScript(t *testing.T) {
	path := script(t, envoytest.Path(t)+` "$@"`+"\nexit $?")
	p := start(t, envoy.ProcessConfig{Path: path, Bootstrap: []byte(proxyTo("127.0.0.1", 1)), Concurrency: 1})
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stopped(t, p); err != nil {
		t.Error(err)
	}
	untilRefused(t, p.Admin())
}

// A script is killed with its children, those that hold its output too.
func TestStartScriptInTime(t *testing.T) {
	path := script(t, "/bin/sleep 1000\nexit 1")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := envoy.Start(ctx, envoy.ProcessConfig{Path: path, Bootstrap: []byte("{}")})
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "admin interface: context deadline exceeded") {
			t.Errorf("Start: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Start does not return")
	}
}

// An Envoy does not outlive the process that started it, however that ends.
func TestEndsWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentOfEnvoy+"="+envoytest.Path(t))
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // says that it was killed
	untilRefused(t, strings.TrimSpace(string(line[:n])))
}

// An Envoy that ends while it starts is quoted.
func TestStartFails(t *testing.T) {
	_, err := envoy.Start(t.Context(), envoy.ProcessConfig{Path: envoytest.Path(t), Bootstrap: []byte(`{"surprise": 1}`)})
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "surprise") {
		t.Errorf("Start: %v", err)
	}
}

// An Envoy that never answers is killed when ctx ends.
func TestStartInTime(t *testing.T) {
	silent := script(t, "exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := envoy.Start(ctx, envoy.ProcessConfig{Path: silent, Bootstrap: []byte("{}")})
	if err == nil || !strings.Contains(err.Error(), "admin interface: context deadline exceeded") {
		t.Errorf("Start: %v", err)
	}
}

func TestProcessConfigValidate(t *testing.T) {
	err := envoy.ProcessConfig{Concurrency: -1}.Validate()
	want := "path: an Envoy is required\nbootstrap: required\nconcurrency: -1 is negative"
	if err == nil || err.Error() != want {
		t.Errorf("Validate: %v, want %s", err, want)
	}
}
