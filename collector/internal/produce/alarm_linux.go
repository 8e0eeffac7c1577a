package produce

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes the process in time for timers of less than a millisecond. One that has nothing to do waits for its next timer
// in epoll_wait, which Go never tells to wait for less than a millisecond (netpoll in runtime/netpoll_epoll.go); a timer of the kernel
// among what it waits for ends that, and the timers that are due are run. Its methods are safe for concurrent use.
type alarm struct {
	in    time.Duration
	fd    int
	timer *os.File // fd
	asked atomic.Int64
	ended chan struct{}
}

// newAlarm returns an alarm that goes off that long after it is set. The caller must close it.
func newAlarm(in time.Duration) (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	a := &alarm{in: in, fd: fd, timer: os.NewFile(uintptr(fd), "timerfd"), ended: make(chan struct{})}
	go a.run()
	return a, nil
}

// set has the process awake once between one and two times a.in from now, however often it is set meanwhile. It must not be
// called once the alarm is closed.
func (a *alarm) set() {
	if a == nil || a.asked.Add(1) > 1 {
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(a.in))}
	_ = unix.TimerfdSettime(a.fd, 0, &spec, nil) // fails for arguments only
}

func (a *alarm) run() {
	defer close(a.ended)
	var expirations [8]byte
	for {
		if _, err := a.timer.Read(expirations[:]); err != nil {
			return // closed
		}
		if a.asked.Swap(0) > 1 { // by somebody for whom this was too soon
			a.set()
		}
	}
}

func (a *alarm) close() {
	if a != nil {
		_ = a.timer.Close()
		<-a.ended
	}
}
