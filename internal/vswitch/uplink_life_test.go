package vswitch_test

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
)

// resets hears TCP resets that the host sends. Its kernel's interface is at the other end.
func (n *internet) resets() func(within time.Duration) []byte {
	ear := n.isp.PacketSocket("eth0")
	return func(within time.Duration) []byte {
		return ear.Find(within, func(f []byte) bool {
			switch {
			case len(f) < 54:
			case binary.BigEndian.Uint16(f[12:]) == 0x0800 && f[23] == 6:
				return f[14+int(f[14]&15)*4+13]&4 != 0
			case binary.BigEndian.Uint16(f[12:]) == 0x86dd && f[20] == 6:
				return len(f) > 67 && f[67]&4 != 0
			}
			return false
		})
	}
}

// talkers are the ends of a TCP connection: the container's to the server, and the server's to a published port of the container.
type talkers struct {
	name        string
	inner, far  *net.TCPConn
	innerSpeaks bool // first
}

// sessions opens one of each kind and family; 8080:80 of the container is published.
func (n *internet) sessions(t *testing.T) (all []talkers) {
	t.Helper()
	return n.sessionsAt(t, hostAddrs)
}

// sessionsAt is sessions with the port published at addresses that need not be the host's.
func (n *internet) sessionsAt(t *testing.T, published []string) (all []talkers) {
	t.Helper()
	for i, addr := range serverAddrs {
		l := n.server.ListenTCP(net.JoinHostPort(addr, "0"))
		inner, err := n.c.DialTCP(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, talkers{"to " + addr, inner, far, true})
		l = n.c.ListenTCP(":80")
		at := published[i]
		if far, err = n.server.DialTCP(net.JoinHostPort(at, "8080")); err != nil {
			t.Fatalf("connect to the published port at %s: %v", at, err)
		}
		if inner, err = l.AcceptTCP(); err != nil {
			t.Fatal(err)
		}
		l.Close()
		all = append(all, talkers{"published at " + at, inner, far, false})
	}
	for _, s := range all {
		if err := words(s.inner, s.far); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	return all
}

// TestUplinkOutlivesDaemon: while the daemon is killed, the host's kernel resets none of its connections, although their frames keep coming;
// when it is back, they go on: those of containers as soon as these send something, those to published ports with any frame. A container's UDP
// socket is the same endpoint outside as before.
func TestUplinkOutlivesDaemon(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80")
	all := n.sessions(t)
	var inner, outer [2]*net.UDPConn
	var seen [2]string
	for i, addr := range serverAddrs {
		inner[i], outer[i] = n.c.UDP(":0"), n.server.UDP(net.JoinHostPort(addr, "0"))
	}
	endpoints := func() (as [2]string) {
		t.Helper()
		for i := range serverAddrs {
			if _, err := inner[i].WriteTo([]byte("?"), outer[i].LocalAddr()); err != nil {
				t.Fatal(err)
			}
			_, from, err := readFrom(outer[i])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := outer[i].WriteTo([]byte("!"), from); err != nil {
				t.Fatal(err)
			}
			if _, _, err := readFrom(inner[i]); err != nil {
				t.Errorf("an answer to %v: %v", from, err)
			}
			as[i] = from.String()
		}
		return as
	}
	seen = endpoints()
	for _, end := range []func(){n.d.Kill, n.d.Stop} {
		reset := n.resets()
		end()
		for _, s := range all { // frames for the switch, while there is none
			if _, err := s.far.Write([]byte("word")); err != nil {
				t.Fatal(err)
			}
		}
		if f := reset(700 * time.Millisecond); f != nil {
			t.Errorf("the host sent a reset: %x", f)
		}
		if err := pinged(n.host, serverAddrs[0]); err != nil {
			t.Errorf("the host's own ping while the daemon is away: %v", err)
		}
		n.d.Start()
		for _, s := range all {
			if _, err := s.inner.Write([]byte("go")); err != nil {
				t.Fatal(err)
			}
			var b [4]byte
			for _, c := range []struct {
				conn *net.TCPConn
				want string
			}{{s.far, "go"}, {s.inner, "word"}} {
				if err := c.conn.SetDeadline(time.Now().Add(netnstest.Patience)); err != nil {
					t.Fatal(err)
				}
				if k, err := c.conn.Read(b[:]); err != nil || string(b[:k]) != c.want {
					t.Errorf("%s: %q, %v, after the daemon came back\n%s", s.name, b[:k], err, n.d.Must("conntrack"))
				}
			}
			if err := words(s.inner, s.far); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		if now := endpoints(); now != seen {
			t.Errorf("UDP sockets are seen as %v, and were as %v", now, seen)
		}
	}
	n.expectUntouched(t)
}

// TestUplinkFollows: what happens to the interface under traffic is followed, and what is as before works as before.
func TestUplinkFollows(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Must("add-uplink", "up0")
	state := func(want string) {
		t.Helper()
		n.d.Eventually(want, func() bool { return strings.Contains(n.d.Must("show", "uplink", "up0"), want) })
	}
	works := func(when string) {
		t.Helper()
		for _, addr := range serverAddrs {
			n.lab.Eventually(when+" "+addr+" answers", func() bool { return pinged(n.c, addr, "-W", "1") == nil })
			if err := netnstest.Stream(n.c, n.server, addr, 1<<20); err != nil {
				t.Errorf("%s: TCP to %s: %v", when, addr, err)
			}
		}
	}
	err := netnstest.StreamAfter(n.c, n.server, serverAddrs[1], 16<<20, func() {
		n.host.Rename("up0", "wan0")
		n.routeOut() // which an old kernel took away with the name
	})
	if err != nil {
		t.Errorf("TCP while the interface is renamed: %v", err)
	}
	state("Interface: wan0")
	kept := n.established(t)
	n.host.IP("addr flush dev wan0")
	n.d.Eventually("no address", func() bool { return !strings.Contains(n.d.Must("show", "uplink", "up0"), "Addresses") })
	for _, line := range []string{"addr add 192.0.2.2/24 dev wan0", "addr add 2001:db8:1::2/64 dev wan0 nodad", "route replace default via 192.0.2.1",
		"-6 route replace default via 2001:db8:1::1"} {
		n.host.IP(line)
	}
	for _, s := range kept {
		if err := words(s.inner, s.far); err != nil {
			t.Errorf("%s: %v, after its address was away", s.name, err)
		}
	}
	n.host.IP("addr del 192.0.2.2/24 dev wan0")
	n.host.IP("addr add 192.0.2.77/24 dev wan0")
	n.host.IP("route replace default via 192.0.2.1")
	state("192.0.2.77/24")
	n.d.Eventually("the way out", func() bool { return pinged(n.c, serverAddrs[0], "-W", "1") == nil }) // the route is news of its own
	if got := seenAs(t, n.c, n.server, serverAddrs[0]); got != "192.0.2.77" {
		t.Errorf("the container is seen as %s after the address changed", got)
	}
	n.d.Eventually("the end of connections by the address that is gone", func() bool { return !strings.Contains(n.d.Must("conntrack"), "192.0.2.2:") })
	n.host.IP("addr add 192.0.2.2/24 dev wan0")
	works("with another address")
	all := n.established(t)
	n.isp.IP("link set eth0 down")
	state("has no carrier")
	if out, err := n.c.Try("ping", "-n", "-c", "1", "-W", "10", serverAddrs[0]); err == nil || !strings.Contains(out+err.Error(), "10.11.0.1") {
		t.Errorf("without a carrier the container is not told: %s %v", out, err)
	}
	n.isp.IP("link set eth0 up")
	n.isp.IP("addr add 2001:db8:1::1/64 dev eth0 nodad") // which its kernel took away
	state("State: up")
	works("after the carrier came back")
	for _, s := range all {
		if err := words(s.inner, s.far); err != nil {
			t.Errorf("%s: %v, after the carrier came back", s.name, err)
		}
	}
	n.host.IP("link del wan0")
	state("interface up0 is gone")
	if list := netnstest.Get[[]api.RouteEntry](n.d, "list-routes"); strings.Contains(n.d.Must("list-routes"), "uplink") {
		t.Errorf("routes are %+v", list)
	}
	n.plugIn(t)
	n.routeOut()
	state("State: up")
	works("after the interface came back")
	n.host.IP("-6 route del default")
	n.d.Eventually("no default route of IPv6", func() bool { return !strings.Contains(n.d.Must("list-routes"), "::/0") })
	if out, err := n.c.Try("ping", "-n", "-c", "1", "-W", "10", serverAddrs[1]); err == nil || !strings.Contains(out+err.Error(), "fd11::1") {
		t.Errorf("without a default route of the host's the container is not told: %s %v", out, err)
	}
	if err := pinged(n.c, "2001:db8:1::1"); err != nil {
		t.Errorf("the uplink's segment: %v", err)
	}
	netnstest.ExpectNoErrors(n.c, n.server)
}

// established are the container's sessions.
func (n *internet) established(t *testing.T) (all []talkers) {
	t.Helper()
	n.d.Must("publish", "c", "8080:80")
	defer n.d.Must("unpublish", "c")
	for _, s := range n.sessions(t) {
		if s.innerSpeaks {
			all = append(all, s)
		}
	}
	return all
}

// secondWay is a further interface of the host to the isp: up1, with 203.0.113.2 and 2001:db8:2::2.
func (n *internet) secondWay(t *testing.T) {
	t.Helper()
	n.cable(t, n.host, "up1", "203.0.113.2/24", "2001:db8:2::2/64", n.isp, "eth2", "203.0.113.1/24", "2001:db8:2::1/64")
	n.host.IP("route add default via 203.0.113.1 metric 2000")
	n.host.IP("-6 route add default via 2001:db8:2::1 metric 2000")
}

// TestTwoUplinks: new connections go by the uplink of the lowest metric that has a carrier, those there are by the one whose address they
// have, and who connects to a published port is answered by the way it came.
func TestTwoUplinks(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	n.d.Must("publish", "c", "8080:80")
	n.d.Must("add-uplink", "up0", "--metric", "10", "--", "add-uplink", "up1", "--name", "backup", "--metric", "20")
	first, second := []string{"192.0.2.2", "2001:db8:1::2"}, []string{"203.0.113.2", "2001:db8:2::2"}
	seen := func(when string, want []string) {
		t.Helper()
		for i, addr := range serverAddrs {
			if got := seenAs(t, n.c, n.server, addr); got != want[i] {
				t.Errorf("%s: seen as %s, want %s", when, got, want[i])
			}
			if err := pinged(n.c, addr); err != nil {
				t.Errorf("%s: ping to %s: %v", when, addr, err)
			}
		}
	}
	state := func(name, want string) {
		t.Helper()
		n.d.Eventually(name+" "+want, func() bool { return strings.Contains(n.d.Must("show", "uplink", name), want) })
	}
	seen("both up", first)
	l := n.c.ListenTCP(":80")
	defer l.Close()
	for _, at := range append(first, second...) {
		conn, err := n.server.DialTCP(net.JoinHostPort(at, "8080"))
		if err != nil {
			t.Errorf("published at %s: %v", at, err)
			continue
		}
		peer, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if err := words(conn, peer); err != nil {
			t.Errorf("published at %s: %v", at, err)
		}
	}
	n.d.Must("add-network", "net2", "--subnet", "10.12.0.0/24", "--masquerade", "off")
	other := n.lab.Container("other")
	n.d.Join("net2", "other", other)
	if out, err := other.Try("ping", "-n", "-c", "1", "-W", "10", serverAddrs[0]); err == nil || !strings.Contains(out+err.Error(), "10.12.0.1") {
		t.Errorf("a network that is not masqueraded: %s %v", out, err)
	}
	n.isp.IP("link set eth0 down")
	state("up0", "has no carrier")
	seen("the first one without a carrier", second)
	n.isp.IP("link set eth0 up")
	n.isp.IP("addr add 2001:db8:1::1/64 dev eth0 nodad")
	state("up0", "State: up")
	seen("both up again", first)
	n.d.Must("del-uplink", "up0")
	seen("the first one deleted", second)
	if got := n.d.Must("list-routes"); !strings.Contains(got, "uplink:backup") || strings.Contains(got, "uplink:up0") {
		t.Errorf("routes:\n%s", got)
	}
}

// TestUplinkSpares leaves to programs of the host the ports that they hold, and does without them.
func TestUplinkSpares(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	for _, addr := range []string{"0.0.0.0:62001", "[::]:62002"} {
		defer n.host.ListenTCP(addr).Close()
	}
	n.d.Must("add-uplink", "up0", "--nat-ports", "62000-62003")
	seen := make(map[string]bool)
	for range 2 {
		l := n.server.ListenTCP(serverAddrs[0] + ":0")
		conn, err := n.c.DialTCP(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		peer, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		_, port, _ := net.SplitHostPort(peer.RemoteAddr().String())
		seen[port] = true
	}
	if len(seen) != 2 || !seen["62000"] || !seen["62003"] {
		t.Errorf("connections leave from %v, want 62000 and 62003", seen)
	}
}

// TestUplinkReserves: two uplinks may have the same ports, and each keeps the host's kernel from them.
func TestUplinkReserves(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.secondWay(t)
	n.firewall = n.bystanders()
	reserved := func(want string) {
		t.Helper()
		if got := strings.TrimSpace(n.host.Run("sysctl", "-n", "net.ipv4.ip_local_reserved_ports")); got != want {
			t.Errorf("reserved ports are %q, want %q", got, want)
		}
	}
	n.d.Must("add-uplink", "up0", "--nat-ports", "50000-50099")
	n.d.Must("add-uplink", "up1", "--nat-ports", "50050-50199")
	reserved("50000-50199")
	n.d.Must("del-uplink", "up0")
	reserved("50050-50199")
	n.d.Must("del-uplink", "up1")
	reserved("")
	n.expectUntouched(t)
}

// TestUplinkConfiguration: export, apply and transactions know uplinks, and a transaction that fails brings back the one that left.
func TestUplinkConfiguration(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.d.Allow("failpoint transaction.placed")
	n.d.Must("add-uplink", "up0", "--name", "wan", "--metric", "50", "--nat-ports", "62000-62999")
	file := filepath.Join(t.TempDir(), "v.yaml")
	want := n.d.Must("export")
	if !strings.Contains(want, "uplinks:\n  wan:\n    interface: up0\n    metric: 50\n    nat_ports: \"62000-62999\"") {
		t.Errorf("exported:\n%s", want)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(want)
	if got := n.d.Must("diff", "-f", file); got != "" {
		t.Errorf("what was exported differs:\n%s", got)
	}
	write(strings.ReplaceAll(want, "metric: 50", "metric: 60"))
	n.d.Must("apply", "-f", file)
	if got := n.d.Must("export"); !strings.Contains(got, "metric: 60") {
		t.Errorf("exported after apply:\n%s", got)
	}
	write(want[:strings.Index(want, "uplinks:")])
	n.d.Must("apply", "-f", file)
	if list := n.devices(); len(list) > 0 {
		t.Errorf("%q are left", list)
	}
	write(want)
	n.d.Must("apply", "-f", file)
	n.d.Stop()
	n.d.Env = []string{"VSWITCH_FAILPOINT=transaction.placed:error"}
	n.d.Start()
	n.d.Refused(1, "nothing was changed", "del-uplink", "wan", "--", "add-uplink", "up0", "--name", "other")
	if got := n.d.Must("export"); got != want {
		t.Errorf("after a transaction that failed:\n%s", got)
	}
	if err := pinged(n.c, serverAddrs[0]); err != nil {
		t.Errorf("after a transaction that failed: %v", err)
	}
}
