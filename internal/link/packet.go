package link

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vswitch/internal/packet"
)

// Buffers of the AF_PACKET socket, in bytes. What overflows the receive buffer is lost silently but for a counter, so it
// holds what a TAP's queue would.
const (
	receiveBuffer = 64 << 20
	sendBuffer    = 8 << 20
)

// openPacket opens an AF_PACKET socket in the calling thread's namespace and binds it to the interface, which may be down.
func openPacket(index int) (int, error) {
	fd, err := newPacket()
	if err != nil {
		return -1, err
	}
	err = bindPacket(fd, index)
	if err == nil {
		_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // takes back that it is down: ENETDOWN
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindPacket has the socket receive what arrives by the interface, instead of by the one that it was bound to before.
func bindPacket(fd, index int) error {
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return fmt.Errorf("bind a packet socket to interface number %d: %w", index, err)
	}
	return nil
}

// newPacket opens an AF_PACKET socket that receives nothing yet: all options are set before it is bound, so that no frame arrives without
// them (packet(7), linux/if_packet.h).
func newPacket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer},
	} {
		if err == nil {
			err = unix.SetsockoptInt(fd, o.level, o.option, o.value)
		}
	}
	if err == nil {
		err = setVnetHeader(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set up a packet socket: %w", err)
	}
	return fd, nil
}

// setVnetHeader asks for vnet headers of our length (Linux 6.5), or at least of 10 bytes.
func setVnetHeader(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR_SZ, packet.VnetLen)
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	}
	return err
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }
