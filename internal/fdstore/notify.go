package fdstore

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyTimeout bounds the wait for a service manager whose queue is full.
const notifyTimeout = 5 * time.Second

// Notify tells the service manager how the daemon fares, as sd_notify(3) does: "READY=1", "STOPPING=1", "STATUS=...",
// several of them separated by newlines. It does nothing when NOTIFY_SOCKET is unset. It may be called concurrently and
// blocks for at most some seconds.
func Notify(state string) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return notify(state)
}

// notify sends state, and fds along with it, in one datagram to NOTIFY_SOCKET.
func notify(state string, fds ...int) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return fmt.Errorf("notify service manager: NOTIFY_SOCKET %q is neither a path nor an abstract @name", socket)
	}
	if err := sendTo(socket, []byte(state), fds); err != nil {
		return fmt.Errorf("notify service manager at %s: %w", socket, err)
	}
	return nil
}

// sendTo sends one datagram. It blocks while the receiver's queue is full, at most for notifyTimeout.
func sendTo(socket string, b []byte, fds []int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	timeout := unix.NsecToTimeval(notifyTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for { // a name with a leading '@' is an abstract one in package unix, too
		err := unix.Sendmsg(s, b, rights, &unix.SockaddrUnix{Name: socket}, 0)
		if err != unix.EINTR {
			return err
		}
	}
}
