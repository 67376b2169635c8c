package vswitch_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

// seenAs returns the address from which to sees a connection of from, to addr.
func seenAs(t *testing.T, from, to *netnstest.Container, addr string) string {
	t.Helper()
	l := to.ListenTCP(net.JoinHostPort(addr, "0"))
	defer l.Close()
	conn, err := from.DialTCP(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := l.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
		t.Fatal(err)
	}
	peer, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	return netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr().String()
}

// TestMasquerade hides a network behind the gateways of others, with the kernels' own stacks at both ends: TCP in super-frames, UDP, ping,
// and fragments of what is larger than the way out. Who speaks to a masqueraded container directly is answered. It can be switched at work.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	if got := seenAs(t, a, b, "10.12.0.2"); got != "10.11.0.2" {
		t.Errorf("a is seen as %s while nothing is masqueraded", got)
	}
	d.Must("set-network", "neta", "--masquerade", "on")
	for addr, as := range map[string]string{"10.12.0.2": "10.12.0.1", "fd12::2": "fd12::1"} {
		if got := seenAs(t, a, b, addr); got != as {
			t.Errorf("a is seen as %s by %s, want %s", got, addr, as)
		}
	}
	if got := seenAs(t, b, a, "10.11.0.2"); got != "10.12.0.2" {
		t.Errorf("b is seen as %s, and it is not masqueraded", got)
	}
	try := func() {
		t.Helper()
		for _, x := range []struct {
			from, to *netnstest.Container
			addr     string
		}{{a, b, "10.12.0.2"}, {a, b, "fd12::2"}, {b, a, "10.11.0.2"}, {b, a, "fd11::2"}} {
			if err := pinged(x.from, x.addr); err != nil {
				t.Errorf("ping to %s: %v", x.addr, err)
			}
			if err := netnstest.Stream(x.from, x.to, x.addr, 4<<20); err != nil {
				t.Errorf("TCP to %s: %v", x.addr, err)
			}
			if err := netnstest.Datagrams(x.from, x.to, x.addr, 1, 100, 1300); err != nil {
				t.Errorf("UDP to %s: %v", x.addr, err)
			}
		}
	}
	try()
	d.Kill()
	d.Start()
	try()
	netnstest.ExpectNoErrors(a, b)
	d.Must("set-network", "neta", "--masquerade", "off")
	if got := seenAs(t, a, b, "10.12.0.2"); got != "10.11.0.2" {
		t.Errorf("a is seen as %s after it was switched off", got)
	}
}

// TestMasqueradeOutlivesDaemon: a connection goes on after the daemon, with all that it knew of connections, was killed: it keeps its port.
func TestMasqueradeOutlivesDaemon(t *testing.T) {
	t.Parallel()
	_, d, a, b := twoNetworks(t)
	d.Must("set-network", "neta", "--masquerade", "on")
	l := b.ListenTCP("10.12.0.2:0")
	defer l.Close()
	conn, err := a.DialTCP(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	d.Kill()
	d.Start()
	for _, c := range []*net.TCPConn{conn, peer} {
		if err := c.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		var got [4]byte
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.Read(got[:]); err != nil || string(got[:]) != "ping" {
			t.Fatalf("b reads %q, %v", got, err)
		}
		if _, err := peer.Write([]byte("pong")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(got[:]); err != nil || string(got[:]) != "pong" {
			t.Fatalf("a reads %q, %v", got, err)
		}
	}
}
