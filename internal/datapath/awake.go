package datapath

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// awake keeps idle cores from halting while frames are answered at once. The wake-up of a halted core is most of what a
// request waits for where halting leaves a virtual machine: some 20 us of 45. The kernel is asked by a latency constraint of
// zero on /dev/cpu_dma_latency (Documentation/power/pm_qos_interface.rst), which makes idle cores poll: they are woken without an
// interrupt. The constraint is the file's, so it ends with us.
//
//	a poll has paid wakefulWins times in a row     cores are kept awake
//	none has for wakefulTime                       they may halt again
type awake struct {
	fd   int // of the device; -1: cores halt as they like
	held bool
	wins int
	last int64 // when a poll paid last, nanoseconds
}

const (
	wakefulWins = 64
	wakefulTime = 10e6 // nanoseconds

	noConstraint = 2_000_000_000 // microseconds; PM_QOS_CPU_LATENCY_DEFAULT_VALUE in include/linux/pm_qos.h
	latencyPath  = "/dev/cpu_dma_latency"
	cpuidlePath  = "/sys/devices/system/cpu/cpuidle/current_driver"
)

// KeepAwakePays tells whether this is a virtual machine in which a halt leaves the guest, so that its kernel can poll first (the driver
// cpuidle-haltpoll, Documentation/virt/guest-halt-polling.rst), and whether we may ask for that.
func KeepAwakePays() bool {
	driver, err := os.ReadFile(cpuidlePath)
	return err == nil && strings.TrimSpace(string(driver)) == "haltpoll" && unix.Access(latencyPath, unix.W_OK) == nil
}

// newAwake opens the device if cores are to be kept awake.
func newAwake(on bool) (awake, error) {
	if !on {
		return awake{fd: -1}, nil
	}
	fd, err := unix.Open(latencyPath, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return awake{fd: -1}, fmt.Errorf("keep cores awake: open %s: %w", latencyPath, err)
	}
	return awake{fd: fd}, nil
}

func (a *awake) close() {
	if a.fd >= 0 {
		unix.Close(a.fd)
	}
}

// won notes that a poll found something.
func (a *awake) won(now int64) {
	a.last = now
	if a.wins++; a.wins >= wakefulWins && !a.held {
		a.set(true)
	}
}

// lost notes that the worker slept long.
func (a *awake) lost() { a.wins = 0 }

// rest lets cores halt again when no poll has paid for a while.
func (a *awake) rest(now int64) {
	if a.held && now-a.last > wakefulTime {
		a.set(false)
	}
}

// set writes the constraint. Should the kernel refuse, cores halt as they like.
func (a *awake) set(held bool) {
	a.held, a.wins = held, 0
	if a.fd < 0 {
		return
	}
	var us [4]byte
	if !held {
		binary.NativeEndian.PutUint32(us[:], noConstraint)
	}
	_, _ = unix.Write(a.fd, us[:])
}
