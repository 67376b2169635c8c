package vswitch_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// echoed sends a datagram of n bytes from one container to the other, which sends it back to where it seems to come from.
func echoed(from, to *netnstest.Container, addr string, n int, within time.Duration) error {
	server, client := to.UDP(net.JoinHostPort(addr, "0")), from.UDP(":0")
	defer server.Close()
	defer client.Close()
	sent := bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n]
	buf := make([]byte, 1<<16)
	if _, err := client.WriteTo(sent, server.LocalAddr()); err != nil {
		return err
	}
	for _, c := range []*net.UDPConn{server, client} {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		m, peer, err := c.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:m], sent) {
			return fmt.Errorf("%d of %d bytes at %v: %w", m, n, c.LocalAddr(), err)
		}
		if c == server {
			if _, err := server.WriteTo(buf[:m], peer); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestFragmentsThroughMasquerade: datagrams that take many fragments go through a masquerade and back, reassembled by the kernels at both ends
// whose sums are right, also after the daemon was killed.
func TestFragmentsThroughMasquerade(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	d.Must("set-network", "neta", "--masquerade", "on")
	try := func(what string, n ...int) {
		t.Helper()
		for _, addr := range []string{"10.12.0.2", "fd12::2"} {
			for _, n := range n {
				// Who sends over 1400 bytes of IPv6 is told so first, and what was sent until then is lost.
				if err := echoed(a, b, addr, n, time.Second); err != nil && echoed(a, b, addr, n, netnstest.Patience/4) != nil {
					t.Errorf("%s: echo of %d bytes by %s: %v", what, n, addr, err)
				}
			}
			if err := pinged(a, addr, "-s", "20000"); err != nil {
				t.Errorf("%s: ping of 20000 bytes to %s: %v", what, addr, err)
			}
		}
	}
	try("at first", 1473, 20000, 65000)
	d.Kill()
	d.Start()
	if err := echoed(a, b, "10.12.0.2", 20000, netnstest.Patience/4); err != nil { // all fragments wait for the neighbors, which are not known
		t.Errorf("the first datagram after the daemon was killed: %v", err)
	}
	try("after the daemon was killed", 20000)
	if got := seenAs(t, a, b, "10.12.0.2"); got != "10.12.0.1" {
		t.Errorf("a is seen as %s", got)
	}
	for _, reason := range []string{"frag_overlap", "frag_bad", "frag_duplicate", "frag_limit"} {
		if n := dropped(d, "a", reason) + dropped(d, "b", reason); n != 0 {
			t.Errorf("%d frames were dropped as %s", n, reason)
		}
	}
	netnstest.ExpectNoErrors(a, b)
}

// TestFragmentsByUplink: datagrams in fragments go outside by a shared uplink and come back: of what comes in, the host gets the later
// fragments too, and has no use for them.
func TestFragmentsByUplink(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	for _, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		for _, size := range []int{1473, 20000, 60000} {
			if err := echoed(n.c, n.server, addr, size, netnstest.Patience/4); err != nil {
				t.Errorf("echo of %d bytes by %s: %v", size, addr, err)
			}
		}
		if err := pinged(n.c, addr, "-s", "20000"); err != nil {
			t.Errorf("ping of 20000 bytes to %s: %v", addr, err)
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server)
	n.expectUntouched(t)
}
