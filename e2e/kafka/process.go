package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/marceloboeira/crowd/e2e/child"
)

// What Kafka logs when it takes requests, and when one of its ports is somebody else's.
const (
	readyLine     = "Kafka Server started"
	portTakenLine = "Address already in use"
)

// tailLines is how much of the log an error quotes.
const tailLines = 30

// errPortTaken marks a start that failed because another process was quicker to listen on one of the ports.
var errPortTaken = errors.New("port taken")

// process is one run of the broker's program.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when the broker takes requests
	done  chan struct{} // closed when the program has ended

	// Written before done is closed, read after it.
	portTaken bool
	tail      []string
}

// running says whether p has been started and has not ended.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// command is a Java program of Kafka's. It dies with the test process.
func (b *Broker) command(ctx context.Context, class string, args ...string) *exec.Cmd {
	options := []string{
		"-Xmx512m", "-XX:+UseSerialGC",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", filepath.Join(b.jars, "*"),
	}
	if b.brief {
		options = append(options, "-XX:TieredStopAtLevel=1") // HotSpot's C1 compiler alone
	}
	cmd := exec.CommandContext(ctx, b.java, slices.Concat(options, []string{class}, args)...)
	cmd.SysProcAttr = child.DieWithParent()
	return cmd
}

// run starts the broker on what create laid out and returns when it takes requests.
func (b *Broker) run() error {
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	// Not under the test's context: that one ends before the cleanups, which may still want the broker.
	cmd := b.command(context.Background(), "kafka.Kafka", b.configFile())
	output, err := cmd.StderrPipe()
	if err != nil {
		log.Close()
		return fmt.Errorf("connecting to the broker's output: %w", err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		log.Close()
		return fmt.Errorf("starting java: %w", err)
	}
	p := &process{cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
	b.proc = p
	go p.follow(output, log)

	select {
	case <-p.ready:
		return nil
	case <-p.done:
	case <-time.After(startTimeout):
		err = errors.Join(fmt.Errorf("not ready after %v", startTimeout), cmd.Process.Kill())
		<-p.done
	}
	if p.portTaken {
		return fmt.Errorf("%s: %w", b.addr, errPortTaken)
	}
	if err == nil {
		err = fmt.Errorf("the broker ended: %v", cmd.ProcessState)
	}
	return fmt.Errorf("%w\n%s", err, strings.Join(p.tail, ""))
}

// follow copies the program's output to the log, line by line until its end, and notes what run waits for.
func (p *process) follow(output io.Reader, log io.WriteCloser) {
	defer close(p.done)
	defer log.Close()
	ready := false
	for lines := bufio.NewReader(io.TeeReader(output, log)); ; {
		line, err := lines.ReadString('\n')
		if p.tail = append(p.tail, line); len(p.tail) > tailLines {
			p.tail = p.tail[1:]
		}
		p.portTaken = p.portTaken || strings.Contains(line, portTakenLine)
		if !ready && strings.Contains(line, readyLine) {
			ready = true
			close(p.ready)
		}
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
}
