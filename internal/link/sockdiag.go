package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
)

// Of struct inet_diag_req_v2 and struct inet_diag_msg (linux/inet_diag.h).
const (
	inetDiagReqLen  = 56
	inetDiagMsgLen  = 72
	inetDiagSport   = 4 // network order
	inetDiagSrc     = 8 // of 16 bytes
	sockDiagByFam   = 20
	diagReceiveSize = 64 << 10
)

// HeldPorts returns the ports of a transport protocol (unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP) that sockets of the namespace
// are bound to, but for those on loopback addresses. A TCP socket that is bound and neither listens nor is connected is not listed
// by the kernel.
func HeldPorts(ns *Namespace, protocol uint8) (held bpf.PortSet, err error) {
	return socketPorts(ns, protocol, func(a netip.Addr) bool { return !a.IsLoopback() })
}

// BoundPorts is HeldPorts with those on loopback addresses.
func BoundPorts(ns *Namespace, protocol uint8) (bound bpf.PortSet, err error) {
	return socketPorts(ns, protocol, func(netip.Addr) bool { return true })
}

func socketPorts(ns *Namespace, protocol uint8, counts func(netip.Addr) bool) (held bpf.PortSet, err error) {
	err = ns.Do(func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if err := heldPorts(family, protocol, counts, &held); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("list the sockets of network namespace %s: %w", ns, err)
	}
	return held, err
}

// heldPorts adds the ports of sockets of the calling thread's namespace. A kernel that can't list a protocol has none of it in use:
// its module is loaded together with the protocol's.
func heldPorts(family, protocol uint8, counts func(netip.Addr) bool, held *bpf.PortSet) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req := make([]byte, unix.SizeofNlMsghdr+inetDiagReqLen)
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFam)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, protocol
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // sockets of any state
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, diagReceiveSize)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if e := unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data))); e != unix.ENOENT && e != 0 {
					return e
				}
				return nil
			default:
				addSocket(m.Data, counts, held)
			}
		}
	}
}

// addSocket adds the port of an inet_diag_msg.
func addSocket(b []byte, counts func(netip.Addr) bool, held *bpf.PortSet) {
	if len(b) < inetDiagMsgLen {
		return
	}
	src := netip.AddrFrom16([16]byte(b[inetDiagSrc:]))
	if b[0] == unix.AF_INET {
		src = netip.AddrFrom4([4]byte(b[inetDiagSrc:]))
	}
	if counts(src.Unmap()) {
		held.Add(binary.BigEndian.Uint16(b[inetDiagSport:]))
	}
}
