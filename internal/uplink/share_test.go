package uplink_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/bpf"
	"vswitch/internal/link"
	"vswitch/internal/link/linktest"
	"vswitch/internal/packet"
	pt "vswitch/internal/packettest"
)

// rungs are the ways to attach that the kernel has.
var rungs = func() []string {
	if linktest.Kernel(6, 6) {
		return []string{link.IngressTCX, link.IngressClsact}
	}
	return []string{link.IngressClsact}
}()

func (l *lab) rung(name string) {
	if name == link.IngressClsact {
		l.cfg.WithoutTCX()
	}
}

// onEachRung runs a test in a lab for each of them.
func onEachRung(t *testing.T, test func(t *testing.T, l *lab, rung string)) {
	for _, rung := range rungs {
		t.Run(rung, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.rung(rung)
			test(t, l, rung)
		})
	}
}

// TestShare: the host and the switch use the same addresses, and each gets its own.
func TestShare(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, rung string) {
		u := l.open()
		if s := u.State(); s.Attached != rung || s.Problem != "" || s.Name != "up0" || !s.Carrier || len(s.Addrs) != 2 {
			t.Fatalf("state %+v", s)
		}
		u.Publish(bpf.TCP, 8080)
		stop := linktest.Pump(t, l.attach(), u.Port())
		linktest.IP(t, "-n", l.host.String(), "neigh", "flush", "dev", "up0")
		for i := range hostAddrs {
			l.shareFamily(i)
		}
		for i, c := range stop() {
			if c.Frames == 0 || c.Super == 0 || c.Bad != 0 || c.Lost != 0 {
				t.Errorf("from port %d: %+v; want frames and super-frames, none bad or lost", i, c)
			}
		}
		silence(l)
	})
}

// shareFamily is TestShare of IPv4 (0) or IPv6 (1).
func (l *lab) shareFamily(i int) {
	all := []string{"0.0.0.0", "::"}[i]
	l.echo(l.container, hostAddrs[i], 61080)
	l.echo(l.container, hostAddrs[i], 8080)
	l.echo(l.host, all, 8000+i)
	l.echo(l.outside, outsideAddrs[i], 7000)

	l.talks("from the switch outwards", l.container, 61500+i, outsideAddrs[i], 7000)
	l.talks("to a port of the range", l.outside, 0, hostAddrs[i], 61080)
	l.talks("to a published port", l.outside, 0, hostAddrs[i], 8080)
	l.talks("from the host outwards", l.host, 0, outsideAddrs[i], 7000)
	l.talks("to the host", l.outside, 0, hostAddrs[i], 8000+i)
	l.refused("closed port of the host's", hostAddrs[i], 81)
	l.datagrams(i)
	linktest.IP(l.t, "netns", "exec", l.host.String(), "ping", "-c", "2", "-i", "0.01", "-W", "30", outsideAddrs[i])
	linktest.IP(l.t, "netns", "exec", l.outside.String(), "ping", "-c", "2", "-i", "0.01", "-W", "30", hostAddrs[i])
}

// datagrams sends some that come in fragments and are answered so: first fragments are redirected, later ones cloned. Then one to a
// closed port: the ICMP error is cloned.
func (l *lab) datagrams(i int) {
	l.t.Helper()
	server, err := packetConn(l.outside, outsideAddrs[i], 5353)
	if err != nil {
		l.t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], from)
		}
	}()
	client, err := packetConn(l.container, hostAddrs[i], 61053)
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(outsideAddrs[i]), 5353))
	sent, got := bytes.Repeat([]byte("vswitch!"), 1000), make([]byte, 65536)
	_ = client.SetDeadline(time.Now().Add(patience))
	if _, err := client.WriteTo(sent, to); err != nil {
		l.t.Fatal(err)
	}
	if n, _, err := client.ReadFrom(got); err != nil || !bytes.Equal(got[:n], sent) {
		l.t.Errorf("datagram in fragments: %d bytes, %v", n, err)
	}

	var closed net.Conn
	err = l.container.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{Port: 61054}}
		closed, err = d.Dial("udp", net.JoinHostPort(outsideAddrs[i], "5354"))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	defer closed.Close()
	_ = closed.SetDeadline(time.Now().Add(patience))
	_, _ = closed.Write([]byte("x"))
	if _, err := closed.Read(got); !errors.Is(err, unix.ECONNREFUSED) {
		l.t.Errorf("datagram to a closed port: %v, want the ICMP error", err)
	}
}

func packetConn(ns *link.Namespace, addr string, port int) (c *net.UDPConn, err error) {
	err = ns.Do(func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(addr), Port: port})
		return err
	})
	return c, err
}

// silence: with nobody to read the TAP, our ports are silent and the host's answer as ever.
func silence(l *lab) {
	for i := range hostAddrs {
		l.silent("port of the range", hostAddrs[i], 61081)
		l.silent("published port", hostAddrs[i], 8080)
		l.refused("closed port of the host's, again", hostAddrs[i], 81)
	}
}

// TestMACs: what the switch writes leaves with the MACs of the interface and of the next hop, whatever it wrote.
func TestMACs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.open()
	linktest.Pump(t, l.attach(), u.Port())
	ears := listenEthernet(t, l.outside, "eth0")
	for i := range hostAddrs {
		linktest.IP(t, "-n", l.host.String(), "neigh", "flush", "dev", "up0")
		c, err := packetConn(l.container, hostAddrs[i], 61600)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.WriteTo([]byte("which way?"), &net.UDPAddr{IP: net.ParseIP(outsideAddrs[i]), Port: 9})
		_ = c.Close()
		f := ears.find(func(f []byte) bool { return bytes.Contains(f, []byte("which way?")) })
		if f == nil || net.HardwareAddr(f[:6]).String() != gatewayMAC || net.HardwareAddr(f[6:12]).String() != hostMAC {
			t.Errorf("to %s: frame % x", outsideAddrs[i], f)
		}
	}
}

// TestPing: an echo reply with an identifier of the range, or one that is set, reaches both, since the host may use the same; others reach
// the host alone.
func TestPing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.open()
	linktest.Pump(t, l.attach(), u.Port())
	for _, addr := range outsideAddrs {
		pingAs := func(id string, ns *link.Namespace, wait string) error {
			_, err := command(ns, "ping", "-e", id, "-c", "1", "-W", wait, addr)
			return err
		}
		ping := func(ns *link.Namespace, wait string) error { return pingAs("7000", ns, wait) }
		for _, ns := range []*link.Namespace{l.container, l.host} {
			if err := pingAs("61234", ns, "30"); err != nil {
				t.Errorf("ping %s from %s with an identifier of the range: %v", addr, ns, err)
			}
		}
		u.Steering().Set(bpf.Echo, 7000)
		if err := ping(l.container, "30"); err != nil {
			t.Errorf("ping %s by the switch: %v", addr, err)
		}
		if err := ping(l.host, "30"); err != nil {
			t.Errorf("ping %s by the host with the same identifier: %v", addr, err)
		}
		u.Steering().Clear(bpf.Echo, 7000)
		if err := ping(l.container, "0.3"); err == nil {
			t.Errorf("ping %s: the switch gets replies with an identifier that it doesn't use", addr)
		}
	}
}

// TestGRO: segments that the interface receives one by one reach the TAP as super-frames.
func TestGRO(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	u := l.open()
	stop := linktest.Pump(t, l.attach(), u.Port())
	for _, args := range [][]string{{"eth0", "tso", "off", "gso", "off"}, {"up0", "gro", "on"}} {
		ns := map[string]*link.Namespace{"eth0": l.outside, "up0": l.host}[args[0]]
		if out, err := command(ns, "ethtool", append([]string{"-K"}, args...)...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for i := range hostAddrs {
		l.echo(l.container, hostAddrs[i], 61080)
		l.talks("through GRO", l.outside, 0, hostAddrs[i], 61080)
	}
	if c := stop()[1]; c.Super == 0 || c.Bad != 0 || c.Lost != 0 {
		t.Errorf("from the uplink: %+v; want super-frames", c)
	}
}

// TestBridge: a bridge of the host is shared like a NIC.
func TestBridge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.host.String()
	linktest.IP(t, "-n", h, "link", "add", "br0", "address", hostMAC, "type", "bridge")
	linktest.IP(t, "-n", h, "link", "set", "up0", "master", "br0")
	linktest.IP(t, "-n", h, "link", "set", "br0", "up")
	for i := range hostAddrs {
		linktest.IP(t, "-n", h, "addr", "del", hostAddrs[i]+prefixLen(i), "dev", "up0")
		linktest.IP(t, "-n", h, "addr", "add", hostAddrs[i]+prefixLen(i), "dev", "br0", "nodad")
		linktest.IP(t, "-n", h, "route", "replace", "default", "via", gateways[i])
	}
	l.cfg.Interface = "br0"
	u := l.open()
	linktest.Pump(t, l.attach(), u.Port())
	for i := range hostAddrs {
		l.echo(l.container, hostAddrs[i], 61080)
		l.echo(l.outside, outsideAddrs[i], 7000)
		l.talks("to the switch", l.outside, 0, hostAddrs[i], 61080)
		l.talks("from the switch", l.container, 61500+i, outsideAddrs[i], 7000)
		l.talks("from the host", l.host, 0, outsideAddrs[i], 7000)
		l.refused("closed port of the host's", hostAddrs[i], 81)
	}
}

// TestCrafted: of frames that are sent one by one, those that are the switch's, or may be, reach the TAP, and no others.
func TestCrafted(t *testing.T) {
	t.Parallel()
	onEachRung(t, func(t *testing.T, l *lab, _ string) {
		u := l.open()
		u.Steering().Set(bpf.Echo, 7)
		wire := listenEthernet(t, l.outside, "eth0")
		var want []string
		for i := range hostAddrs {
			to := func(port uint16, more ...pt.Option) []pt.Option {
				return append([]pt.Option{pt.From(gatewayMAC, outsideAddrs[i], 9), pt.To(hostMAC, hostAddrs[i], port)}, more...)
			}
			for _, c := range []struct {
				name  string
				ours  bool
				frame *packet.Frame
			}{
				{"VLAN tag", false, pt.UDP(to(61000, pt.VLAN(5))...)},
				{"priority tag", false, pt.UDP(to(61000, pt.VLAN(0))...)},
				{"first fragment", true, pt.UDP(to(61000, pt.Fragment(0, true))...)},
				{"later fragment", true, pt.UDP(to(22, pt.Fragment(3, false))...)},
				{"another MAC", false, pt.UDP(pt.From(gatewayMAC, outsideAddrs[i], 9), pt.To("02:00:00:00:00:99", hostAddrs[i], 61000))},
				{"another address", false, pt.UDP(pt.From(gatewayMAC, hostAddrs[i], 9), pt.To(hostMAC, outsideAddrs[i], 61000))},
				{"later fragment to another address", false, pt.UDP(pt.From(gatewayMAC, hostAddrs[i], 9), pt.To(hostMAC, outsideAddrs[i], 9), pt.Fragment(3, false))},
				{"echo reply of ours", true, pt.ICMPEchoReply(to(0, pt.Echo(7, 1))...)},
				{"echo reply of the host's", false, pt.ICMPEchoReply(to(0, pt.Echo(8, 1))...)},
				{"echo request", false, pt.ICMPEcho(to(0, pt.Echo(7, 1))...)},
				{"unreachable", true, pt.ICMP([]uint8{3, 1}[i], to(0)...)},
				{"time exceeded", true, pt.ICMP([]uint8{11, 3}[i], to(0)...)},
				{"ARP", false, pt.ARPRequest()},
			} {
				c.frame.Append([]byte(" " + c.name)) // a trailer tells them apart
				if c.ours {
					want = append(want, c.name)
				}
				if _, err := wire.file.Write(c.frame.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
		}
		var got []string
		f := packet.NewFrame(make([]byte, packet.BufSize))
		linktest.Eventually(t, "all frames are read", func() bool {
			for u.Port().Read(f) == nil {
				got = append(got, string(f.Bytes()[bytes.LastIndexByte(f.Bytes(), 0)+1:]))
			}
			return len(got) >= len(want)
		})
		if len(got) != len(want) {
			t.Fatalf("%d frames reach the TAP, want %d: %q", len(got), len(want), got)
		}
		for i := range want {
			if !strings.HasSuffix(got[i], want[i]) {
				t.Errorf("frame %d at the TAP is %q, want %q", i, got[i], want[i])
			}
		}
	})
}
