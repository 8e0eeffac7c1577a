//go:build !wasip1

package abi

// Register does nothing: a native build has no event loop.
func Register(string) error { return nil }

// Wake reports that nobody will be woken.
func Wake() bool { return false }
