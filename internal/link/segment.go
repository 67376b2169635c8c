package link

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
)

// OpenSegment opens a packet socket in the host's namespace for a station with a MAC of its own on the segment of one of the host's
// interfaces, which Join chooses, after Filter. What is written to it passes the interface's queueing discipline, as the host's frames do.
func OpenSegment(host *Namespace) (fd int, err error) {
	err = host.Do(func() (err error) {
		fd, err = newPacket()
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Filter has the program judge what arrives for the socket, in place of the one that did before: no frame passes between them.
func Filter(fd int, p bpf.Program) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err != nil {
		return fmt.Errorf("attach the filter to a packet socket: %w", err)
	}
	return nil
}

// Join binds the socket to an interface and has that receive what is sent to the MACs, of the station and of its multicast groups.
func Join(fd, index int, macs [][6]byte) error {
	if err := bindPacket(fd, index); err != nil {
		return err
	}
	return membership(fd, index, unix.PACKET_ADD_MEMBERSHIP, macs)
}

// Leave is for an interface that the socket leaves for another one: it takes the MACs from it. That it is gone, and they with it, is no error.
// To close the socket does the same.
func Leave(fd, index int, macs [][6]byte) error {
	err := membership(fd, index, unix.PACKET_DROP_MEMBERSHIP, macs)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func membership(fd, index, option int, macs [][6]byte) error {
	for _, mac := range macs {
		m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(mac))}
		if mac[0]&1 != 0 {
			m.Type = unix.PACKET_MR_MULTICAST
		}
		copy(m.Address[:], mac[:])
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, option, &m); err != nil {
			return fmt.Errorf("change what interface number %d receives, by %x: %w", index, mac, err)
		}
	}
	return nil
}

// Joined returns the interface that the socket is bound to; 0: none, or none any more.
func Joined(fd int) (index int, err error) {
	at, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("look at a packet socket: %w", err)
	}
	ll, ok := at.(*unix.SockaddrLinklayer)
	if !ok {
		return 0, errors.New("look at a packet socket: it is none")
	}
	return max(ll.Ifindex, 0), nil
}
