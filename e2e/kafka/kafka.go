// Package kafka runs a real Apache Kafka for tests: one node in KRaft mode on loopback ports, started in a few
// seconds, that can be stopped, killed, frozen and started again on the same data.
//
// It needs Java 17 or later and, until the jars are in the user's cache directory, Maven. Without them a test
// fails where CI=true and is skipped, by name, elsewhere.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// portAttempts is how many pairs of ports Start tries.
	portAttempts = 5
	// startTimeout is for one start, on a machine that is busy with other things.
	startTimeout = 90 * time.Second
	// stopTimeout is for an orderly stop.
	stopTimeout = 30 * time.Second
)

// Config is what a test may say about its broker.
type Config struct {
	// Dir takes the configuration, the data and the log; it must exist and be empty, and stays as it is at
	// the end. Default: a directory of the broker's own, kept only if the test fails.
	Dir string
	// Properties go into server.properties over the broker's own, for example "message.max.bytes". Listeners
	// and directories are not theirs to change.
	Properties map[string]string
	// Brief has Java compile Kafka quickly rather than well, for a broker that lives for seconds. It starts with less than
	// two thirds of the CPU, and takes more of it for each record later: nothing that measures Kafka should say so.
	Brief bool
}

// Test is what a broker needs of a testing.TB. A program that is no test has one of its own.
type Test interface {
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Failed() bool
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Helper()
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Broker is a running, stopped or frozen Kafka. A call that fails ends the test, so all methods but ReadAll and
// Records belong to the test's own goroutine.
type Broker struct {
	t     Test
	java  string
	jars  string
	dir   string
	brief bool
	addr  string
	proc  *process
}

// Start starts a broker and returns when it takes requests. It ends with the test.
func Start(t Test, c Config) *Broker {
	t.Helper()
	dir := c.Dir
	if dir == "" {
		dir = temporary(t)
	}
	b := launch(t, dir, c)
	t.Cleanup(b.end)
	return b
}

// launch starts a broker that somebody must end.
func launch(t Test, dir string, c Config) *Broker {
	t.Helper()
	java, err := exec.LookPath("java")
	if err != nil {
		missing(t, fmt.Errorf("java, which Kafka runs on: %w", errMissing))
	}
	jars, err := jars(t.Context())
	if errors.Is(err, errMissing) {
		missing(t, err)
	}
	if err != nil {
		t.Fatalf("kafka: %v", err)
	}
	b := &Broker{t: t, java: java, jars: jars, dir: dir, brief: c.Brief}
	for attempt := 1; ; attempt++ {
		err := b.create(t.Context(), c.Properties)
		if errors.Is(err, errPortTaken) && attempt < portAttempts {
			continue
		}
		if err != nil {
			t.Fatalf("kafka: starting: %v", err)
		}
		return b
	}
}

// end ends the broker if it has not ended.
func (b *Broker) end() {
	if b.proc.running() {
		b.Kill()
	}
}

// Addr is the broker's host:port, the same for all its life.
func (b *Broker) Addr() string { return b.addr }

// PID is the number of the broker's process.
func (b *Broker) PID() int { return b.proc.cmd.Process.Pid }

// Stop ends the broker in an orderly way and waits for its end.
func (b *Broker) Stop() {
	b.t.Helper()
	b.signal(syscall.SIGTERM)
	select {
	case <-b.proc.done:
	case <-time.After(stopTimeout):
		b.t.Fatalf("kafka: still running %v after SIGTERM", stopTimeout)
	}
}

// Kill ends the broker at once, as a crash of its process would, and waits for its end.
func (b *Broker) Kill() {
	b.t.Helper()
	b.signal(syscall.SIGKILL)
	<-b.proc.done
}

// Restart starts the broker again after Stop or Kill, on the same data and port, and returns when it takes
// requests. After Kill that takes a few seconds more: the controller first waits for the session of the broker
// that it remembers to expire.
func (b *Broker) Restart() {
	b.t.Helper()
	if b.proc.running() {
		b.t.Fatal("kafka: Restart of a broker that is running")
	}
	if err := b.run(); err != nil {
		b.t.Fatalf("kafka: starting again: %v", err)
	}
}

// Pause freezes the broker: connections stay, answers do not come.
func (b *Broker) Pause() {
	b.t.Helper()
	b.signal(syscall.SIGSTOP)
}

// Continue ends a Pause.
func (b *Broker) Continue() {
	b.t.Helper()
	b.signal(syscall.SIGCONT)
}

func (b *Broker) signal(s syscall.Signal) {
	b.t.Helper()
	if !b.proc.running() {
		b.t.Fatalf("kafka: sending %v: the broker is not running", s)
	}
	if err := b.proc.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.t.Fatalf("kafka: sending %v: %v", s, err)
	}
}

// missing ends a test that this machine cannot run. On CI that is a failure: a run that tests nothing must not
// look like one that passed.
func missing(t Test, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("kafka: this test needs Java 17 and Maven: %v", err)
	}
	t.Skipf("kafka: this test needs Java 17 and Maven: %v", err)
}

// temporary makes a directory that outlives the test only if the test fails.
func temporary(t Test) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "crowd-kafka-")
	if err != nil {
		t.Fatalf("kafka: making a directory: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kafka: configuration, data and log are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("kafka: removing the broker's directory: %v", err)
		}
	})
	return dir
}
