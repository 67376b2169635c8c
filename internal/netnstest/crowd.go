package netnstest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Crowd is many namespaces without names, each as cheap as it gets, for tests with hundreds of ports. They have no IPv6: the
// greetings by multicast of each to all would be most of what such a test measures.
type Crowd struct {
	lab *Lab

	mu  sync.Mutex
	fds []int // guarded by mu
}

// Crowd makes n namespaces.
func (l *Lab) Crowd(n int) *Crowd {
	l.t.Helper()
	c := &Crowd{lab: l, fds: make([]int, n)}
	for i := range c.fds {
		fd, err := newNamespace()
		if err != nil {
			l.t.Fatalf("make a namespace: %v", err)
		}
		c.fds[i] = fd
	}
	l.crowds = append(l.crowds, c)
	return c
}

func newNamespace() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		for _, s := range []string{"all", "default"} {
			if err = os.WriteFile("/proc/sys/net/ipv6/conf/"+s+"/disable_ipv6", []byte("1"), 0); err != nil {
				return
			}
		}
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}()
	<-done
	return fd, err
}

// Len returns how many there are.
func (c *Crowd) Len() int { return len(c.fds) }

// Path returns where namespace i is to be found.
func (c *Crowd) Path(i int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.FD(i)) }

// FD returns the file descriptor of namespace i; it stays the crowd's.
func (c *Crowd) FD(i int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fds[i]
}

// Replace lets namespace i die and makes a new one in its place.
func (c *Crowd) Replace(i int) error {
	fd, err := newNamespace()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.fds[i]
	c.fds[i] = fd
	return unix.Close(old)
}

// Interfaces counts the interfaces in all of them, but for lo.
func (c *Crowd) Interfaces() (n int) {
	c.lab.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		for i := range c.fds {
			err := unix.Setns(c.FD(i), unix.CLONE_NEWNET)
			var list []net.Interface
			if err == nil {
				list, err = net.Interfaces()
			}
			if err != nil {
				done <- err
				return
			}
			n += len(list) - 1
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		c.lab.t.Errorf("list interfaces: %v", err)
	}
	return n
}

// close reports interfaces that a daemon should have taken away, and lets the namespaces die.
func (c *Crowd) close() {
	if n := c.Interfaces(); n != 0 {
		c.lab.t.Errorf("%d interfaces are left in %d namespaces", n, c.Len())
	}
	for i := range c.fds {
		_ = unix.Close(c.FD(i))
	}
}
