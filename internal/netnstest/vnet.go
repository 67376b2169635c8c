package netnstest

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// VnetSocket is an AF_PACKET socket that sends frames with a vnet header of the sender's making (PACKET_VNET_HDR in packet(7)). It
// hears nothing.
type VnetSocket struct{ file *os.File }

// vnetHdrLen is that of struct virtio_net_hdr.
const vnetHdrLen = 10

// VnetSocket opens one on an interface.
func (c *Container) VnetSocket(ifname string) *VnetSocket {
	c.lab.t.Helper()
	fd := -1
	err := c.Do(func() error {
		iface, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: iface.Index}) // of no protocol
	})
	if err != nil {
		c.lab.t.Fatalf("open packet socket on %s in %s: %v", ifname, c.Name, err)
	}
	s := &VnetSocket{os.NewFile(uintptr(fd), "packet")}
	c.lab.t.Cleanup(func() { s.file.Close() })
	return s
}

// Send sends a frame; vnet is nil or at least 10 bytes. It returns what the kernel says.
func (s *VnetSocket) Send(vnet, frame []byte) error {
	b := make([]byte, vnetHdrLen, vnetHdrLen+len(frame))
	copy(b, vnet)
	_, err := s.file.Write(append(b, frame...))
	return err
}
