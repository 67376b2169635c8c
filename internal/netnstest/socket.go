package netnstest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ListenTCP listens in the namespace, on any free port when addr's is 0. A port whose listener was closed just now may be taken for a moment
// more: a child that another test has forked has the descriptor too, until it executes its program.
func (c *Container) ListenTCP(addr string) *net.TCPListener {
	c.lab.t.Helper()
	var l net.Listener
	err := c.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		for end := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
			l, err = lc.Listen(context.Background(), "tcp", addr)
			if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) {
				return err
			}
		}
	})
	if err != nil {
		c.lab.t.Fatalf("listen on %s in %s: %v", addr, c.Name, err)
	}
	return l.(*net.TCPListener)
}

// DialTCP connects from the namespace.
func (c *Container) DialTCP(addr string) (*net.TCPConn, error) {
	var conn net.Conn
	err := c.Do(func() (err error) {
		d := net.Dialer{Timeout: Patience}
		conn, err = d.Dial("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// UDP opens a socket in the namespace bound to addr, with room for a burst.
func (c *Container) UDP(addr string) *net.UDPConn {
	c.lab.t.Helper()
	var conn net.PacketConn
	err := c.Do(func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
			})
		}}
		conn, err = lc.ListenPacket(context.Background(), "udp", addr)
		return err
	})
	if err != nil {
		c.lab.t.Fatalf("open UDP socket %s in %s: %v", addr, c.Name, err)
	}
	c.lab.t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// PacketSocket is an AF_PACKET socket on an interface: it sees what the interface receives, and sends frames as they are.
type PacketSocket struct {
	file *os.File
	lab  *Lab
}

// PacketSocket opens one. It sees what arrives from now on, not what the container itself sends.
func (c *Container) PacketSocket(ifname string) *PacketSocket {
	c.lab.t.Helper()
	fd := -1
	err := c.Do(func() (err error) {
		iface, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		for _, o := range []struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
			{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
			{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
			{unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, 0},
		} {
			if o.name == unix.PACKET_ADD_MEMBERSHIP {
				err = unix.SetsockoptPacketMreq(fd, o.level, o.name, &unix.PacketMreq{Ifindex: int32(iface.Index), Type: unix.PACKET_MR_PROMISC})
			} else {
				err = unix.SetsockoptInt(fd, o.level, o.name, o.value)
			}
			if err != nil {
				return err
			}
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: iface.Index})
	})
	if err != nil {
		c.lab.t.Fatalf("open packet socket on %s in %s: %v", ifname, c.Name, err)
	}
	s := &PacketSocket{file: os.NewFile(uintptr(fd), "packet"), lab: c.lab}
	c.lab.t.Cleanup(func() { s.file.Close() })
	return s
}

// Send sends a frame. When the interface has no room it waits for it.
func (s *PacketSocket) Send(frame []byte) {
	s.lab.t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(100 * time.Microsecond) {
		_, err := s.file.Write(frame)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.ENOBUFS) || time.Now().After(deadline) {
			s.lab.t.Fatalf("send a frame: %v", err)
		}
	}
}

// Recv returns the next frame, VLAN tag and all; false after the deadline. What is there already it returns in any case.
func (s *PacketSocket) Recv(within time.Duration) ([]byte, bool) {
	s.lab.t.Helper()
	if err := s.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.lab.t.Fatal(err)
	}
	conn, err := s.file.SyscallConn()
	if err != nil {
		s.lab.t.Fatal(err)
	}
	buf, control := make([]byte, 70000), make([]byte, 256)
	var n, cn int
	rerr := error(unix.EAGAIN)
	receive := func(fd uintptr) bool {
		n, cn, _, _, rerr = unix.Recvmsg(int(fd), buf, control, 0)
		return !errors.Is(rerr, unix.EAGAIN)
	}
	err = conn.Control(func(fd uintptr) { receive(fd) }) // Read doesn't even try when the deadline has passed before it is run
	if errors.Is(rerr, unix.EAGAIN) {
		err = conn.Read(receive)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, false
	}
	if err != nil || rerr != nil {
		s.lab.t.Fatalf("receive a frame: %v %v", err, rerr)
	}
	return retag(buf[:n], control[:cn]), true
}

// retag puts the VLAN tag back that the kernel took off (struct tpacket_auxdata, packet(7)).
func retag(frame, control []byte) []byte {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return frame
	}
	for _, m := range list {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		status, tci, tpid := m.Data[0:4], m.Data[16:18], m.Data[18:20]
		if status[0]&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		out := append([]byte(nil), frame[:12]...)
		out = append(out, tpid[1], tpid[0], tci[1], tci[0]) // to network order
		return append(out, frame[12:]...)
	}
	return frame
}

// Find receives until a frame satisfies want, and returns it; nil when none came in time.
func (s *PacketSocket) Find(within time.Duration, want func([]byte) bool) []byte {
	s.lab.t.Helper()
	for deadline := time.Now().Add(within); ; {
		f, ok := s.Recv(time.Until(deadline))
		if !ok {
			return nil
		}
		if want(f) {
			return f
		}
	}
}

// Host is the address part of a prefix like "10.0.0.2/24".
func Host(prefix string) string { return netip.MustParsePrefix(prefix).Addr().String() }
