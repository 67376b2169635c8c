package uplink_test

import (
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/link"
)

// ears hear what an interface receives.
type ears struct {
	t    *testing.T
	file *os.File
}

func listenEthernet(t *testing.T, ns *link.Namespace, ifname string) ears {
	t.Helper()
	fd := -1
	err := ns.Do(func() error {
		i, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	e := ears{t, os.NewFile(uintptr(fd), "packet")}
	t.Cleanup(func() { _ = e.file.Close() })
	return e
}

// find returns the first frame that want likes, of those that come in time; else nil.
func (e ears) find(want func([]byte) bool) []byte {
	e.t.Helper()
	_ = e.file.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 70000)
	for {
		n, err := e.file.Read(b)
		if err != nil {
			return nil
		}
		if want(b[:n]) {
			return b[:n]
		}
	}
}
