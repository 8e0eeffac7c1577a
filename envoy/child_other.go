//go:build unix && !linux

package envoy

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the child: it is for this process to answer in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
