package envoy

import (
	"os"
	"syscall"
)

// signalGroup sends a signal to a child that leads a process group (see childAttributes), and to what it has started:
// an Envoy may be a shell script, and a child of that is what runs.
func signalGroup(child *os.Process, signal syscall.Signal) error {
	return syscall.Kill(-child.Pid, signal)
}
