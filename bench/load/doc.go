// Package load generates and receives the traffic of the benchmark over raw system calls.
//
// A generator runs in a child process inside a container's namespace. Its hot loop holds a thread of its own and makes raw
// system calls, also blocking ones: the Go scheduler then has no part in the latencies. That is only right with the garbage
// collector off, asynchronous preemption off (a signal every 10 ms otherwise) and more Ps than such loops; Setup sees to
// the first and last, and the parent sets GODEBUG=asyncpreemptoff=1.
//
// Nothing here runs for ever: every generator has a deadline, and Setup arms a hard limit after which the process exits.
package load

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Env is what the parent must add to the environment of a generator.
const Env = "GODEBUG=asyncpreemptoff=1"

// Setup prepares the process for a number of hot loops and limits its life.
func Setup(loops int, limit time.Duration) {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(max(runtime.NumCPU(), loops+2)) // two more for the timer below and for the watcher of stdin
	time.AfterFunc(limit, func() {
		fmt.Fprintf(os.Stderr, "generator gave up after its limit of %v\n", limit)
		os.Exit(3)
	})
}

// Hot locks the calling goroutine to its thread, pins the thread to a core unless core is negative, and asks for timers
// that fire on time: the default slack of 50 us is as long as a whole transaction.
func Hot(core int) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	if core < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	return nil
}

// Cores returns the cores that this process may use.
func Cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read the CPU affinity: %w", err)
	}
	var cores []int
	for core := range len(set) * 64 {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores, nil
}
