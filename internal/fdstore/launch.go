package fdstore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	launchTimeout = 5 * time.Second       // for how long starts that fail are repeated
	answerTimeout = 30 * time.Second      // for how long one that does not fail is waited for: the machine may be very busy
	launchEvery   = 50 * time.Millisecond // least time between two starts
	launchPoll    = time.Millisecond
)

// launch starts a keeper and connects to it. A keeper that is just ending may still hold the lock, so a start that
// fails is repeated until launchTimeout; one that runs is waited for until answerTimeout.
func (c *client) launch() (*net.UnixConn, error) {
	if err := os.MkdirAll(filepath.Dir(c.socket), 0o755); err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	var exited chan error // of the running child
	var last error        // how the one before ended
	var started time.Time
	begin := time.Now()
	for time.Since(begin) < launchTimeout || exited != nil && time.Since(begin) < answerTimeout {
		if exited == nil && time.Since(started) >= launchEvery {
			var err error
			if exited, err = spawn(c.exe, c.socket); err != nil {
				return nil, fmt.Errorf("start keeper: %w", err)
			}
			started = time.Now()
		}
		select {
		case <-c.done:
			return nil, ErrClosed
		case last = <-exited:
			exited = nil
		case <-time.After(launchPoll):
		}
		conn, err := c.dial()
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
	}
	if last == nil {
		last = errors.New("still starting")
	}
	return nil, fmt.Errorf("start keeper: no answer on %s within %v: %w", c.socket, time.Since(begin).Round(time.Second), last)
}

// spawn starts a keeper that outlives this process: it has its own session and none of our fds, environment or
// directory, but for a file in memory that takes its last words. One goroutine waits for its end, which comes over the returned channel, so that no zombie stays; that
// goroutine lives as long as the keeper, even beyond Close.
func spawn(exe, socket string) (chan error, error) {
	// What was passed to this process without close-on-exec (a shell's pipe, systemd's sockets) would be kept open, too.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(exe, "keeper", "--socket", socket)
	cmd.Args[0] = "vswitchd"
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=20"} // it is idle for days: small rather than fast
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := unix.MemfdCreate("keeper", unix.MFD_CLOEXEC) // a pipe would need a reader
	if err != nil {
		return nil, err
	}
	stderr := os.NewFile(uintptr(said), "keeper")
	cmd.Stderr = stderr
	started, exited := make(chan error), make(chan error, 1)
	// A new goroutine, since the caller's thread may be in a container's namespace, which the keeper would pin.
	go func() {
		defer stderr.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
			if err == nil {
				err = errors.New("it ended at once")
			}
			why := make([]byte, 500)
			n, _ := stderr.ReadAt(why, 0)
			exited <- fmt.Errorf("%w: %s", err, bytes.TrimSpace(why[:n]))
		}
	}()
	return exited, <-started
}
