package netlab_test

import (
	"net/netip"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
)

// uplinked is a network and two shared uplinks of one router; a1's TCP port 80 is published at 8080.
//
//	a1 10.1.0.2 fd01::2 --- a: MTU 1500, masqueraded --- router --- u: MTU 1400, the host's 192.0.2.2, 2001:db8::2, metric 1
//	                                                           \--- w: MTU 1500, the host's 198.51.100.2, 2001:db8:5::2, metric 2
//
// The uplinks' ports stand for what is outside.
func uplinked(t testing.TB, masquerade pipeline.Masquerade, o ...netlab.Option) (lab *netlab.Lab, a1, u, w *netlab.Port) {
	t.Helper()
	lab = netlab.New(t, append([]netlab.Option{netlab.Stepped(), netlab.NoCoalesce()}, o...)...)
	a1 = lab.Port("a", "a1").Address("10.1.0.2", "fd01::2")
	u = lab.Port("u", "u", netlab.MTU(9000)).Address("203.0.113.9", "2001:db8:f::9")
	w = lab.Port("w", "w").Address("203.0.113.10", "2001:db8:f::10")
	lab.Gateway("a", 1500, "10.1.0.1/24", "fd01::1/64")
	peer := [6]byte{0x0e, 5: 1}
	lab.Interface("u", router.Interface{MTU: 1400, Peer: peer, Uplink: true, Shared: true, External: addrs("192.0.2.2", "2001:db8::2")})
	lab.Interface("w", router.Interface{MTU: 1500, Peer: peer, Uplink: true, Shared: true, External: addrs("198.51.100.2", "2001:db8:5::2")})
	uplinkRoutes(lab, 1)
	lab.NAT("a", masquerade)
	lab.NAT("u", pipeline.MasqueradeOff)
	lab.NAT("w", pipeline.MasqueradeOff)
	if err := lab.Published().Add(&nat.Publication{
		Owner: "a1", Zone: 1, Proto: packet.ProtoTCP, Low: 8080, High: 8080, ToPort: 80, To: []netip.Addr{a1.IP4, a1.IP6},
	}); err != nil {
		t.Fatal(err)
	}
	heard(a1)
	u.Send(TCP(u.From(1), outside("192.0.2.2", 8080), Flags(packet.TCPSyn)), TCP(u.From6(1), outside("2001:db8::2", 8080), Flags(packet.TCPSyn)))
	lab.Settle()
	a1.Send(ARPReply(a1.From(0), To(macOf(a1.Net().Gateway().If.MAC), "10.1.0.1", 0)), ND(136, "fd01::2", []NDOption{TargetLLA(macOf(a1.MAC))},
		a1.From6(0), To(macOf(a1.Net().Gateway().If.MAC), "fd01::1", 0), Echo(0x6000, 0)))
	lab.Connections().RemovePort(u.ID())
	lab.Discard()
	return lab, a1, u, w
}

// uplinkRoutes lets u be the way out with a metric, beside w's of 2.
func uplinkRoutes(lab *netlab.Lab, metric uint32) {
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	lab.Router("main").SetRoutes([]router.StaticRoute{
		{Prefix: all4, Interface: "u", Metric: metric}, {Prefix: all6, Interface: "u", Metric: metric}, {Prefix: all4, Interface: "w", Metric: 2},
		{Prefix: all6, Interface: "w", Metric: 2},
	})
}

func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// outside is a receiver as a frame from outside has it: the MAC is the host's interface's, which the router doesn't know.
func outside(ip string, port uint16) Option { return To("02:ee:ee:ee:ee:01", ip, port) }

// uplinkWays are what a1 says to somebody behind u and what it hears, IPv4 and IPv6. The MACs are the link's.
func uplinkWays(a1, u *netlab.Port) [][2]leg {
	var all [][2]leg
	for _, c := range [][3]string{{"10.1.0.2", "203.0.113.9", "192.0.2.2"}, {"fd01::2", "2001:db8:f::9", "2001:db8::2"}} {
		in, out, host := c[0], c[1], c[2]
		all = append(all, [2]leg{
			{from: a1, to: u, src: in, dst: out, src2: host, dst2: out, port: 61007, at: 9, port2: 61007, at2: 9, identical: 61007, echo2: 61007},
			{from: u, to: a1, src: out, dst: host, src2: out, dst2: in, port: 9, at: 61007, port2: 9, at2: 61007, identical: 61007, echo2: 61007},
		})
	}
	return all
}

// goesOut is leg.check for a link, whose peer has one MAC.
func (p leg) goesOut(t *testing.T, build func(...Option) *packet.Frame, o ...Option) {
	t.Helper()
	p.from.Send(build(p.sent(o...)...))
	i := p.to.Net().Gateway().If
	p.to.Expect(t, build(append(o, From(macOf(i.MAC), p.src2, p.port2), To(macOf(i.Peer), p.dst2, p.at2), Echo(p.echo2, 1), TTL(63))...))
}

// comesIn is leg.check for what was read from a link: whatever its MACs are, it is for the router.
func (p leg) comesIn(t *testing.T, build func(...Option) *packet.Frame, o ...Option) {
	t.Helper()
	p.from.Send(build(append(o, From("02:dd:dd:dd:dd:01", p.src, p.port), outside(p.dst, p.at), Echo(p.identical, 1))...))
	p.to.Expect(t, build(p.received(o...)...))
}

// By a shared uplink masqueraded connections work both ways, super-frames whole, by the cache, without a question for any MAC.
func TestUplink(t *testing.T) {
	for _, m := range []pipeline.Masquerade{pipeline.MasqueradeAuto, pipeline.MasqueradeOn} {
		lab, a1, u, _ := uplinked(t, m)
		for _, way := range uplinkWays(a1, u) {
			there, back := way[0], way[1]
			there.goesOut(t, ICMPEcho)
			back.comesIn(t, ICMPEchoReply)
			there.goesOut(t, TCP, Flags(packet.TCPSyn))
			back.comesIn(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
			there.goesOut(t, TCP)
			back.comesIn(t, TCP)
			before := lab.Path().WorkerCounters()[0].FlowHits
			for range 3 {
				there.goesOut(t, UDP, Size(1200))
				back.comesIn(t, UDP, Size(12))
				there.goesOut(t, TCP, GSO(1200), Size(20000))
				back.comesIn(t, TCP, GSO(1300), Size(30000))
			}
			if hits := lab.Path().WorkerCounters()[0].FlowHits - before; hits != 10 {
				t.Errorf("%d of 12 frames hit the cache, want 10: all but the first of each UDP flow", hits)
			}
		}
		lab.ExpectDrops(t, map[packet.DropReason]int{})
		lab.ExpectNothing(t)
		if n := lab.FDB("u").Len(); n != 0 {
			t.Errorf("%d MACs were learned on a link", n)
		}
		if n := len(lab.Router("main").Neighbors().List()); n != 2 {
			t.Errorf("%d neighbors, want a1's addresses only", n)
		}
	}
}

// What is read from a shared uplink and is nobody's is dropped by name and never answered: it may be the host's.
func TestUplinkForeign(t *testing.T) {
	lab, a1, u, _ := uplinked(t, pipeline.MasqueradeAuto)
	quoted := UDP(From(macOf(u.MAC), "192.0.2.2", 4000), To(macOf(u.MAC), "203.0.113.9", 53)).Bytes()[14:]
	quoted6 := UDP(From(macOf(u.MAC), "2001:db8::2", 4000), To(macOf(u.MAC), "2001:db8:f::9", 53)).Bytes()[14:]
	for _, c := range []struct {
		name   string
		frame  *packet.Frame
		reason packet.DropReason
	}{
		{"SYN", TCP(u.From(5), outside("192.0.2.2", 61001), Flags(packet.TCPSyn)), packet.DropForeign},
		{"datagram", UDP(u.From6(5), outside("2001:db8::2", 61001)), packet.DropForeign},
		{"TTL of 1", UDP(u.From(5), outside("192.0.2.2", 61001), TTL(1)), packet.DropForeign},
		{"echo reply", ICMPEchoReply(u.From(0), outside("192.0.2.2", 0), Echo(61001, 1)), packet.DropForeign},
		{"echo request", ICMPEcho(u.From6(0), outside("2001:db8::2", 0), Echo(61001, 1)), packet.DropForeign},
		{"ICMP error", ICMP(3, u.From(0), outside("192.0.2.2", 0), Payload(quoted)), packet.DropForeign},
		{"another address", UDP(u.From(5), outside("192.0.2.77", 8080)), packet.DropForeign},
		{"inner address", UDP(u.From(5), outside("10.1.0.2", 80)), packet.DropForeign},
		{"gateway", ICMPEcho(u.From(0), outside("10.1.0.1", 0)), packet.DropForeign},
		{"own source", TCP(From(macOf(u.MAC), "192.0.2.2", 8080), outside("192.0.2.2", 8080), Flags(packet.TCPSyn)), packet.DropMartian},
		{"loopback source", TCP(From(macOf(u.MAC), "127.0.0.1", 5), outside("192.0.2.2", 8080), Flags(packet.TCPSyn)), packet.DropMartian},
		{"echo reply by IPv6", ICMPEchoReply(u.From6(0), outside("2001:db8::2", 0), Echo(61001, 1)), packet.DropForeign},
		{"ICMP error by IPv6", ICMP(1, u.From6(0), outside("2001:db8::2", 0), Payload(quoted6)), packet.DropForeign},
		{"another address by IPv6", UDP(u.From6(5), outside("2001:db8::77", 8080)), packet.DropForeign},
		{"inner address by IPv6", UDP(u.From6(5), outside("fd01::2", 80)), packet.DropForeign},
		{"own source by IPv6", TCP(From(macOf(u.MAC), "2001:db8::2", 8080), outside("2001:db8::2", 8080), Flags(packet.TCPSyn)), packet.DropMartian},
		{"loopback source by IPv6", TCP(From(macOf(u.MAC), "::1", 5), outside("2001:db8::2", 8080), Flags(packet.TCPSyn)), packet.DropMartian},
		{"inner source by IPv6", TCP(From(macOf(u.MAC), "fd01::77", 5), outside("2001:db8::2", 8080), Flags(packet.TCPSyn)), packet.DropReversePath},
		{"inner source", TCP(From(macOf(u.MAC), "10.1.0.77", 5), outside("192.0.2.2", 8080), Flags(packet.TCPSyn)), packet.DropReversePath},
		{"broadcast", UDP(u.From(5), To("ff:ff:ff:ff:ff:ff", "192.0.2.2", 8080)), packet.DropNotRoutable},
		{"ARP", ARPRequest(u.From(0), To("ff:ff:ff:ff:ff:ff", "192.0.2.2", 0)), packet.DropNotRoutable},
		{"solicitation", ND(135, "2001:db8::2", nil, u.From6(0), outside("2001:db8::2", 0)), packet.DropNotRoutable},
		{"VLAN", UDP(u.From(5), outside("192.0.2.2", 8080), VLAN(7)), packet.DropVLANNotMember},
	} {
		before := lab.Drops()[c.reason]
		u.Send(c.frame)
		if n := lab.Drops()[c.reason] - before; n != 1 {
			t.Errorf("%s: %d drops as %s, want one; all: %v", c.name, n, c.reason, lab.Drops())
		}
	}
	before := lab.Drops()[packet.DropForeign]
	u.Send(IP(packet.ProtoUDP, u.From(0), outside("192.0.2.2", 0), Fragment(100, false), Size(200)),
		IP(packet.ProtoUDP, u.From6(0), outside("2001:db8::2", 0), Fragment(100, false), Size(200)))
	lab.Advance(router.FragmentTime)
	lab.TendRouters()
	if n := lab.Drops()[packet.DropForeign] - before; n != 2 {
		t.Errorf("%d later fragments whose first ones were the host's are dropped, want one of each family", n)
	}
	a1.ExpectNothing(t)
	lab.ExpectNothing(t)
}

// A published port is reached by the addresses of all uplinks, and answered by the uplink that the client came by, whatever the routes say, also by errors;
// from inside it is reached by these addresses too.
func TestUplinkPublished(t *testing.T) {
	lab, a1, u, w := uplinked(t, pipeline.MasqueradeAuto)
	for _, c := range []struct {
		by                   *netlab.Port
		client, host, server string
	}{{u, "203.0.113.9", "192.0.2.2", "10.1.0.2"}, {u, "2001:db8:f::9", "2001:db8::2", "fd01::2"},
		{w, "203.0.113.10", "198.51.100.2", "10.1.0.2"}, {w, "2001:db8:f::10", "2001:db8:5::2", "fd01::2"}} {
		there := leg{from: c.by, to: a1, src: c.client, dst: c.host, src2: c.client, dst2: c.server, port: 5000, at: 8080, port2: 5000, at2: 80}
		back := leg{from: a1, to: c.by, src: c.server, dst: c.client, src2: c.host, dst2: c.client, port: 80, at: 5000, port2: 8080, at2: 5000}
		there.comesIn(t, TCP, Flags(packet.TCPSyn))
		back.goesOut(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
		for range 2 {
			there.comesIn(t, TCP, Size(100))
			back.goesOut(t, TCP, GSO(1000), Size(10000))
		}
		// So is an error about what the client has sent.
		i, kind := c.by.Net().Gateway().If, map[bool]uint8{true: 3, false: 1}[c.server == "10.1.0.2"]
		quoted := TCP(there.received(Size(100))...).Bytes()[14:]
		sent := TCP(From(macOf(i.Peer), c.client, 5000), To(macOf(i.MAC), c.host, 8080), TTL(63), Size(100)).Bytes()[14:]
		a1.Send(ICMP(kind, From(macOf(a1.MAC), c.server, 0), a1.Via(netip.MustParseAddr(c.client), 0), Payload(quoted)))
		c.by.Expect(t, ICMP(kind, From(macOf(i.MAC), c.host, 0), To(macOf(i.Peer), c.client, 0), TTL(63), Payload(sent)))
	}
	gwa := map[bool]string{true: "10.1.0.1", false: "fd01::1"}
	for _, c := range [][2]string{{"10.1.0.2", "192.0.2.2"}, {"fd01::2", "2001:db8::2"}, {"10.1.0.2", "198.51.100.2"}, {"fd01::2", "2001:db8:5::2"}} {
		gw, port := gwa[c[0] == "10.1.0.2"], uint16(61001)
		if c[1] == "198.51.100.2" || c[1] == "2001:db8:5::2" {
			port++
		}
		there := leg{from: a1, to: a1, src: c[0], dst: c[1], src2: gw, dst2: c[0], port: port, at: 8080, port2: port, at2: 80}
		back := leg{from: a1, to: a1, src: c[0], dst: gw, src2: c[1], dst2: c[0], port: 80, at: port, port2: 8080, at2: port}
		handshake(t, there, back)
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{})
	lab.ExpectNothing(t)
}

// Towards an uplink with addresses of its own auto masquerades what means something else elsewhere (RFC 1918, 4193, 6598); other addresses
// leave as they are. By one that is shared all are masqueraded.
func TestMasqueradeAuto(t *testing.T) {
	for _, c := range []struct {
		in, gateway, out, outGateway string
		bits                         string
		hidden                       bool
	}{
		{"10.1.0.2", "10.1.0.1", "192.0.2.9", "192.0.2.1", "/24", true}, {"172.31.0.2", "172.31.0.1", "192.0.2.9", "192.0.2.1", "/24", true},
		{"192.168.7.2", "192.168.7.1", "192.0.2.9", "192.0.2.1", "/24", true}, {"100.64.0.2", "100.64.0.1", "192.0.2.9", "192.0.2.1", "/24", true},
		{"100.128.0.2", "100.128.0.1", "192.0.2.9", "192.0.2.1", "/24", false}, {"203.0.113.2", "203.0.113.1", "192.0.2.9", "192.0.2.1", "/24", false},
		{"fd01::2", "fd01::1", "2001:db8::9", "2001:db8::1", "/64", true}, {"2001:db8:5::2", "2001:db8:5::1", "2001:db8::9", "2001:db8::1", "/64", false},
	} {
		lab := netlab.New(t, netlab.Stepped(), netlab.NoCoalesce())
		a, d, s := lab.Port("a", "a"), lab.Port("d", "d"), lab.Port("s", "s")
		for p, addr := range map[*netlab.Port]string{a: c.in, d: c.out} {
			if netip.MustParseAddr(addr).Is4() {
				p.Address(addr, "fe80::1")
			} else {
				p.Address("192.0.2.99", addr)
			}
		}
		lab.Gateway("a", 1500, c.gateway+c.bits)
		lab.Interface("d", router.Interface{MTU: 1500, Uplink: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(c.outGateway + c.bits)}})
		shared := router.Interface{MTU: 1500, Peer: [6]byte{0x0e, 5: 1}, Uplink: true, Shared: true, External: addrs("198.51.100.2", "2001:db8:a::2")}
		lab.Interface("s", shared)
		lab.Router("main").SetRoutes([]router.StaticRoute{
			{Prefix: netip.MustParsePrefix("198.18.0.0/15"), Interface: "s"}, {Prefix: netip.MustParsePrefix("2001:db8:f::/64"), Interface: "s"},
		})
		for _, n := range []string{"a", "d", "s"} {
			lab.NAT(n, pipeline.MasqueradeAuto)
		}
		heard(d)
		lab.Discard()
		sent := UDP(From(macOf(a.MAC), c.in, 61007), To(macOf(a.Net().Gateway().If.MAC), c.out, 9))
		a.Send(sent)
		lab.Discard() // it asks for d
		gw := macOf(d.Net().Gateway().If.MAC)
		if netip.MustParseAddr(c.out).Is4() {
			d.Send(ARPReply(d.From(0), To(gw, c.outGateway, 0)))
		} else {
			d.Send(ND(136, c.out, []NDOption{TargetLLA(macOf(d.MAC))}, d.From6(0), To(gw, c.outGateway, 0), Echo(0x6000, 0)))
		}
		seen := c.in
		if c.hidden {
			seen = c.outGateway
		}
		d.Expect(t, UDP(From(gw, seen, 61007), To(macOf(d.MAC), c.out, 9), TTL(63)))
		way := leg{from: a, to: s, src: c.in, dst: "198.18.0.9", src2: "198.51.100.2", dst2: "198.18.0.9", port: 61007, at: 9, port2: 61007, at2: 9}
		if c.bits == "/64" {
			way.dst, way.src2, way.dst2 = "2001:db8:f::9", "2001:db8:a::2", "2001:db8:f::9"
		}
		way.goesOut(t, UDP)
		lab.ExpectDrops(t, nil)
	}
}

// New connections take the route of the lowest metric; those there are stay with the address that they have.
func TestUplinkMetrics(t *testing.T) {
	for i := range 2 {
		lab, a1, u, w := uplinked(t, pipeline.MasqueradeAuto)
		way := uplinkWays(a1, u)[i]
		there, back := way[0], way[1]
		there.goesOut(t, UDP)
		back.comesIn(t, UDP)
		uplinkRoutes(lab, 3)
		there.goesOut(t, UDP)
		back.comesIn(t, UDP)
		there.goesOut(t, UDP)
		other := there
		other.to, other.src2, other.port, other.port2 = w, []string{"198.51.100.2", "2001:db8:5::2"}[i], 61008, 61008
		other.goesOut(t, UDP)
		quoted := UDP(other.received()...).Bytes()[14:]
		u.Send(ICMP([]uint8{3, 1}[i], From(macOf(u.MAC), there.dst, 0), outside(back.dst, 0), Payload(quoted))) // quotes what has another address
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropForeign: 1})
		lab.ExpectNothing(t)
	}
}

// What is larger than the uplink's MTU is refused with that MTU, or cut; so is, towards the outside, what is larger than the network's.
// Errors from outside reach the container.
func TestUplinkMTU(t *testing.T) {
	lab, a1, u, _ := uplinked(t, pipeline.MasqueradeAuto)
	for i, way := range uplinkWays(a1, u) {
		there, back := way[0], way[1]
		there.from.Send(UDP(there.sent(Size(1450), ID(7, true))...))
		if kind, code, mtu, _ := icmpOf(t, a1); [2]byte{kind, code} != [2][2]byte{{3, 4}, {2, 0}}[i] || mtu != 1400 {
			t.Errorf("error %d %d, MTU %d", kind, code, mtu)
		}
		there.goesOut(t, UDP, Size(1300))
		back.from.Send(UDP(append([]Option{Size(1500), ID(7, true)}, From(macOf(u.MAC), back.src, back.port), outside(back.dst, back.at))...))
		if kind, code, mtu, quote := icmpOf(t, u); [2]byte{kind, code} != [2][2]byte{{3, 4}, {2, 0}}[i] || mtu != 1500 {
			t.Errorf("error to the outside %d %d, MTU %d, about %x", kind, code, mtu, quote)
		}
		quoted := UDP(From(macOf(u.MAC), there.src2, there.port2), To(macOf(u.MAC), there.dst2, there.at2), Size(1300), ID(0, true)).Bytes()[14:]
		u.Send(ICMP([]uint8{3, 2}[i], From(macOf(u.MAC), []string{"203.0.113.1", "2001:db8:f::1"}[i], 0), outside(back.dst, 0),
			Echo(0, 1280), Payload(quoted)))
		kind, _, mtu, quote := icmpOf(t, a1)
		if kind != []byte{3, 2}[i] || mtu != 1280 {
			t.Errorf("error %d, MTU %d", kind, mtu)
		}
		src := quote[12:16]
		if i == 1 {
			src = quote[8:24]
		}
		if got, _ := netip.AddrFromSlice(src); got != netip.MustParseAddr(there.src) {
			t.Errorf("the error quotes a datagram from %v", got)
		}
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropFragNeeded: 4})
	a1.Send(UDP(uplinkWays(a1, u)[0][0].sent(Size(1450), ID(7, false))...))
	if got := u.Take(); len(got) != 2 || [6]byte(got[1][:6]) != u.Net().Gateway().If.Peer {
		t.Errorf("fragments %x", got)
	}
	lab.ExpectNothing(t)
}

// A network that is not masqueraded can't use a shared uplink: its senders are told. Nor can what has no ports.
func TestUplinkSource(t *testing.T) {
	lab, a1, u, _ := uplinked(t, pipeline.MasqueradeOff)
	a1.Send(UDP(a1.From(5), a1.Via(u.IP4, 9)))
	if kind, code, _, _ := icmpOf(t, a1); kind != 3 || code != 13 {
		t.Errorf("error %d %d", kind, code)
	}
	a1.Send(UDP(a1.From6(5), a1.Via(u.IP6, 9)))
	if kind, code, _, _ := icmpOf(t, a1); kind != 1 || code != 1 {
		t.Errorf("error %d %d", kind, code)
	}
	a1.Send(UDP(a1.From(5), a1.Via(u.IP4, 9), Size(1450), ID(7, false)), IP(47, a1.From(0), a1.Via(u.IP4, 0), Size(20)))
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropUplinkRefused: 4})
	u.ExpectNothing(t)
	lab.NAT("a", pipeline.MasqueradeAuto)
	a1.Send(IP(47, a1.From(0), a1.Via(u.IP4, 0), Size(20)))
	u.ExpectNothing(t)
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropUplinkRefused: 5})
	lab.Discard()
	a1.Send(UDP(a1.From(5), a1.Via(netip.MustParseAddr("192.0.2.2"), 9))) // the host is not behind its own uplink
	if kind, code, _, _ := icmpOf(t, a1); kind != 3 || code != 0 {
		t.Errorf("error %d %d", kind, code)
	}
	u.ExpectNothing(t)
}

// A link that is no uplink, as to the host, brings what is from the addresses that routes lead to by it, and not what somebody behind the
// host wants to reach by it. What would go back to him is refused.
func TestLink(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped(), netlab.NoCoalesce())
	a1 := lab.Port("a", "a1").Address("10.1.0.2", "fd01::2")
	h := lab.Port("h", "h").Address("192.0.2.2", "2001:db8::2")
	lab.Gateway("a", 1500, "10.1.0.1/24", "fd01::1/64")
	lab.Interface("h", router.Interface{MTU: 1500, Peer: h.MAC, Prefixes: []netip.Prefix{netip.MustParsePrefix("169.254.7.1/32")}, External: addrs("192.0.2.2"),
		Sources: addrs("10.1.0.8")})
	lab.Router("main").SetRoutes([]router.StaticRoute{
		{Prefix: netip.MustParsePrefix("192.0.2.2/32"), Interface: "h"}, {Prefix: netip.MustParsePrefix("2001:db8::2/128"), Interface: "h"},
		{Prefix: netip.MustParsePrefix("10.5.0.0/16"), Interface: "none"}, {Prefix: netip.MustParsePrefix("10.6.0.0/16"), Interface: "a"},
	})
	meet(t, h, a1)
	for _, c := range [][2]string{{"10.1.0.2", "192.0.2.2"}, {"fd01::2", "2001:db8::2"}} {
		there := leg{from: a1, to: h, src: c[0], dst: c[1], src2: c[0], dst2: c[1], port: 5000, at: 80, port2: 5000, at2: 80}
		there.goesOut(t, TCP, Size(100))
		back := leg{from: h, to: a1, src: c[1], dst: c[0], src2: c[1], dst2: c[0], port: 80, at: 5000, port2: 80, at2: 5000}
		back.comesIn(t, TCP, GSO(1000), Size(10000))
	}
	h.Send(UDP(From(macOf(h.MAC), "172.17.0.2", 80), outside("10.1.0.2", 5000)), UDP(From(macOf(h.MAC), "2001:db8:d::2", 80), outside("fd01::2", 5000)))
	h.Send(ICMPEcho(h.From(0), outside("10.1.0.1", 0), Echo(3, 1)), ICMPEcho(h.From6(0), outside("fd01::1", 0), Echo(3, 1)))
	if got := h.Take(); len(got) != 2 {
		t.Errorf("%d answers to pings of the gateway", len(got))
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropReversePath: 2})
	inside := leg{from: h, to: a1, src: "10.1.0.8", dst: "10.1.0.2", src2: "10.1.0.8", dst2: "10.1.0.2", port: 80, at: 5000, port2: 80, at2: 5000}
	inside.comesIn(t, UDP) // an address of his own in the network
	h.Send(UDP(From(macOf(h.MAC), "10.1.0.9", 1), outside("10.1.0.2", 2)))
	h.Send(UDP(h.From(1), outside("192.0.2.2", 2)))
	if kind, code, _, _ := icmpOf(t, h); kind != 3 || code != 0 {
		t.Errorf("error %d %d", kind, code)
	}
	for _, dst := range []string{"10.5.0.1", "10.6.0.1"} { // neither is a link
		a1.Send(UDP(a1.From(1), a1.Via(netip.MustParseAddr(dst), 2)))
		if kind, code, _, _ := icmpOf(t, a1); kind != 3 || code != 0 {
			t.Errorf("error %d %d", kind, code)
		}
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropReversePath: 3, packet.DropNoRoute: 3})
	lab.ExpectNothing(t)
	h.Remove()
	a1.Send(UDP(a1.From(1), a1.Via(netip.MustParseAddr("192.0.2.2"), 2)))
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropReversePath: 3, packet.DropNoRoute: 3, packet.DropNoReceiver: 1})
}

// TestDedicatedHome: answers of a connection that came by a dedicated uplink leave by it, though another one has the lower metric; while it has
// no route they don't leave at all, rather than with its address by the other one.
func TestDedicatedHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ all, client, near, d, dOwn, e, eOwn, bits string }{
		{"0.0.0.0/0", "203.0.113.5", "10.1.0.1", "192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2", "/24"},
		{"::/0", "2001:db8:f::5", "fd01::1", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1", "2001:db8:2::2", "/64"},
	} {
		lab := netlab.New(t, netlab.Stepped(), netlab.NoCoalesce())
		a1 := lab.Port("a", "a1").Address("10.1.0.2", "fd01::2")
		d, e := lab.Port("d", "d").Address("192.0.2.1", "2001:db8:1::1"), lab.Port("e", "e").Address("198.51.100.1", "2001:db8:2::1")
		lab.Gateway("a", 1500, "10.1.0.1/24", "fd01::1/64")
		for name, addr := range map[string]string{"d": c.dOwn, "e": c.eOwn} {
			lab.Interface(name, router.Interface{MTU: 1500, Uplink: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(addr + c.bits)}})
		}
		routes := []router.StaticRoute{
			{Prefix: netip.MustParsePrefix(c.all), NextHops: addrs(c.d), Interface: "d", Metric: 1},
			{Prefix: netip.MustParsePrefix(c.all), NextHops: addrs(c.e), Interface: "e", Metric: 2},
		}
		lab.Router("main").SetRoutes(routes)
		for _, n := range []string{"a", "d", "e"} {
			lab.NAT(n, pipeline.MasqueradeAuto)
		}
		if err := lab.Published().Add(&nat.Publication{
			Owner: "a1", Zone: 1, Proto: packet.ProtoTCP, Low: 8080, High: 8080, ToPort: 80, To: []netip.Addr{a1.IP4, a1.IP6},
		}); err != nil {
			t.Fatal(err)
		}
		gatewayOf := func(p *netlab.Port, ip string, port uint16) Option {
			return To(macOf(p.Net().Gateway().If.MAC), ip, port)
		}
		v6 := netip.MustParseAddr(c.client).Is6()
		// answers for its address, when its gateway asks
		answers := func(p *netlab.Port, gw string) {
			if v6 {
				p.Send(ND(136, p.IP6.String(), []NDOption{TargetLLA(macOf(p.MAC))}, p.From6(0), gatewayOf(p, gw, 0), Echo(0x6000, 0)))
			} else {
				p.Send(ARPReply(p.From(0), gatewayOf(p, gw, 0)))
			}
			lab.Settle()
		}
		own := a1.From(80)
		if v6 {
			own = a1.From6(80)
		}
		answer := func() *packet.Frame {
			return TCP(own, gatewayOf(a1, c.client, 5000), Flags(packet.TCPSyn|packet.TCPAck))
		}
		e.Send(TCP(From(macOf(e.MAC), c.client, 5000), gatewayOf(e, c.eOwn, 8080), Flags(packet.TCPSyn)))
		lab.Settle()
		answers(a1, c.near)
		a1.Send(answer())
		lab.Settle()
		answers(d, c.dOwn)
		answers(e, c.eOwn)
		lab.Discard()
		a1.Send(answer())
		lab.Settle()
		e.Expect(t, TCP(From(macOf(e.Net().Gateway().If.MAC), c.eOwn, 8080), To(macOf(e.MAC), c.client, 5000), Flags(packet.TCPSyn|packet.TCPAck), TTL(63)))
		d.ExpectNothing(t)
		lab.Discard()
		lab.Router("main").SetRoutes(routes[:1])
		a1.Send(answer())
		lab.Settle()
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNoRoute: 1})
	}
}
