package vswitch_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"vswitch/internal/netnstest"
)

// TestSCTPOfKernels: the kernels' own SCTP through a masquerade and to a published port, one address at each end: messages of up to 60 KB, in
// many chunks, come back as they were, and the associations end in peace.
func TestSCTPOfKernels(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:2905/sctp")
	for i, inner := range []string{"10.11.0.2", "fd11::2"} {
		n.d.Eventually("the outside", func() bool { return pinged(n.c, serverAddrs[i], "-W", "2") == nil })
		client, server := netip.MustParseAddr(inner), netip.MustParseAddr(serverAddrs[i])
		host := netip.MustParseAddr(hostAddrs[i])
		for _, way := range []struct {
			from, to       *netnstest.Container
			source, target netip.AddrPort // of the sockets
			at             netip.AddrPort // where the target is reached
		}{
			{n.c, n.server, netip.AddrPortFrom(client, 0), netip.AddrPortFrom(server, 3868), netip.AddrPortFrom(server, 3868)},
			{n.server, n.c, netip.AddrPortFrom(server, 0), netip.AddrPortFrom(client, 2905), netip.AddrPortFrom(host, 8080)},
		} {
			l := sctpSocket(t, way.to, way.target)
			if err := unix.Listen(l, 1); err != nil {
				t.Fatal(err)
			}
			c := sctpSocket(t, way.from, way.source)
			if err := unix.Connect(c, sockaddr(way.at)); err != nil {
				t.Fatalf("connect to %v: %v\n%s", way.at, err, n.d.Must("drops"))
			}
			far, _, err := unix.Accept(l)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 1400, 60000} {
				if err := sctpEchoed(c, far, size); err != nil {
					t.Errorf("%d bytes by %v: %v\n%s", size, way.at, err, n.d.Must("drops"))
				}
			}
			if err := errors.Join(unix.Shutdown(c, unix.SHUT_WR), unix.Close(far), unix.Close(c), unix.Close(l)); err != nil {
				t.Error(err)
			}
		}
	}
	n.d.Eventually("all associations end in peace", func() bool {
		for _, c := range conntrack(t, n.d, "--proto", "sctp") {
			if c.State != "closing" {
				return false
			}
		}
		return true
	})
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
}

// sctpSocket makes a socket of one association at a time, which is patient. Where the kernel has no SCTP, it skips the test.
func sctpSocket(t *testing.T, c *netnstest.Container, at netip.AddrPort) (fd int) {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := c.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) && os.Getenv("VSWITCH_REQUIRE_KINDS") != "1" {
		t.Skip("this kernel has no SCTP")
	}
	if err != nil {
		t.Fatal(err)
	}
	wait := unix.NsecToTimeval(netnstest.Patience.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait), unix.Bind(fd, sockaddr(at)))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// sctpEchoed sends a message of n bytes from a to b and back.
func sctpEchoed(a, b, n int) error {
	message := bytes.Repeat([]byte{'v', 's'}, n/2+1)[:n]
	for _, way := range [][2]int{{a, b}, {b, a}} {
		if _, err := unix.Write(way[0], message); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		got := make([]byte, n)
		for at := 0; at < n; {
			k, err := unix.Read(way[1], got[at:])
			if err == nil && k == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return fmt.Errorf("after %d bytes: %w", at, err)
			}
			at += k
		}
		if !bytes.Equal(got, message) {
			return errors.New("another message came")
		}
	}
	return nil
}
