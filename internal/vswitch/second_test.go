package vswitch_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"vswitch/internal/netnstest"
)

var secondAddrs = []string{"198.18.7.9", "2001:db8:a::9"}

// second is another host outside, behind the same isp, by a cable that can treat frames badly.
//
//	isp --- 198.18.7.1 2001:db8:a::1 ---cable--- second 198.18.7.9/24 2001:db8:a::9/64
func (n *internet) second(t *testing.T) (*netnstest.Container, *netnstest.BadCable) {
	t.Helper()
	second := n.lab.Container("second")
	cable := n.lab.BadCable(n.isp, "eth7", second, "eth0")
	n.isp.IP("addr add 198.18.7.1/24 dev eth7")
	n.isp.IP("addr add 2001:db8:a::1/64 dev eth7 nodad")
	second.IP("addr add " + secondAddrs[0] + "/24 dev eth0")
	second.IP("addr add " + secondAddrs[1] + "/64 dev eth0 nodad")
	second.IP("route add default via 198.18.7.1")
	second.IP("route add default via 2001:db8:a::1")
	return second, cable
}

// TestTwoHostsOutside: to two hosts a container's socket is one and the same endpoint, which each can answer once it was spoken to and nobody else;
// both reach the same published port, from the same port of theirs; and the way to both is seen hop by hop.
func TestTwoHostsOutside(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	second, _ := n.second(t)
	n.d.Must("add-uplink", "auto", "--", "publish", "c", "8080:80", "--", "publish", "c", "8080:80/udp")
	for i := range serverAddrs {
		for _, addr := range []string{serverAddrs[i], secondAddrs[i]} {
			n.d.Eventually("the outside at "+addr, func() bool { return pinged(n.c, addr, "-W", "1") == nil })
		}
		expectOneMapping(t, n, second, i)
		expectBothReach(t, n, second, i)
	}
	netnstest.ExpectNoErrors(n.c, n.server, n.host, n.isp, second) // to the isp's kernel a TTL that ends is one
	expectHops(t, n, second)
	n.expectUntouched(t)
	n.expectUntracked(t)
}

// expectHops has programs show the way from the container to both hosts: the gateway, the isp, the host itself.
func expectHops(t *testing.T, n *internet, second *netnstest.Container) {
	t.Helper()
	for _, c := range []*netnstest.Container{n.isp, n.server, second} { // who asks a lot at once is answered
		c.Run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
	}
	var g sync.WaitGroup
	for i, addr := range append(serverAddrs[:2:2], secondAddrs...) {
		hops := []string{[]string{"10.11.0.1", "fd11::1"}[i%2], []string{"192.0.2.1", "2001:db8:1::1"}[i%2], addr}
		for _, command := range []string{
			"traceroute -n -q 1 -w 3", "traceroute -n -q 1 -w 3 -I", "traceroute -n -q 1 -w 3 -T -p 2222", "mtr -n -r -c 1", "mtr -n -r -c 1 -u",
		} {
			g.Go(func() {
				words := append(strings.Fields(command), addr)
				out, err := n.c.Try(words[0], words[1:]...)
				for k, hop := range hops {
					if !strings.Contains(out, hop+" ") {
						t.Errorf("%s to %s does not name hop %d, %s: %v\n%s", command, addr, k+1, hop, err, out)
					}
				}
			})
		}
	}
	g.Wait()
}

// expectOneMapping holds the NAT against RFC 4787: endpoint-independent mapping, address- and port-dependent filtering.
func expectOneMapping(t *testing.T, n *internet, second *netnstest.Container, family int) {
	t.Helper()
	inner := n.c.UDP(":0")
	a, b := n.server.UDP(net.JoinHostPort(serverAddrs[family], "0")), second.UDP(net.JoinHostPort(secondAddrs[family], "0"))
	stranger := second.UDP(net.JoinHostPort(secondAddrs[family], "0"))
	var seen netip.AddrPort
	said := func(to *net.UDPConn) {
		t.Helper()
		if _, err := inner.WriteTo([]byte("?"), to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		_, from, err := readFrom(to)
		if err != nil {
			t.Fatalf("%v hears nothing: %v\n%s", to.LocalAddr(), err, n.d.Must("drops"))
		}
		at := netip.MustParseAddrPort(from.String())
		if at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()); seen.IsValid() && at != seen {
			t.Errorf("seen as %v by one host, as %v by the other", seen, at)
		}
		seen = at
	}
	answers := func(from *net.UDPConn, passes bool) {
		t.Helper()
		before := dropped(n.d, "uplink:auto", "foreign")
		if _, err := from.WriteToUDPAddrPort([]byte("!"), seen); err != nil {
			t.Fatal(err)
		}
		if passes {
			if _, by, err := readFrom(inner); err != nil || by.(*net.UDPAddr).String() != from.LocalAddr().String() {
				t.Errorf("an answer of %v came from %v, %v", from.LocalAddr(), by, err)
			}
			return
		}
		n.d.Eventually("the answer of a stranger is refused", func() bool { return dropped(n.d, "uplink:auto", "foreign") > before })
	}
	said(a)
	answers(a, true)
	answers(b, false) // it was not spoken to
	said(b)
	answers(b, true)
	answers(stranger, false) // its host was, but not its port
	answers(a, true)
	_ = inner.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if k, from, err := inner.ReadFrom(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes from %v, who was not spoken to", k, from)
	}
}

// expectBothReach has both hosts connect to the published port at once, from the same port of theirs.
func expectBothReach(t *testing.T, n *internet, second *netnstest.Container, family int) {
	t.Helper()
	at := net.JoinHostPort(hostAddrs[family], "8080")
	l, rx := n.c.ListenTCP(":80"), n.c.UDP(":80")
	defer l.Close()
	defer rx.Close()
	var open [][2]*net.TCPConn
	for _, x := range []struct {
		c    *netnstest.Container
		addr string
	}{{n.server, serverAddrs[family]}, {second, secondAddrs[family]}} {
		own := net.JoinHostPort(x.addr, "40000")
		var client net.Conn
		err := x.c.Do(func() (err error) {
			local, err := net.ResolveTCPAddr("tcp", own)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), netnstest.Patience)
			defer cancel()
			d := net.Dialer{LocalAddr: local}
			client, err = d.DialContext(ctx, "tcp", at)
			return err
		})
		if err != nil {
			t.Fatalf("%s to %s: %v\n%s", own, at, err, n.d.Must("drops"))
		}
		defer client.Close()
		inner, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer inner.Close()
		if got := inner.RemoteAddr().String(); got != own {
			t.Errorf("%s is seen as %s", own, got)
		}
		open = append(open, [2]*net.TCPConn{client.(*net.TCPConn), inner})
		tx := x.c.UDP(own)
		if _, err := tx.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(at)); err != nil {
			t.Fatal(err)
		}
		_, from, err := readFrom(rx)
		if err != nil || from.String() != own {
			t.Errorf("a datagram of %s came from %v, %v", own, from, err)
			continue
		}
		if _, err := rx.WriteTo([]byte("!"), from); err != nil {
			t.Fatal(err)
		}
		if _, by, err := readFrom(tx); err != nil || by.String() != at {
			t.Errorf("%s was answered by %v, %v", own, by, err)
		}
		tx.Close()
	}
	for _, pair := range open { // each still has its own
		if err := words(pair[0], pair[1]); err != nil {
			t.Errorf("%v: %v", pair[0].LocalAddr(), err)
		}
	}
}
