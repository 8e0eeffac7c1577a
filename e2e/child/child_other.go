//go:build !linux

// Package child ties processes that tests start to the test.
package child

import "syscall"

// DieWithParent does nothing: only Linux can tie a child's life to its parent's.
func DieWithParent() *syscall.SysProcAttr { return nil }
