package pump

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bare is what is left of a switch of TAPs with one thread when all that it decides is taken away: each frame that is read from one of
// two TAPs is written to the other, super-frames and unfinished checksums as they are. No such switch carries more.
type Bare struct {
	names [2]string
	fds   [2]int
	epoll int
}

const (
	superFrame = 64<<10 + 256       // bytes, with vnet header and Ethernet header
	offloads   = 0x0f | 0x20 | 0x40 // TUN_F_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 of linux/if_tun.h, Linux 6.2
	turnFrames = 64                 // of one TAP until the other one has its turn
)

// OpenBare creates two TAPs in the namespace of the calling thread. They may be moved elsewhere afterwards.
func OpenBare(a, b string) (*Bare, error) {
	p := &Bare{names: [2]string{a, b}, fds: [2]int{-1, -1}}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	for i, name := range p.names {
		if p.fds[i], err = openOffloaded(name); err == nil {
			err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.fds[i], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("create tap %s: %w", name, err)
		}
	}
	return p, nil
}

// openOffloaded creates a TAP that hands out super-frames, behind a vnet header of 10 bytes.
func openOffloaded(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Close removes the TAPs. Run must not be running.
func (p *Bare) Close() {
	for _, fd := range append(p.fds[:], p.epoll) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Run pumps until reading fails.
func (p *Bare) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buffer := make([]byte, superFrame)
	var events [2]unix.EpollEvent
	for {
		now, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll), uintptr(unsafe.Pointer(&events)), uintptr(len(events)), 0, 0, 0)
		n := int(now)
		if n <= 0 {
			var err error
			if n, err = unix.EpollWait(p.epoll, events[:], -1); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("epoll_wait: %w", err)
			}
		}
		for i := range max(n, 0) {
			if err := p.serve(int(events[i].Fd), buffer); err != nil {
				return err
			}
		}
	}
}

// serve pumps what one TAP has. The calls are raw: Go's scheduler, which they need not trouble since they don't block, would cost more than the
// rest of this program.
func (p *Bare) serve(in int, buffer []byte) error {
	at := uintptr(unsafe.Pointer(&buffer[0]))
	for range turnFrames {
		n, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(p.fds[in]), at, uintptr(len(buffer)))
		switch err {
		case 0:
			unix.RawSyscall(unix.SYS_WRITE, uintptr(p.fds[1-in]), at, n) // what a receiver refuses is dropped, as a wire would
		case unix.EAGAIN, unix.EINTR:
			return nil
		default:
			return fmt.Errorf("read from tap %s: %w", p.names[in], err)
		}
	}
	return nil
}
