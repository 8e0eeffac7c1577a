// Package child ties processes that tests start to the test.
package child

import "syscall"

// DieWithParent has the kernel kill a child when the test process ends, however it ends.
func DieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
