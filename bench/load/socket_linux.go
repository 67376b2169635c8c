package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2). The compiler pads it to the alignment of Msghdr as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// The wrappers below are raw on purpose, see the package's comment.

func sendmmsg(fd int, batch []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), 0, 0, 0)
	return int(n), errno
}

func recvmmsg(fd int, batch []mmsghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), uintptr(flags), 0, 0)
	return int(n), errno
}

func rawRead(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawSocket(family, kind int) (int, unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_CLOEXEC), 0)
	return int(fd), errno
}

// rawConnect goes on waiting after a signal, which interrupts even a blocking connect when the socket has a timeout.
func rawConnect(fd int, a *address) unix.Errno {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.size))
		switch errno {
		case unix.EINTR:
		case unix.EISCONN: // established while the signal was handled
			return 0
		default:
			return errno
		}
	}
}

func rawAccept(fd int) (int, unix.Errno) {
	conn, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	return int(conn), errno
}

func rawClose(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func rawSleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0) // cut short by a signal: the callers look at the clock
}

// address is a socket address in the kernel's form, made once and used for every connect.
type address struct {
	family int
	raw    unix.RawSockaddrInet6 // its first bytes are those of RawSockaddrInet4 for IPv4
	size   int
}

func newAddress(ap netip.AddrPort) *address {
	port := [2]byte{byte(ap.Port() >> 8), byte(ap.Port())} // network order, whatever the machine's is
	if ap.Addr().Is4() {
		a := &address{family: unix.AF_INET, size: unix.SizeofSockaddrInet4}
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		sa.Family = unix.AF_INET
		sa.Port = *(*uint16)(unsafe.Pointer(&port))
		sa.Addr = ap.Addr().As4()
		return a
	}
	a := &address{family: unix.AF_INET6, size: unix.SizeofSockaddrInet6}
	a.raw.Family = unix.AF_INET6
	a.raw.Port = *(*uint16)(unsafe.Pointer(&port))
	a.raw.Addr = ap.Addr().As16()
	return a
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

// open makes a socket with a receive timeout, so that no blocking call outlives the deadline of its loop by much.
func open(kind int, ap netip.AddrPort, timeout time.Duration) (int, error) {
	fd, errno := rawSocket(newAddress(ap).family, kind)
	if errno != 0 {
		return -1, fmt.Errorf("make a socket for %v: %w", ap, errno)
	}
	tv := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set the receive timeout: %w", err)
	}
	return fd, nil
}

// listen makes a listening TCP socket.
func listen(ap netip.AddrPort, timeout time.Duration) (int, error) {
	fd, err := open(unix.SOCK_STREAM, ap, timeout)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, sockaddr(ap)),
		unix.Listen(fd, 1024),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on %v: %w", ap, err)
	}
	return fd, nil
}

// dial connects and tries again until the deadline: neighbor discovery or a switch may need a moment at the start.
func dial(ap netip.AddrPort, timeout, patience time.Duration) (int, error) {
	deadline := time.Now().Add(patience)
	for {
		fd, err := open(unix.SOCK_STREAM, ap, timeout)
		if err != nil {
			return -1, err
		}
		// SO_SNDTIMEO limits connect as well.
		tv := unix.NsecToTimeval(int64(timeout))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("set the send timeout: %w", err)
		}
		errno := rawConnect(fd, newAddress(ap))
		if errno == 0 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				unix.Close(fd)
				return -1, fmt.Errorf("set TCP_NODELAY: %w", err)
			}
			return fd, nil
		}
		unix.Close(fd)
		if time.Now().After(deadline) {
			return -1, fmt.Errorf("connect to %v for %v: %w", ap, patience, errno)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// again reports whether a call failed only because a timeout passed or a signal came.
func again(errno unix.Errno) bool { return errno == unix.EAGAIN || errno == unix.EINTR }
