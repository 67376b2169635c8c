package tap

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

var (
	_ port.Port      = (*Tap)(nil)
	_ port.Offloader = (*Tap)(nil)
	_ port.Counters  = (*Tap)(nil)
	_ port.Throttle  = (*Tap)(nil)
)

// Tap reads and writes the frames of a TAP device whose vnet header has packet.VnetLen bytes (TUNSETVNETHDRSZ).
//
// Its system calls are raw, so the Go scheduler does not hear of them: they never block, because the fd does not.
type Tap struct {
	name    string
	fd      int
	offload port.Offload
	lost    atomic.Uint64 // writes that the device counted as dropped
	gate    Gate          // nil: none
}

// Gate keeps frames from a device whose queue is not read fast enough. Its methods are safe for concurrent use.
type Gate interface {
	Served(drained bool) // see port.Throttle
	Refused() uint64     // how many frames did not get in
}

// New makes a port of an attached, non-blocking TAP fd, which it owns from then on. offload is what the device was set to.
func New(name string, fd int, offload port.Offload) *Tap {
	return &Tap{name: name, fd: fd, offload: offload}
}

// SetGate says what is before the device. It is called before the port is in use.
func (t *Tap) SetGate(g Gate) { t.gate = g }

// Served implements port.Throttle.
func (t *Tap) Served(drained bool) {
	if t.gate != nil {
		t.gate.Served(drained)
	}
}

// Name returns the port's name.
func (t *Tap) Name() string { return t.name }

// FD returns the TAP's fd. Its epoll events are EPOLLIN for frames and EPOLLERR once the device is gone.
func (t *Tap) FD() int { return t.fd }

// Offload returns what the device does with frames that are written to it.
func (t *Tap) Offload() port.Offload { return t.offload }

// Read puts one frame into f.
func (t *Tap) Read(f *packet.Frame) error {
	b := f.Space()
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(t.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			if n < packet.VnetLen {
				return port.ErrRefused
			}
			f.SetRead(int(n))
			return nil
		case unix.EAGAIN:
			return port.ErrAgain
		case unix.EINTR:
		case unix.EBADFD, unix.ENODEV, unix.EBADF:
			return port.ErrGone
		default:
			return port.ErrRefused
		}
	}
}

// Write hands f to the device, whose network stack runs before it returns.
func (t *Tap) Write(f *packet.Frame) error {
	b := f.WithVnet()
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(t.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.EIO: // IFF_UP is clear (tun_get_user in drivers/net/tun.c)
			t.lost.Add(1)
			return port.ErrDown
		case unix.ENOMEM:
			t.lost.Add(1)
			return port.ErrFull
		case unix.EAGAIN, unix.ENOBUFS:
			return port.ErrFull
		case unix.EBADFD, unix.ENODEV, unix.EBADF:
			return port.ErrGone
		default:
			return port.ErrRefused
		}
	}
}

// KernelDrops implements port.Counters. What the queue had no room for is in the device's counters only.
func (t *Tap) KernelDrops() (rx, counted uint64, err error) {
	if t.gate != nil {
		rx = t.gate.Refused()
	}
	return rx, t.lost.Load(), nil
}

// Close closes the fd. The device is persistent and stays.
func (t *Tap) Close() error {
	fd := t.fd
	if fd < 0 {
		return nil
	}
	t.fd = -1
	return unix.Close(fd)
}
