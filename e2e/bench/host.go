package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// host is the kafka.Test of this program: what fails ends it.
type host struct {
	ctx      context.Context
	cleanups []func()
	failed   bool
}

// fatal is what a failure unwinds with.
type fatal string

func (h *host) Helper()                  {}
func (h *host) Cleanup(f func())         { h.cleanups = append(h.cleanups, f) }
func (h *host) Context() context.Context { return h.ctx }
func (h *host) Failed() bool             { return h.failed }
func (h *host) Fatal(args ...any)        { panic(fatal(fmt.Sprint(args...))) }
func (h *host) Fatalf(format string, args ...any) {
	panic(fatal(fmt.Sprintf(format, args...)))
}
func (h *host) Skipf(format string, args ...any) { h.Fatalf(format, args...) }
func (h *host) Logf(format string, args ...any)  { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (h *host) Errorf(format string, args ...any) {
	h.failed = true
	h.Logf(format, args...)
}

// run calls do and then what has been asked for with Cleanup, the last first.
func (h *host) run(do func() error) (err error) {
	defer func() {
		for i := len(h.cleanups) - 1; i >= 0; i-- {
			h.cleanups[i]()
		}
	}()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(string(p))
		default:
			panic(p)
		}
		h.failed = h.failed || err != nil
	}()
	return do()
}
