package relay

import (
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize   = 16
	maxDatagram = 64 << 10
	maxControl  = 64
)

// mmsghdr is struct mmsghdr of recvmmsg(2). The compiler pads it to the alignment of Msghdr as C does.
type mmsghdr struct {
	unix.Msghdr
	len uint32
}

// batch is room for datagrams that are received together, with their senders and which of our addresses they came to.
type batch struct {
	msgs     [batchSize]mmsghdr
	iovs     [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // of either family
	controls [batchSize][maxControl]byte
	bytes    [batchSize][maxDatagram]byte
}

// batches are kept for who has something to receive: idle sockets hold none.
var batches = sync.Pool{New: func() any { return new(batch) }}

// recv receives what a socket has, up to batchSize datagrams, without waiting.
func (b *batch) recv(fd uintptr) (n int, errno unix.Errno) {
	for i := range b.msgs {
		m := &b.msgs[i]
		b.iovs[i].Base = &b.bytes[i][0]
		b.iovs[i].SetLen(maxDatagram)
		m.Name, m.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet6
		m.Iov, m.Iovlen = &b.iovs[i], 1
		m.Control = &b.controls[i][0]
		m.SetControllen(maxControl)
	}
	r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.msgs)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for i := range b.msgs[:r] {
		b.iovs[i].SetLen(int(b.msgs[i].len))
	}
	return int(r), 0
}

// send sends some of the datagrams that recv received: to where the socket is connected, or to name with control. What there is no room for
// is lost.
func (b *batch) send(fd uintptr, from, to int, name *unix.RawSockaddrInet6, control []byte) {
	for i := from; i < to; i++ {
		m := &b.msgs[i]
		m.Name, m.Namelen, m.Control, m.Flags = nil, 0, nil, 0
		m.SetControllen(0)
		if name != nil {
			m.Name, m.Namelen = (*byte)(unsafe.Pointer(name)), sizeOf(name)
			m.Control = &control[0]
			m.SetControllen(len(control))
		}
	}
	for tries := 0; from < to && tries < batchSize; tries++ { // an error is about the first: one that an earlier one left behind goes by that
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[from])), uintptr(to-from), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EAGAIN {
			return
		}
		if errno == 0 {
			from += int(n)
		}
	}
}

func sizeOf(a *unix.RawSockaddrInet6) uint32 {
	if a.Family == unix.AF_INET {
		return unix.SizeofSockaddrInet4
	}
	return unix.SizeofSockaddrInet6
}

// sender returns who sent a datagram.
func (b *batch) sender(i int) netip.AddrPort { return socketAddr(unsafe.Pointer(&b.names[i])) }

// local returns where a datagram was sent to; zero when the kernel did not say.
func (b *batch) local(i int) (a netip.AddrPort) {
	c := b.controls[i][:b.msgs[i].Controllen]
	if len(c) < unix.CmsgLen(unix.SizeofSockaddrInet4) {
		return a
	}
	switch h, data := (*unix.Cmsghdr)(unsafe.Pointer(&c[0])), c[unix.CmsgLen(0):]; {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_ORIGDSTADDR,
		h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
		return socketAddr(unsafe.Pointer(&data[0]))
	}
	return a
}

// socketAddr reads a struct sockaddr_in or sockaddr_in6.
func socketAddr(p unsafe.Pointer) netip.AddrPort {
	if a := (*unix.RawSockaddrInet4)(p); a.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), hostOrder(a.Port))
	}
	a := (*unix.RawSockaddrInet6)(p)
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), hostOrder(a.Port))
}

func hostOrder(n uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&n))
	return uint16(b[0])<<8 | uint16(b[1])
}

// fromAddr returns the control message by which a datagram is sent from one of our addresses.
func fromAddr(a netip.Addr) []byte {
	if a.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
}
