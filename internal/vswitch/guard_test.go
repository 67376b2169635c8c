package vswitch_test

import (
	"bytes"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/netnstest"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

const (
	c4, c6  = "10.9.0.4", "fd00:9::4"
	allIPv6 = "33:33:00:00:00:01"
)

// guarded makes a network with the containers a, whose port has a source guard, b and c.
//
//	a eth0 10.9.0.2 fd00:9::2 (guard) ---+
//	b eth0 10.9.0.3 fd00:9::3 ---------- net1
//	c eth0 10.9.0.4 fd00:9::4 -----------+
func guarded(t *testing.T, typ string) (lab *netnstest.Lab, d *netnstest.Daemon, a, b, c *netnstest.Container) {
	lab = netnstest.New(t)
	d = lab.Daemon()
	d.Must("add-network", "net1", "--subnet", subnet4, "--subnet", subnet6)
	a, b, c = lab.Container("a"), lab.Container("b"), lab.Container("c")
	d.Join("net1", "a", a, "--type", typ, "--source-guard")
	d.Join("net1", "b", b)
	d.Join("net1", "c", c, "--type", typ)
	return lab, d, a, b, c
}

// lies are frames that claim what the container with this MAC and these addresses, as a or c, is not; victim is the MAC of b, and
// the reason is why the guard drops them.
func lies(mac, ip4, ip6, victim string) map[string]struct {
	reason string
	frame  *packet.Frame
} {
	type lie = struct {
		reason string
		frame  *packet.Frame
	}
	const broadcast4 = "255.255.255.255"
	me4, me6 := packettest.From(mac, ip4, 7), packettest.From(mac, ip6, 7)
	as4, as6 := packettest.From(mac, b4, 7), packettest.From(mac, b6, 7)
	all4, all6 := packettest.To(broadcast, broadcast4, 7), packettest.To(allIPv6, "ff02::1", 7)
	size := packettest.Size(64)
	return map[string]lie{
		"MAC":                 {"source_mac", packettest.UDP(packettest.From(victim, ip4, 7), all4, size)},
		"IPv4":                {"source_ip", packettest.UDP(as4, all4, size)},
		"IPv6":                {"source_ip", packettest.UDP(as6, all6, size)},
		"tagged IPv4":         {"source_ip", packettest.UDP(as4, all4, size, packettest.VLAN(0))},
		"twice tagged IPv6":   {"source_ip", packettest.UDP(as6, all6, size, packettest.VLAN(0, 0))},
		"four tags":           {"hidden", packettest.UDP(as4, all4, size, packettest.VLAN(0, 0, 0, 0))},
		"ARP request":         {"arp_spoof", packettest.ARPRequest(as4, packettest.To(broadcast, "10.9.0.99", 0))},
		"ARP announcement":    {"arp_spoof", packettest.ARPRequest(as4, packettest.To(broadcast, b4, 0))},
		"ARP of another MAC":  {"arp_spoof", packettest.ARPRequest(me4, packettest.To(broadcast, ip4, 0), packettest.Sender(stranger))},
		"ARP reply":           {"arp_spoof", packettest.ARPReply(packettest.From(mac, "10.9.0.98", 0), packettest.To(broadcast, b4, 0))},
		"ARP probe":           {"arp_spoof", packettest.ARPRequest(packettest.From(mac, "0.0.0.0", 0), packettest.To(broadcast, b4, 0))},
		"NA":                  {"nd_spoof", packettest.ND(136, b6, []packettest.NDOption{packettest.TargetLLA(mac)}, me6, all6)},
		"NA of another MAC":   {"nd_spoof", packettest.ND(136, ip6, []packettest.NDOption{packettest.TargetLLA(stranger)}, me6, all6)},
		"DAD":                 {"nd_spoof", packettest.ND(135, b6, nil, packettest.From(mac, "::", 0), all6)},
		"RA":                  {"ra", packettest.ND(134, "", nil, packettest.From(mac, "fe80::1", 0), all6, packettest.Size(8))},
		"RA behind options":   {"ra", packettest.ND(134, "", nil, packettest.From(mac, "fe80::1", 0), all6, packettest.HopByHop(), packettest.Size(8))},
		"redirect":            {"redirect", packettest.ND(137, b6, nil, packettest.From(mac, "fe80::1", 0), all6, packettest.Size(32))},
		"redirect, IPv4":      {"redirect", packettest.ICMP(5, me4, all4, packettest.Size(28))},
		"DHCP offer":          {"dhcp_server", packettest.UDP(packettest.From(mac, ip4, 67), packettest.To(broadcast, broadcast4, 68), size)},
		"DHCPv6 advertise":    {"dhcp_server", packettest.UDP(packettest.From(mac, ip6, 547), packettest.To(allIPv6, "ff02::1", 546), size)},
		"IPv4 without origin": {"source_ip", packettest.UDP(packettest.From(mac, "0.0.0.0", 7), all4, size)},
	}
}

// TestGuardStopsLies has a container send what only others may. Of the one with a guard nobody hears it, and each frame is counted under
// its reason; of the one without all is heard, so that the test would notice a lie that dies by itself.
func TestGuardStopsLies(t *testing.T) {
	for _, typ := range []string{api.PortTAP, api.PortVeth} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab, d, a, b, c := guarded(t, typ)
			ear := b.PacketSocket("eth0")
			for _, from := range []struct {
				port     string
				c        *netnstest.Container
				ip4, ip6 string
				drops    uint64 // for each lie
			}{{"a", a, a4, a6, 1}, {"c", c, c4, c6, 0}} {
				mac, socket := from.c.MAC(), from.c.PacketSocket("eth0")
				want := make(map[string]uint64)
				for name, lie := range lies(mac, from.ip4, from.ip6, b.MAC()) {
					socket.Send(lie.frame.Bytes())
					if heard := heardBefore(t, ear, socket, mac, from.ip4, lie.frame.Bytes()); heard != (from.drops == 0) {
						t.Errorf("%s from %s: heard %v, want %v", name, from.port, heard, !heard)
					}
					want[lie.reason] += from.drops
				}
				for reason, n := range want {
					if got := dropped(d, from.port, reason); got != n {
						t.Errorf("%d packets of %s are counted as %s, want %d", got, from.port, reason, n)
					}
				}
			}
			ping(lab, b, a4)
		})
	}
}

// heardBefore tells whether frame arrives at the ear before a lawful broadcast that is sent after it.
func heardBefore(t *testing.T, ear, socket *netnstest.PacketSocket, mac, ip string, frame []byte) (heard bool) {
	t.Helper()
	fence := packettest.ARPRequest(packettest.From(mac, ip, 0), packettest.To(broadcast, "10.9.0.250", 0)).Bytes()
	socket.Send(fence)
	passed := ear.Find(netnstest.Patience, func(f []byte) bool {
		heard = heard || bytes.Contains(f, frame[len(frame)-20:]) && bytes.Equal(f[:12], frame[:12]) && !bytes.HasPrefix(f, fence)
		return bytes.HasPrefix(f, fence)
	})
	if passed == nil {
		t.Error("a lawful broadcast was not heard")
	}
	return heard
}

// TestGuardLetsKernelsWork has a kernel behind a guard do all that kernels do. Nothing of it is dropped.
func TestGuardLetsKernelsWork(t *testing.T) {
	for _, typ := range []string{api.PortTAP, api.PortVeth} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			lab, d, a, b, _ := guarded(t, typ)
			allTraffic(t, a, b, b4, b6)
			allTraffic(t, b, a, a4, a6)
			autoconf(lab, a, b, "0") // link-local made from the MAC
			autoconf(lab, a, b, "3") // made up
			a.IP("addr add " + a6 + "/64 dev eth0")
			lab.Eventually("duplicate address detection ends", func() bool {
				return !strings.Contains(a.IP("-6 addr show dev eth0"), "tentative")
			})
			if s := a.IP("-6 addr show dev eth0"); strings.Contains(s, "dadfailed") {
				t.Errorf("an address is thought to be another's:\n%s", s)
			}
			a.Run("ping", "-q", "-c2", "-i0.01", "-W10", b6)
			if n := lostButDown(d); n != 0 {
				t.Errorf("%d packets were dropped:\n%s", n, d.Must("drops"))
			}
			dhcp(t, lab, d, a, b)
		})
	}
}

// lostButDown is lost without what came for a while its interface was down, or was just going there.
func lostButDown(d *netnstest.Daemon) (n uint64) {
	for _, x := range netnstest.Get[[]api.Drop](d, "drops") {
		if x.Reason != "no_receiver" && (x.Port != "a" || x.Reason != "egress_down" && x.Reason != "egress_full") {
			n += x.Packets
		}
	}
	return n
}

// autoconf takes a's interface down and up, so that it makes itself a link-local address, and reaches b from there.
func autoconf(lab *netnstest.Lab, a, b *netnstest.Container, mode string) {
	a.Run("sysctl", "-qw", "net.ipv6.conf.eth0.addr_gen_mode="+mode)
	a.IP("link set eth0 down")
	a.IP("link set eth0 up")
	local := func(c *netnstest.Container) string {
		for _, f := range strings.Fields(c.IP("-6 -br addr show dev eth0")) {
			if strings.HasPrefix(f, "fe80:") {
				return netnstest.Host(f)
			}
		}
		return ""
	}
	lab.Eventually("link-local address", func() bool {
		return local(a) != "" && !strings.Contains(a.IP("-6 addr show dev eth0"), "tentative")
	})
	a.Run("ping", "-q", "-c2", "-i0.01", "-W10", local(b)+"%eth0")
}

// dhcp has a ask for an address as a DHCP client does that has none, b answer as a server, and a try to be a server itself.
func dhcp(t *testing.T, lab *netnstest.Lab, d *netnstest.Daemon, a, b *netnstest.Container) {
	t.Helper()
	a.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
	a.IP("-4 addr flush dev eth0")
	client, server := udpOn(t, a, ":68"), udpOn(t, b, ":67")
	if _, err := client.WriteTo([]byte("discover"), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "discover" || from.String() != "0.0.0.0:68" {
		t.Fatalf("the server got %q from %v, %v", buf[:n], from, err)
	}
	if _, err = server.WriteTo([]byte("offer"), &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil {
		t.Fatal(err)
	}
	if n, _, err = client.ReadFrom(buf); err != nil || string(buf[:n]) != "offer" {
		t.Fatalf("the client got %q, %v", buf[:n], err)
	}
	a.IP("addr add " + a4 + "/24 dev eth0")
	a.Run("ping", "-q", "-c1", "-W10", b4)
	if n := lostButDown(d); n != 0 {
		t.Errorf("%d packets were dropped:\n%s", n, d.Must("drops"))
	}
	if _, err := udpOn(t, a, ":67").WriteTo([]byte("offer"), &net.UDPAddr{IP: net.ParseIP(b4), Port: 68}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually("the lawless offer is dropped", func() bool { return dropped(d, "a", "dhcp_server") == 1 })
}

// udpOn opens a socket on eth0 that needs no address.
func udpOn(t *testing.T, c *netnstest.Container, addr string) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	err := c.Do(func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			var serr error
			err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0") })
			if err == nil {
				err = serr
			}
			return err
		}}
		conn, err = lc.ListenPacket(t.Context(), "udp4", addr)
		return err
	})
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(netnstest.Patience))
	}
	if err != nil {
		t.Fatalf("open UDP socket %s in %s: %v", addr, c.Name, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// TestGuardFlags are asked for, shown, kept over a restart, and refused when they make no sense.
func TestGuardFlags(t *testing.T) {
	t.Parallel()
	lab := netnstest.New(t)
	d := lab.Daemon()
	a, b := d.Pair("net1", "--subnet", subnet4)
	c := lab.Container("c")
	flags := []string{"--netns", c.Name, "--source-guard", "--storm", "broadcast=100", "--storm", "unknown=5", "--storm", "multicast=off"}
	d.Must(append([]string{"add-port", "net1", "c"}, flags...)...)
	check := func() {
		t.Helper()
		if p := portOf(t, d, "c"); !p.SourceGuard || len(p.Storm) != 2 || p.Storm["broadcast"] != 100 || p.Storm["unknown"] != 5 {
			t.Errorf("the port has guard %v and meters %v", p.SourceGuard, p.Storm)
		}
		if out := d.Must("show", "port", "c"); !strings.Contains(out, "source-guard") || !strings.Contains(out, "Storm meters: broadcast=100, unknown=5") {
			t.Errorf("show says:\n%s", out)
		}
		for flow, want := range map[string]string{
			"in_port=c,tcp,ip_src=10.9.0.9,ip_dst=10.9.0.2": "drop: source_ip",
			"in_port=c,arp,arp_tpa=10.9.0.2":                "at most 100 broadcast packets/s",
		} {
			if out := d.Must("trace", flow); !strings.Contains(out, want) {
				t.Errorf("trace %s says:\n%s", flow, out)
			}
		}
	}
	check()
	d.Stop()
	d.Start()
	check()
	for _, tt := range []struct{ words, storm string }{
		{"use KIND=PPS", "broadcast"}, {"use KIND=PPS", "unicast=9"}, {"use KIND=PPS", "broadcast=many"},
		{"use KIND=PPS", "=9"}, {"use KIND=PPS", "broadcast="},
	} {
		d.Refused(2, tt.words, "add-port", "net1", "x", "--netns", a.Name, "--ifname", "eth1", "--storm", tt.storm)
	}
	for _, rate := range []string{"-1", "10000001"} {
		d.Refused(1, "use 1 to 10000000", "add-port", "net1", "x", "--netns", b.Name, "--ifname", "eth1", "--storm", "broadcast="+rate)
	}
}
