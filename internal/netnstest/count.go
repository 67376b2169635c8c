package netnstest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FrameCount counts the frames that arrive at an interface from one MAC address. A super-frame counts once.
type FrameCount struct {
	socket *PacketSocket
	n      atomic.Uint64
}

// CountFrames starts to count. It goes on when the interface is set down and up.
func (c *Container) CountFrames(ifname, from string) *FrameCount {
	c.lab.t.Helper()
	mac, err := net.ParseMAC(from)
	if err != nil {
		c.lab.t.Fatal(err)
	}
	k := &FrameCount{socket: c.PacketSocket(ifname)}
	if err := k.cut(); err != nil {
		c.lab.t.Fatal(err)
	}
	go k.run(mac)
	return k
}

// headerLen is how much of a frame is looked at.
const headerLen = 14

// cut has the kernel keep no more of each frame, so that many can wait for a receiver that is late.
func (k *FrameCount) cut() error {
	conn, err := k.socket.file.SyscallConn()
	if err != nil {
		return err
	}
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: headerLen}}
	var serr error
	err = conn.Control(func(fd uintptr) {
		serr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &filter[0]})
	})
	return errors.Join(err, serr)
}

func (k *FrameCount) run(mac net.HardwareAddr) {
	buf := make([]byte, headerLen)
	for {
		n, err := k.socket.file.Read(buf)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err == nil && n == len(buf) && bytes.Equal(buf[6:12], mac):
			k.n.Add(1)
		}
	}
}

// Frames returns how many came, and fails the test if any was missed: then the count says nothing.
func (k *FrameCount) Frames() uint64 {
	t := k.socket.lab.t
	t.Helper()
	conn, err := k.socket.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var s *unix.TpacketStats
	var serr error
	if err := conn.Control(func(fd uintptr) {
		s, serr = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); err != nil || serr != nil {
		t.Fatal(errors.Join(err, serr))
	}
	if s.Drops > 0 {
		t.Fatalf("the receiver missed %d frames: they are nobody's loss", s.Drops)
	}
	return k.n.Load()
}
