package vswitch_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// hostAddrs are those of the host in the internet.
var hostAddrs = []string{"192.0.2.2", "2001:db8:1::2"}

// families are what sockets of SCTP call them.
var families = []string{"ip4", "ip6"}

// sctpOf returns the one connection of SCTP whose first frame came from that port.
func sctpOf(t *testing.T, d *netnstest.Daemon, port uint16) (c api.Connection) {
	t.Helper()
	list := conntrack(t, d, "--proto", "sctp")
	for _, c := range list {
		if c.Original.SrcPort == port {
			return c
		}
	}
	t.Fatalf("no connection from port %d: %+v", port, list)
	return c
}

// expectState holds a connection's state and the time that it has yet against docs/limits.md.
func expectState(t *testing.T, d *netnstest.Daemon, port uint16, state string, timeout int) {
	t.Helper()
	if c := sctpOf(t, d, port); c.State != state || c.Timeout > timeout || c.Timeout < timeout-int(netnstest.Patience/time.Second) {
		t.Errorf("the association from port %d is %s for %d s, want %s for %d s", port, c.State, c.Timeout, state, timeout)
	}
}

// TestSCTPMasquerade: associations of a container with a server outside, from INIT to SHUTDOWN COMPLETE or ABORT: addresses and ports are
// mapped, the CRC32c is right at both ends, whole and in fragments, and the table of connections knows how they stand.
func TestSCTPMasquerade(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	for i, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "2") == nil })
		client, server := n.c.SCTP(families[i]), n.server.SCTP(families[i])
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), 3868)
		for k, end := range []func(*netnstest.Association) error{(*netnstest.Association).Shutdown, (*netnstest.Association).Abort} {
			port := uint16(3868 + 2*i + k)
			a, err := netnstest.Associate(client, port, server, 3868, at, func(chunk byte) {
				switch chunk {
				case netnstest.SCTPInit:
					expectState(t, n.d, port, "new", 60)
				case netnstest.SCTPInitAck:
					expectState(t, n.d, port, "opening", 60)
				case netnstest.SCTPCookieAck:
					expectState(t, n.d, port, "established", 300)
				}
			})
			if err != nil {
				t.Fatalf("to %s: %v\n%s", addr, err, n.d.Must("drops"))
			}
			if seen := a.Far.Peer; seen.Addr().String() != hostAddrs[i] || seen.Port() < 61000 {
				t.Errorf("the container is seen as %v", seen)
			}
			if c := sctpOf(t, n.d, port); c.Translated == nil || netip.AddrPortFrom(c.Translated.Src, c.Translated.SrcPort) != a.Far.Peer {
				t.Errorf("conntrack says %+v, seen as %v", c, a.Far.Peer)
			}
			for _, size := range []int{1, 1400, 4000, 20000} {
				if err := a.Exchange(size); err != nil {
					t.Errorf("%d bytes by %s: %v\n%s", size, addr, err, n.d.Must("drops"))
				}
			}
			if err := end(a); err != nil {
				t.Errorf("by %s: %v", addr, err)
			}
			expectState(t, n.d, port, []string{"closing", "aborted"}[k], []int{30, 10}[k])
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp)
	n.expectUntouched(t)
	n.expectUntracked(t)
}

// TestSCTPPublished: a container's port is reached from outside, with the client's own address, and by a neighbor through the host's address.
// Programs of the host have no relay for it. Rules narrow who gets in, and end what is open.
func TestSCTPPublished(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "--host-port=vsw0")
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:2905/sctp")
	n.d.Must("publish", "c", "8080:2905") // of another protocol
	n.d.Refused(1, "port c of network net", "publish", "c", "8080:80/sctp")
	other := n.lab.Container("other")
	n.d.Join("net", "other", other)
	for _, p := range netnstest.Get[[]api.PublishedPort](n.d, "list-published") {
		if sctp := p.Publish.Proto == api.ProtoSCTP; sctp != (p.Host == "") {
			t.Errorf("programs of the host reach %+v", p)
		}
	}
	for i, at := range hostAddrs {
		server := n.c.SCTP(families[i])
		for _, client := range []struct {
			c         *netnstest.Container
			own, seen string
		}{{n.server, serverAddrs[i], serverAddrs[i]}, {other, []string{"10.11.0.3", "fd11::3"}[i], []string{"10.11.0.1", "fd11::1"}[i]}} {
			to := netip.AddrPortFrom(netip.MustParseAddr(at), 8080)
			socket := client.c.SCTP(families[i])
			a, err := netnstest.Associate(socket, 40000, server, 2905, to, func(byte) {})
			if err != nil {
				t.Fatalf("from %s to %v: %v\n%s", client.c.Name, to, err, n.d.Must("drops"))
			}
			if got := a.Far.Peer.Addr().String(); got != client.seen {
				t.Errorf("%s is seen as %s, want %s", client.c.Name, got, client.seen)
			}
			for _, size := range []int{100, 5000} {
				if err := a.Exchange(size); err != nil {
					t.Errorf("%d bytes by %v: %v\n%s", size, to, err, n.d.Must("drops"))
				}
			}
			rule := strings.Fields(n.d.Must("add-rule", "c", "out", "deny", "--proto", "sctp", "--dport", "2905", "--src", client.own))[0]
			if err := socket.Send(to, 40000, 1, netnstest.SCTPData, make([]byte, 20)); err != nil {
				t.Error(err)
			}
			if p, err := server.Recv(2905, 300*time.Millisecond); !os.IsTimeout(err) {
				t.Errorf("past a rule came %+v, %v", p, err)
			}
			n.d.Must("del-rule", rule)
			if err := a.Shutdown(); err != nil {
				t.Error(err)
			}
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp, other)
	n.expectUntracked(t)
}

// TestSCTPErrors: what routers and the server's kernel, which has no SCTP, have to say of a masqueraded packet reaches who sent it,
// and quotes it as he sent it, CRC32c and all.
func TestSCTPErrors(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto")
	for i, addr := range serverAddrs {
		n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "2") == nil })
		client := n.c.SCTP(families[i])
		for name, run := range map[string]struct {
			kind byte
			hops int
		}{"time exceeded": {[]byte{11, 3}[i], 2}, "no such protocol": {[]byte{3, 4}[i], 64}} {
			heard := errorsHeard(t, n.c, families[i])
			setHops(t, client.IPConn, run.hops)
			to, value := netip.AddrPortFrom(netip.MustParseAddr(addr), 3868), make([]byte, 900) // IPv4 quotes some of it
			if err := client.Send(to, 3868, 7, netnstest.SCTPInit, value); err != nil {
				t.Fatal(err)
			}
			quote := heard(run.kind)
			if len(quote) < 100 {
				t.Errorf("%s by %s: the container hears a quote of %d bytes\n%s", name, addr, len(quote), n.d.Must("drops"))
				continue
			}
			src, dst, sctp := quote[12:16], quote[16:20], quote[20:]
			if i == 1 {
				src, dst, sctp = quote[8:24], quote[24:40], quote[40:]
			}
			from, _ := netip.AddrFromSlice(src)
			about, _ := netip.AddrFromSlice(dst)
			if want := netip.MustParseAddr([]string{"10.11.0.2", "fd11::2"}[i]); from != want || about != to.Addr() {
				t.Errorf("%s by %s quotes %v > %v", name, addr, from, about)
			}
			if sent := netnstest.SCTPBytes(3868, 3868, 7, netnstest.SCTPInit, value); !bytes.HasPrefix(sent, sctp) {
				t.Errorf("%s by %s quotes\n%x of\n%x", name, addr, sctp, sent[:len(sctp)])
			}
		}
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host)
}

// errorsHeard listens for ICMP errors from now on, and returns how to have what one of a type quotes.
func errorsHeard(t *testing.T, c *netnstest.Container, family string) func(kind byte) []byte {
	t.Helper()
	var socket net.PacketConn
	err := c.Do(func() (err error) {
		socket, err = net.ListenPacket(map[string]string{"ip4": "ip4:icmp", "ip6": "ip6:ipv6-icmp"}[family], "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return func(kind byte) []byte {
		if err := socket.SetReadDeadline(time.Now().Add(netnstest.Patience / 4)); err != nil {
			t.Fatal(err)
		}
		for {
			b := make([]byte, 2000)
			k, _, err := socket.ReadFrom(b)
			if err != nil {
				return nil
			}
			if b[0] == kind {
				return b[8:k]
			}
		}
	}
}

// setHops sets the TTL or hop limit of what a raw socket sends.
func setHops(t *testing.T, conn *net.IPConn, hops int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for _, o := range [][2]int{{unix.IPPROTO_IP, unix.IP_TTL}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS}} {
			_ = unix.SetsockoptInt(int(fd), o[0], o[1], hops) // one of them is of the other family
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
