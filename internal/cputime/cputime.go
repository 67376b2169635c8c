// Package cputime tells tests what work cost, whatever else the machine does.
package cputime

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Used returns what the process has used of the processors so far: unlike time, others can't use it.
func Used(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
