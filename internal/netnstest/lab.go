package netnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Patience is how long anything may take that is waited for.
const Patience = 20 * time.Second

// Lab owns the daemons and containers of one test. Its methods, and those of what it makes, fail the test when they can't do
// what they say; they are called by the test's own goroutine.
type Lab struct {
	t          testing.TB
	daemons    []*Daemon
	containers []*Container
	bridges    []*KernelBridge
	crowds     []*Crowd
}

var serial atomic.Int64

// New makes an empty lab that lives as long as the test.
func New(t testing.TB) *Lab {
	t.Helper()
	Root(t)
	if !mainRuns {
		t.Fatal("the package's TestMain has to call netnstest.Main")
	}
	l := &Lab{t: t}
	t.Cleanup(l.close)
	return l
}

// In makes a subtest the one that fails, until it ends. Not for parallel subtests.
func (l *Lab) In(t testing.TB) {
	outer := l.t
	l.t = t
	t.Cleanup(func() { l.t = outer })
}

// Eventually waits until cond holds.
func (l *Lab) Eventually(what string, cond func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(Patience)
	for !cond() {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited %v in vain: %s", Patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// dir makes a new folder with a short path.
func (l *Lab) dir() string {
	l.t.Helper()
	dir := filepath.Join(base, fmt.Sprint(serial.Add(1)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// close ends everything and reports what is left.
func (l *Lab) close() {
	for _, d := range l.daemons {
		d.close()
	}
	for _, b := range l.bridges {
		b.close()
	}
	for _, c := range l.crowds {
		c.close()
	}
	for _, c := range l.containers {
		c.close()
	}
}
