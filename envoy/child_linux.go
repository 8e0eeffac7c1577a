package envoy

import "syscall"

// childAttributes end the child when the thread that started it does, so with this process however that ends, and
// keep a terminal's Ctrl-C from it, which is for this process to answer in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
