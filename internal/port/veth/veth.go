package veth

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
	"vswitch/internal/port"
)

var (
	_ port.Port      = (*Veth)(nil)
	_ port.Offloader = (*Veth)(nil)
	_ port.Counters  = (*Veth)(nil)
)

// shortVnetLen is the length of struct virtio_net_hdr, without num_buffers: all that PACKET_VNET_HDR gives before Linux 6.5.
// In a Frame the two missing bytes lie between it and the Ethernet header.
const shortVnetLen = 10

const auxdataLen = int(unsafe.Sizeof(unix.TpacketAuxdata{}))

// Veth reads and writes the frames of one end of a veth pair. What the other end's namespace sends is read here; what is
// written here arrives there, within the call.
//
// The kernel moves a frame's outermost VLAN tag into metadata before AF_PACKET sees it. Read puts it back.
//
// Its system calls are raw, so the Go scheduler does not hear of them: they never block, because the socket does not.
type Veth struct {
	name  string
	fd    int
	short bool // the socket's vnet headers have shortVnetLen bytes
	deaf  atomic.Bool
	drops atomic.Uint64 // frames that the kernel's counter told of so far
	lost  atomic.Uint64 // writes that the device counted as dropped

	// What recvmsg works on; Read's alone.
	msg     unix.Msghdr
	iov     [2]unix.Iovec
	control struct {
		unix.Cmsghdr
		unix.TpacketAuxdata
	}
}

// New makes a port of a non-blocking AF_PACKET socket, which is bound to the interface and has vnet headers and
// PACKET_AUXDATA on. It owns the socket from then on, unless it fails.
func New(name string, fd int) (*Veth, error) {
	size, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR_SZ)
	if errors.Is(err, unix.ENOPROTOOPT) {
		var on int
		on, err = unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR)
		size = on * shortVnetLen
	}
	if err != nil {
		return nil, fmt.Errorf("port %s: read the options of its packet socket: %w", name, err)
	}
	if size != packet.VnetLen && size != shortVnetLen {
		return nil, fmt.Errorf("port %s: its packet socket has vnet headers of %d bytes; %d or %d are needed", name, size, packet.VnetLen, shortVnetLen)
	}
	v := &Veth{name: name, fd: fd, short: size == shortVnetLen}
	v.msg.Iov = &v.iov[0]
	v.msg.Control = (*byte)(unsafe.Pointer(&v.control))
	return v, nil
}

// Name returns the port's name.
func (v *Veth) Name() string { return v.name }

// FD returns the socket.
func (v *Veth) FD() int { return v.fd }

// Offload returns what may be left to the other end. A kernel with short vnet headers may be too old for USO, which AF_PACKET
// knows since Linux 6.2.
func (v *Veth) Offload() port.Offload {
	if v.short {
		return port.OffloadAll &^ port.OffloadUSO
	}
	return port.OffloadAll
}

// Read puts one frame into f. After ErrDown the interface may also be gone, which the socket does not tell in every case: a
// deleted interface goes down first, and the socket reports that once. Its namespace's link events do tell.
func (v *Veth) Read(f *packet.Frame) error {
	space := f.Space()
	missing := v.receiveInto(space)
	for {
		v.msg.SetControllen(int(unsafe.Sizeof(v.control)))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(v.fd), uintptr(unsafe.Pointer(&v.msg)), 0)
		switch errno {
		case 0:
			if v.msg.Flags&unix.MSG_TRUNC != 0 { // BIG TCP, which the container may have switched on
				return port.ErrOversize
			}
			if int(n)+missing < packet.VnetLen {
				return port.ErrRefused
			}
			f.SetRead(int(n) + missing)
			v.restoreTag(f)
			return nil
		case unix.EAGAIN:
			return port.ErrAgain
		case unix.EINTR:
		case unix.ENETDOWN:
			return v.downOrGone()
		case unix.EBADF, unix.ENXIO, unix.ENODEV:
			return port.ErrGone
		default: // such as a super-frame for which the vnet header has no name
			return port.ErrRefused
		}
	}
}

// receiveInto points recvmsg at a frame's space and returns how many bytes of it the kernel leaves out.
func (v *Veth) receiveInto(space []byte) (missing int) {
	if !v.short {
		v.iov[0].Base = &space[0]
		v.iov[0].SetLen(len(space))
		v.msg.SetIovlen(1)
		return 0
	}
	space[shortVnetLen], space[shortVnetLen+1] = 0, 0
	v.iov[0].Base, v.iov[1].Base = &space[0], &space[packet.VnetLen]
	v.iov[0].SetLen(shortVnetLen)
	v.iov[1].SetLen(len(space) - packet.VnetLen)
	v.msg.SetIovlen(2)
	return packet.VnetLen - shortVnetLen
}

// restoreTag pushes the VLAN tag that the kernel took off (struct tpacket_auxdata, packet(7)). The vnet header came without
// it, and moves with it.
func (v *Veth) restoreTag(f *packet.Frame) {
	c := &v.control
	if int(v.msg.Controllen) < unix.CmsgLen(auxdataLen) || c.Level != unix.SOL_PACKET || c.Type != unix.PACKET_AUXDATA ||
		c.Status&unix.TP_STATUS_VLAN_VALID == 0 || f.Len() < 12 {
		return
	}
	f.PushVLAN(c.Vlan_tci)
	if c.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		b := f.Bytes()
		b[12], b[13] = byte(c.Vlan_tpid>>8), byte(c.Vlan_tpid)
	}
}

// downOrGone tells an interface that is down from one that was deleted or moved: a socket that lost its interface is bound to
// number -1 (packet_notifier in net/packet/af_packet.c).
func (v *Veth) downOrGone() error {
	var at unix.RawSockaddrLinklayer
	size := uint32(unix.SizeofSockaddrLinklayer)
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(v.fd), uintptr(unsafe.Pointer(&at)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 || at.Ifindex < 0 {
		return port.ErrGone
	}
	return port.ErrDown
}

// SetCarrier says whether the other end is up. As long as it is not, the kernel drops without a word what is sent to it
// (noop_enqueue in net/sched/sch_generic.c), so Write refuses it. Safe for concurrent use.
func (v *Veth) SetCarrier(on bool) { v.deaf.Store(!on) }

// Carrier tells what SetCarrier said last.
func (v *Veth) Carrier() bool { return !v.deaf.Load() }

// Write sends f to the other end.
func (v *Veth) Write(f *packet.Frame) error {
	if v.deaf.Load() {
		return port.ErrDown
	}
	b := f.WithVnet()
	for {
		var errno unix.Errno
		if v.short {
			errno = v.writeShort(b)
		} else {
			_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(v.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		}
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.ENETDOWN:
			return port.ErrDown
		case unix.ENOBUFS: // what the device's transmit function said (net_xmit_errno in linux/netdevice.h)
			v.lost.Add(1)
			return port.ErrFull
		case unix.EAGAIN, unix.ENOMEM:
			return port.ErrFull
		case unix.ENXIO, unix.ENODEV, unix.EBADF:
			return port.ErrGone
		default:
			return port.ErrRefused
		}
	}
}

func (v *Veth) writeShort(b []byte) unix.Errno {
	iov := [2]unix.Iovec{{Base: &b[0]}, {Base: &b[packet.VnetLen]}}
	iov[0].SetLen(shortVnetLen)
	iov[1].SetLen(len(b) - packet.VnetLen)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(v.fd), uintptr(unsafe.Pointer(&iov)), uintptr(len(iov)))
	return errno
}

// KernelDrops implements port.Counters: rx are the frames that found the socket's receive buffer full. The kernel's counter
// starts anew with each look at it, so only this port may look (PACKET_STATISTICS in packet(7)).
func (v *Veth) KernelDrops() (rx, counted uint64, err error) {
	s, err := unix.GetsockoptTpacketStats(v.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, fmt.Errorf("port %s: read the statistics of its packet socket: %w", v.name, err)
	}
	return v.drops.Add(uint64(s.Drops)), v.lost.Load(), nil
}

// Close closes the socket; the pair stays. It is idempotent.
func (v *Veth) Close() error {
	fd := v.fd
	if fd < 0 {
		return nil
	}
	v.fd = -1
	return unix.Close(fd)
}
