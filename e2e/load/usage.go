package load

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// Usage is what a process uses (proc(5), /proc/pid/stat). Only Linux has it.
type Usage struct {
	// CPU is the time that its threads have run, user and system, in steps of 10 ms.
	CPU time.Duration
	// Resident is its memory, in bytes.
	Resident int
}

// UsageOf reads what a process, one of this machine, uses.
func UsageOf(pid int) (Usage, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("load: reading what process %d uses: %w", pid, err)
	}
	stat, err := process.Stat()
	if err != nil {
		return Usage{}, fmt.Errorf("load: reading what process %d uses: %w", pid, err)
	}
	return Usage{CPU: time.Duration(stat.CPUTime() * float64(time.Second)), Resident: stat.ResidentMemory()}, nil
}
