package netlab_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/router"
)

// routed is two networks of one router, a of MTU 1500 and b of MTU 1400, whose ports have been heard:
//
//	a1 10.1.0.2 fd01::2 --+-- a: 10.1.0.1/24 fd01::1/64 --- router --- b: 10.2.0.1/24 fd02::1/64 --- b1 10.2.0.2 fd02::2
//	a2 10.1.0.3 fd01::3 --+
func routed(t testing.TB, o ...netlab.Option) (lab *netlab.Lab, a1, a2, b1 *netlab.Port) {
	t.Helper()
	lab = netlab.New(t, append([]netlab.Option{netlab.Stepped(), netlab.NoCoalesce()}, o...)...)
	a1 = lab.Port("a", "a1").Address("10.1.0.2", "fd01::2")
	a2 = lab.Port("a", "a2").Address("10.1.0.3", "fd01::3")
	b1 = lab.Port("b", "b1", netlab.MTU(1400)).Address("10.2.0.2", "fd02::2")
	lab.Gateway("a", 1500, "10.1.0.1/24", "fd01::1/64")
	lab.Gateway("b", 1400, "10.2.0.1/24", "fd02::1/64")
	for _, p := range []*netlab.Port{a1, a2, b1} {
		heard(p)
	}
	lab.Discard()
	return lab, a1, a2, b1
}

// heard lets the network learn where the port is, without a flood.
func heard(p *netlab.Port) {
	p.Send(packettest.ARPReply(p.From(0), packettest.To(macOf(p.Net().Gateway().If.MAC), "10.1.0.1", 0)))
}

// meet lets port p answer when its gateway asks for it, in both families, because of a datagram from the other port.
func meet(t testing.TB, from, p *netlab.Port) {
	t.Helper()
	gw4, gw6 := gatewayOf(p)
	from.Send(packettest.UDP(from.From(1), from.Via(p.IP4, 1)))
	p.Take()
	p.Send(packettest.ARPReply(p.From(0), packettest.To(macOf(p.Net().Gateway().If.MAC), gw4, 0)))
	p.Take()
	from.Send(packettest.UDP(from.From6(1), from.Via(p.IP6, 1)))
	p.Take()
	na := packettest.ND(136, p.IP6.String(), []packettest.NDOption{packettest.TargetLLA(macOf(p.MAC))}, p.From6(0),
		packettest.To(macOf(p.Net().Gateway().If.MAC), gw6, 0), packettest.Echo(0x6000, 0))
	p.Send(na)
	if got := p.Take(); len(got) != 1 {
		t.Fatalf("port %s got %d frames once its gateway knew it, want the one that waited", p.Name, len(got))
	}
	from.Lab().Discard()
}

func gatewayOf(p *netlab.Port) (ip4, ip6 string) {
	i := p.Net().Gateway().If
	return i.Source(p.IP4).String(), i.Source(p.IP6).String()
}

func macOf(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// hop is what a datagram from one port to the other looks like when it arrives.
func hop(from, to *netlab.Port, ip netip.Addr, dst netip.Addr) []packettest.Option {
	return []packettest.Option{
		packettest.From(macOf(to.Net().Gateway().If.MAC), ip.String(), 7), packettest.To(macOf(to.MAC), dst.String(), 9), packettest.TTL(63),
	}
}

// Datagrams are routed both ways, IPv4 and IPv6, super-frames whole, with one TTL less and checksums right; the second of a flow by
// the cache.
func TestRouteBetweenNetworks(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	meet(t, b1, a1)
	for _, c := range []struct {
		name     string
		from, to *netlab.Port
		v6       bool
	}{{"v4", a1, b1, false}, {"v4 back", b1, a1, false}, {"v6", a1, b1, true}, {"v6 back", b1, a1, true}} {
		src, dst := c.from.IP4, c.to.IP4
		if c.v6 {
			src, dst = c.from.IP6, c.to.IP6
		}
		sent := []packettest.Option{packettest.From(macOf(c.from.MAC), src.String(), 7), c.from.Via(dst, 9)}
		got := hop(c.from, c.to, src, dst)
		before := lab.Path().WorkerCounters()[0].FlowHits
		for range 3 {
			c.from.Send(packettest.UDP(append(sent, packettest.Size(1200))...))
			c.to.Expect(t, packettest.UDP(append(got, packettest.Size(1200))...))
			c.from.Send(packettest.TCP(append(sent, packettest.GSO(1200), packettest.Size(20000), packettest.Flags(packet.TCPAck))...))
			c.to.Expect(t, packettest.TCP(append(got, packettest.GSO(1200), packettest.Size(20000), packettest.Flags(packet.TCPAck))...))
		}
		if hits := lab.Path().WorkerCounters()[0].FlowHits - before; hits != 4 {
			t.Errorf("%s: %d of 6 frames hit the cache, want 4", c.name, hits)
		}
		c.from.Send(packettest.UDP(append(sent, packettest.TTL(1))...)) // the cached flow may not take it
		c.to.ExpectNothing(t)
		if n := len(c.from.Take()); n != 1 {
			t.Errorf("%s: %d answers to a datagram with a TTL of 1, want one", c.name, n)
		}
	}
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropTTL: 4})
	lab.ExpectNothing(t)
}

// The gateway answers ARP, Neighbor Discovery and echo requests; fragmented ones in TestFragmentsToGateway.
func TestGatewayAnswers(t *testing.T) {
	lab, a1, a2, _ := routed(t)
	gw := macOf(a1.Net().Gateway().If.MAC)
	arp := packettest.ARPRequest(a1.From(0), packettest.To("ff:ff:ff:ff:ff:ff", "10.1.0.1", 0))
	a1.Send(arp)
	if got := a1.Take(); len(got) != 1 || got[0][21] != 2 || [6]byte(got[0][22:28]) != a1.Net().Gateway().If.MAC {
		t.Fatalf("answers to ARP: %x", got)
	}
	a2.Expect(t, arp)
	a1.Send(packettest.ND(135, "fd01::1", []packettest.NDOption{packettest.SourceLLA(macOf(a1.MAC))}, a1.From6(0),
		packettest.To("33:33:ff:00:00:01", "ff02::1:ff00:1", 0)))
	a1.Expect(t, packettest.ND(136, "fd01::1", []packettest.NDOption{packettest.TargetLLA(gw)}, packettest.From(gw, "fd01::1", 0), a1.To6(0),
		packettest.Echo(0xe000, 0)))
	lab.Discard()
	for _, ip := range []string{"10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1", router.LinkLocal(a1.Net().Gateway().If.MAC).String()} {
		from, to := a1.From(0), a1.To(0)
		if netip.MustParseAddr(ip).Is6() {
			from, to = a1.From6(0), a1.To6(0)
		}
		same := []packettest.Option{packettest.Echo(5, 6), packettest.Size(900), packettest.ID(0, true), packettest.TOS(0xb9)}
		a1.Send(packettest.ICMPEcho(append(same, from, packettest.To(gw, ip, 0))...))
		a1.Expect(t, packettest.ICMPEchoReply(append(same, to, packettest.From(gw, ip, 0))...))
	}
	lab.ExpectNothing(t)
}

// icmpOf returns type, code, second word and quoted datagram of the one ICMP error that the port got, whose checksums are right.
func icmpOf(t *testing.T, p *netlab.Port) (kind, code byte, value uint32, quote []byte) {
	t.Helper()
	got := p.Take()
	if len(got) != 1 {
		t.Fatalf("port %s got %d frames, want one ICMP error", p.Name, len(got))
	}
	if err := packettest.Finished(make([]byte, packet.VnetLen), got[0]); err != nil {
		t.Fatalf("the ICMP error is not right: %v", err)
	}
	b := got[0][34:]
	if got[0][12] == 0x86 {
		b = got[0][54:]
	}
	return b[0], b[1], uint32(b[4])<<24 | uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7]), b[8:]
}

// Who sends what can't be delivered is told why, in both families, and what it sent is quoted.
func TestRouterErrors(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	type want struct {
		kind, code byte
		value      uint32
	}
	for _, c := range []struct {
		name   string
		to     string
		o      []packettest.Option
		want   want
		reason packet.DropReason
	}{
		{"ttl", "10.2.0.2", []packettest.Option{packettest.TTL(1)}, want{11, 0, 0}, packet.DropTTL},
		{"hop limit", "fd02::2", []packettest.Option{packettest.TTL(1)}, want{3, 0, 0}, packet.DropTTL},
		{"no route", "192.0.2.1", nil, want{3, 0, 0}, packet.DropNoRoute},
		{"no route v6", "2001:db8::1", nil, want{1, 0, 0}, packet.DropNoRoute},
		{"no service", "10.1.0.1", nil, want{3, 3, 0}, packet.DropNoService},
		{"no service v6", "fd02::1", nil, want{1, 4, 0}, packet.DropNoService},
		{"DF", "10.2.0.2", []packettest.Option{packettest.Size(1450), packettest.ID(1, true)}, want{3, 4, 1400}, packet.DropFragNeeded},
		{"too big", "fd02::2", []packettest.Option{packettest.Size(1430)}, want{2, 0, 1400}, packet.DropFragNeeded},
	} {
		from := a1.From(7)
		if netip.MustParseAddr(c.to).Is6() {
			from = a1.From6(7)
		}
		before := lab.Drops()[c.reason]
		f := packettest.UDP(append([]packettest.Option{from, a1.Via(netip.MustParseAddr(c.to), 9)}, c.o...)...)
		a1.Send(f)
		kind, code, value, quote := icmpOf(t, a1)
		if got := (want{kind, code, value}); got != c.want {
			t.Errorf("%s: ICMP error %+v, want %+v", c.name, got, c.want)
		}
		fits := 576 - 28 // RFC 1812 4.3.2.3
		if f.Bytes()[12] == 0x86 {
			fits = 1280 - 48 // RFC 4443 2.4 c
		}
		if !bytes.HasPrefix(f.Bytes()[14:], quote) || len(quote) != min(len(f.Bytes())-14, fits) {
			t.Errorf("%s: the error quotes %d bytes: %x", c.name, len(quote), quote)
		}
		if got := lab.Drops()[c.reason] - before; got != 1 {
			t.Errorf("%s: %d frames dropped as %s, want 1", c.name, got, c.reason)
		}
	}
	for to, w := range map[string]want{"10.1.0.1": {3, 2, 0}, "fd02::1": {4, 1, 6}} { // no protocol: it is at byte 6 of the IPv6 header
		from := a1.From(0)
		if netip.MustParseAddr(to).Is6() {
			from = a1.From6(0)
		}
		a1.Send(packettest.IP(47, from, a1.Via(netip.MustParseAddr(to), 0), packettest.Size(100)))
		kind, code, value, _ := icmpOf(t, a1)
		if got := (want{kind, code, value}); got != w {
			t.Errorf("no protocol at %s: ICMP error %+v, want %+v", to, got, w)
		}
	}
	a1.Send(packettest.UDP(a1.From(7), a1.Via(netip.MustParseAddr("192.0.2.1"), 9)))
	if got := a1.Take(); len(got) != 1 || got[0][15] != 0xc0 { // RFC 1812 4.3.2.5
		t.Errorf("an ICMP error that is no internetwork control: %x", got)
	}
	a1.Send(packettest.UDP(packettest.From(macOf(a1.MAC), "fe80::9", 7), a1.Via(b1.IP6, 9)))
	if kind, code, _, _ := icmpOf(t, a1); kind != 1 || code != 2 || lab.Drops()[packet.DropMartian] != 1 {
		t.Errorf("a link-local source that leaves its link: ICMP error %d %d, drops %v", kind, code, lab.Drops())
	}
	lab.ExpectNothing(t)
}

// IPv4 without DF is fragmented where the way out is smaller: whole datagrams, fragments and super-frames.
func TestRouterFragments(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	there := []packettest.Option{a1.From(7), a1.Via(b1.IP4, 9), packettest.ID(5, false), packettest.Size(1450)}
	for _, sum := range []packettest.Option{packettest.Complete(), packettest.Partial()} { // which a kernel left to be made
		a1.Send(packettest.UDP(append(there, sum)...))
		got := b1.Take()
		whole := packettest.UDP(append(hop(a1, b1, a1.IP4, b1.IP4), packettest.ID(5, false), packettest.Size(1450))...).Bytes()
		if len(got) != 2 {
			t.Fatalf("%d fragments, want 2", len(got))
		}
		if joined := append(bytes.Clone(got[0][34:]), got[1][34:]...); !bytes.Equal(joined, whole[34:]) {
			t.Errorf("the fragments are not the datagram:\n%x\n%x", joined, whole[34:])
		}
		for i, f := range got {
			h := packet.IPv4(f[14:])
			offset, more := h.Fragment()
			if h.TTL() != 63 || h.ID() != 5 || more != (i == 0) || int(offset)*8 != i*(len(got[0])-34) || packet.Fold(packet.Sum(h[:20], 0)) != 0xffff {
				t.Errorf("fragment %d: %x", i, h[:20])
			}
		}
	}
	// A fragment is cut into fragments of the same datagram, of which the last one is followed by more.
	a1.Send(packettest.IP(packet.ProtoUDP, append(there, packettest.Fragment(0, true), packettest.Size(1448))...),
		packettest.IP(packet.ProtoUDP, append(there, packettest.Fragment(181, true), packettest.Size(1448))...),
		packettest.IP(packet.ProtoUDP, append(there, packettest.Fragment(362, false), packettest.Size(40))...))
	at := 0
	for i, f := range b1.Take() {
		offset, more := packet.IPv4(f[14:]).Fragment()
		if int(offset)*8 != at || more == (at == 2896) {
			t.Errorf("fragment %d of fragments: at %d, %d wanted; more follow: %v", i, int(offset)*8, at, more)
		}
		at += len(f) - 34
	}
	if at != 2*1448+40 {
		t.Errorf("fragments of fragments end at %d", at)
	}
	// Of options, later fragments have those alone that say so: here of a record route and a router alert the latter.
	record, alert := []byte{7, 7, 4, 0, 0, 0, 0}, []byte{148, 4, 0, 0}
	a1.Send(packettest.UDP(append(there, packettest.IPOptions(append(append(record, alert...), 0)...))...))
	if got := b1.Take(); len(got) != 2 || !bytes.Equal(got[0][34:46], append(append(record, alert...), 0)) || got[1][14] != 0x46 || !bytes.Equal(got[1][34:38], alert) ||
		packet.Fold(packet.Sum(got[1][14:38], 0)) != 0xffff || len(got[0])-46+len(got[1])-38 != 8+1450 {
		t.Errorf("fragments with options: %x", got)
	}
	a1.Send(packettest.TCP(a1.From(7), a1.Via(b1.IP4, 9), packettest.ID(5, false), packettest.GSO(1448), packettest.Size(2*1448), packettest.Flags(packet.TCPAck)))
	if got := b1.Take(); len(got) != 4 {
		t.Errorf("%d fragments of two segments, want 4", len(got))
	}
	lab.ExpectDrops(t, nil)
}

// Frames that must not be routed are dropped with the reason, and nobody is told, also where the cache knows the flow they would be of.
func TestRouterRefuses(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	gw := macOf(a1.Net().Gateway().If.MAC)
	from := func(ip string) packettest.Option { return packettest.From(macOf(a1.MAC), ip, 7) }
	to := func(ip string) packettest.Option { return packettest.To(gw, ip, 9) }
	for range 2 {
		a1.Send(packettest.UDP(a1.From(7), to("10.2.0.2")), packettest.UDP(a1.From6(7), to("fd02::2")))
		if got := b1.Take(); len(got) != 2 {
			t.Fatalf("%d of two good datagrams came", len(got))
		}
	}
	rh0 := packettest.Extension(43, append([]byte{2, 0, 1}, make([]byte, 20)...)...)
	for _, c := range []struct {
		name   string
		f      *packet.Frame
		reason packet.DropReason
	}{
		{"to loopback", packettest.UDP(a1.From(7), to("127.0.0.1")), packet.DropMartian},
		{"from loopback", packettest.UDP(from("127.0.0.1"), to("10.2.0.2")), packet.DropMartian},
		{"from ::1", packettest.UDP(from("::1"), to("fd02::2")), packet.DropMartian},
		{"from nowhere", packettest.UDP(from("0.0.0.0"), to("10.2.0.2")), packet.DropMartian},
		{"from 0/8", packettest.UDP(from("0.1.2.3"), to("10.2.0.2")), packet.DropMartian},
		{"to 0/8", packettest.UDP(a1.From(7), to("0.1.2.3")), packet.DropMartian},
		{"from 240/4", packettest.UDP(from("240.0.0.1"), to("10.2.0.2")), packet.DropMartian},
		{"from all", packettest.UDP(from("255.255.255.255"), to("10.2.0.2")), packet.DropMartian},
		{"to link-local IPv4", packettest.UDP(a1.From(7), to("169.254.1.1")), packet.DropMartian},
		{"from link-local IPv4", packettest.UDP(from("169.254.1.1"), to("10.2.0.2")), packet.DropReversePath},
		{"from nowhere by IPv6", packettest.UDP(from("::"), to("fd02::2")), packet.DropMartian},
		{"to nowhere by IPv6", packettest.UDP(a1.From6(7), to("::")), packet.DropMartian},
		{"from a group", packettest.UDP(from("224.0.0.9"), to("10.2.0.2")), packet.DropMartian},
		{"to a group by unicast", packettest.UDP(a1.From(7), to("224.0.0.9")), packet.DropMartian},
		{"to 240/4", packettest.UDP(a1.From(7), to("240.0.0.1")), packet.DropMartian},
		{"from another gateway", packettest.UDP(from("10.2.0.1"), to("10.2.0.2")), packet.DropMartian},
		{"from another gateway by IPv6", packettest.UDP(from("fd02::1"), to("fd02::2")), packet.DropMartian},
		{"from the gateway itself", packettest.UDP(from("10.1.0.1"), to("10.2.0.2")), packet.DropMartian},
		{"LAND", packettest.TCP(from("10.1.0.1"), to("10.1.0.1")), packet.DropMartian},
		{"from a group by IPv6", packettest.UDP(from("ff02::9"), to("fd02::2")), packet.DropMartian},
		{"to a group by unicast, IPv6", packettest.UDP(a1.From6(7), to("ff0e::1")), packet.DropMartian},
		{"to ::1", packettest.UDP(a1.From6(7), to("::1")), packet.DropMartian},
		{"from the gateway itself by IPv6", packettest.UDP(from("fd01::1"), to("fd02::2")), packet.DropMartian},
		{"LAND by IPv6", packettest.TCP(from("fd01::1"), to("fd01::1")), packet.DropMartian},
		{"to link-local", packettest.UDP(a1.From6(7), to("fe80::9")), packet.DropMartian},
		{"from a mapped address", packettest.UDP(from("::ffff:10.1.0.2"), to("fd02::2")), packet.DropMartian},
		{"to a mapped address", packettest.UDP(a1.From6(7), to("::ffff:10.2.0.2")), packet.DropMartian},
		{"from a broadcast address", packettest.ICMPEcho(from("10.1.0.255"), to("10.2.0.2")), packet.DropDirectedBroadcast},
		{"smurf", packettest.ICMPEcho(a1.From(0), to("10.2.0.255")), packet.DropDirectedBroadcast},
		{"smurf at home", packettest.ICMPEcho(a1.From(0), to("10.1.0.255")), packet.DropDirectedBroadcast},
		{"another network's source", packettest.UDP(from("10.2.0.9"), to("10.2.0.2")), packet.DropReversePath},
		{"another network's source by IPv6", packettest.UDP(from("fd02::9"), to("fd02::2")), packet.DropReversePath},
		{"nobody's source", packettest.UDP(from("198.51.100.1"), to("10.2.0.2")), packet.DropReversePath},
		{"nobody's source to us", packettest.ICMPEcho(from("2001:db8::1"), to("fd01::1")), packet.DropReversePath},
		{"loose source route", packettest.UDP(a1.From(7), to("10.2.0.2"), packettest.IPOptions(131, 7, 4, 10, 2, 0, 9, 0)), packet.DropSourceRoute},
		{"strict source route", packettest.UDP(a1.From(7), to("10.2.0.2"), packettest.IPOptions(1, 137, 7, 4, 10, 2, 0, 9)), packet.DropSourceRoute},
		{"options that contradict themselves", packettest.UDP(a1.From(7), to("10.2.0.2"), packettest.IPOptions(7, 1, 0, 0)), packet.DropSourceRoute},
		{"RH0", packettest.UDP(a1.From6(7), to("fd02::2"), rh0), packet.DropSourceRoute},
		{"RH0 behind options", packettest.UDP(a1.From6(7), to("fd02::2"), packettest.HopByHop(), packettest.Extension(60, 0, 1, 4, 0, 0, 0, 0), rh0), packet.DropSourceRoute},
		{"RH0 in a fragment", packettest.UDP(a1.From6(7), to("fd02::2"), packettest.Extension(44, 0, 0, 0, 0, 0, 0, 9), rh0), packet.DropSourceRoute},
		{"RH0 behind an authentication header", packettest.UDP(a1.From6(7), to("fd02::2"), packettest.Extension(51, append([]byte{4}, make([]byte, 22)...)...), rh0), packet.DropSourceRoute},
		{"RH0 behind one too short", packettest.UDP(a1.From6(7), to("fd02::2"), packettest.Extension(51, 0, 0, 0, 9, 9, 9, 9, 17, 9, 9, 9), rh0), packet.DropSourceRoute},
		{"no IP", packettest.Raw(0x88cc, a1.From(7), to("10.2.0.2"), packettest.Size(60)), packet.DropNotRoutable},
		{"the gateway's MAC", packettest.UDP(packettest.From(gw, "10.1.0.2", 7), to("10.2.0.2")), packet.DropGatewayMAC},
		{"the gateway's address by ARP", packettest.ARPReply(from("10.1.0.1"), packettest.To("ff:ff:ff:ff:ff:ff", "10.1.0.1", 0)), packet.DropGatewaySpoof},
		{"the gateway's address by ND", packettest.ND(136, "fd01::1", []packettest.NDOption{packettest.TargetLLA(macOf(a1.MAC))}, a1.From6(0),
			packettest.To("33:33:00:00:00:01", "ff02::1", 0), packettest.Echo(0x2000, 0)), packet.DropGatewaySpoof},
		{"the gateway's address as who asks", packettest.ND(135, "fd01::3", []packettest.NDOption{packettest.SourceLLA(macOf(a1.MAC))}, from("fd01::1"),
			packettest.To("33:33:ff:00:00:03", "ff02::1:ff00:3", 0)), packet.DropGatewaySpoof},
		{"a broken echo request", packettest.ICMPEcho(a1.From(0), to("10.1.0.1"), packettest.BadChecksum()), packet.DropBadICMP},
	} {
		before := lab.Drops()
		a1.Send(c.f, c.f)
		after := lab.Drops()
		if after[c.reason]-before[c.reason] != 2 {
			t.Errorf("%s: not dropped as %s: %v", c.name, c.reason, after)
		}
		lab.ExpectNothing(t)
	}
	for i, dst := range []string{"192.0.2.1", "2001:db8::1"} { // no error about these
		sender := []packettest.Option{a1.From(7), a1.From6(7)}[i]
		for _, kind := range [][]uint8{{3, 11, 4, 5, 12}, {1, 2, 3, 4, 137}}[i] {
			a1.Send(packettest.ICMP(kind, sender, to(dst)))
			lab.ExpectNothing(t)
		}
		part := func(offset uint16, more bool) *packet.Frame {
			return packettest.UDP(sender, to(dst), packettest.Fragment(offset, more), packettest.ID(9, false), packettest.Size(16))
		}
		before := lab.Drops()[packet.DropNoRoute]
		a1.Send(part(0, true)) // but about a first fragment
		if got := a1.Take(); len(got) != 1 {
			t.Errorf("%d errors about the first fragment to %s", len(got), dst)
		}
		a1.Send(part(3, false))
		lab.ExpectNothing(t)
		if n := lab.Drops()[packet.DropNoRoute] - before; n != 2 {
			t.Errorf("%d of two fragments to %s were dropped since there is no route", n, dst)
		}
	}
}

// ICMP errors are limited to a burst, however many frames ask for one.
func TestRouterErrorRate(t *testing.T) {
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		lab, a1, _, _ := routed(t)
		from, to := a1.From(7), netip.MustParseAddr(dst)
		if to.Is6() {
			from = a1.From6(7)
		}
		for range 500 {
			a1.Send(packettest.UDP(from, a1.Via(to, 9)))
			lab.Settle()
		}
		if n := len(a1.Take()); n != router.ErrorBurst {
			t.Errorf("%d errors at once about %s, want %d", n, dst, router.ErrorBurst)
		}
		lab.Advance(10 * time.Millisecond)
		for range 500 {
			a1.Send(packettest.UDP(from, a1.Via(to, 9)))
			lab.Settle()
		}
		if n := len(a1.Take()); n != 10 {
			t.Errorf("%d errors about %s in the next 10 ms, want 10", n, dst)
		}
		lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropNoRoute: 1000})
	}
}

// A neighbor that moves takes its flows with it; one that dies is asked for, and then its peers are told.
func TestNeighborMovesAndDies(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		lab, a1, _, b1 := routed(t)
		b2 := lab.Port("b", "b2", netlab.MTU(1400)).Address("10.2.0.2", "fd02::2") // takes over b1's addresses
		meet(t, a1, b1)
		src, dst, from := a1.IP4, b1.IP4, a1.From(7)
		moved := packettest.ARPRequest(b2.From(0), b2.To(0)) // gratuitous
		solicits := func(f []byte) bool { return f[13] == 6 }
		kind, code, at := byte(3), byte(1), 34
		if v6 {
			src, dst, from = a1.IP6, b1.IP6, a1.From6(7)
			moved = packettest.ND(136, "fd02::2", []packettest.NDOption{packettest.TargetLLA(macOf(b2.MAC))}, b2.From6(0),
				packettest.To("33:33:00:00:00:01", "ff02::1", 0), packettest.Echo(0x2000, 0)) // unsolicited, overrides
			solicits = func(f []byte) bool { return f[20] == packet.ProtoICMPv6 && f[54] == 135 }
			kind, code, at = 1, 3, 54
		}
		f := packettest.UDP(from, a1.Via(dst, 9))
		a1.Send(f, f)
		b1.Expect(t, packettest.UDP(hop(a1, b1, src, dst)...), packettest.UDP(hop(a1, b1, src, dst)...))
		b2.Send(moved)
		lab.Discard()
		a1.Send(f)
		b2.Expect(t, packettest.UDP(hop(a1, b2, src, dst)...))
		b1.ExpectNothing(t)
		// In use and silent: it is asked, alone and then with all, and given up.
		alone, all := 0, 0
		for range 50 {
			lab.Advance(time.Second)
			lab.TendRouters()
			a1.Send(f)
			for _, got := range b2.Take() {
				switch {
				case !solicits(got):
				case got[0]&1 == 0:
					alone++
				default:
					all++
				}
			}
		}
		if alone != router.Retries || all < router.Retries {
			t.Errorf("v6 %v: the neighbor was asked %d times alone and %d times with all", v6, alone, all)
		}
		if n := lab.Drops()[packet.DropNeighborFailed]; n == 0 {
			t.Errorf("v6 %v: no frame was dropped since its neighbor was dead: %v", v6, lab.Drops())
		}
		if told := a1.Take(); len(told) == 0 || told[0][at] != kind || told[0][at+1] != code {
			t.Errorf("v6 %v: the sender was not told that the host is unreachable: %x", v6, told)
		}
	}
}

// Several next hops share a route's flows, each flow stays on one; more specific routes win.
func TestStaticRoutes(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	b2 := lab.Port("b", "b2", netlab.MTU(1400)).Address("10.2.0.3", "fd02::3")
	heard(b2)
	meet(t, a1, b1)
	meet(t, a1, b2)
	net := netip.MustParsePrefix
	lab.Router("main").SetRoutes([]router.StaticRoute{
		{Prefix: net("10.9.0.0/16"), NextHops: []netip.Addr{b1.IP4, b2.IP4}, Metric: 1},
		{Prefix: net("10.9.1.0/24"), NextHops: []netip.Addr{b2.IP4}, Metric: 1},
		{Prefix: net("fd09::/64"), NextHops: []netip.Addr{b1.IP6}, Metric: 1},
		{Prefix: net("fd09::/64"), NextHops: []netip.Addr{b2.IP6}, Metric: 2},
		{Prefix: net("fd0a::/64"), NextHops: []netip.Addr{b1.IP6, b2.IP6}, Metric: 1},
	})
	lab.Discard()
	for _, dst := range []string{"10.9.0.9", "fd0a::9"} {
		for port := range uint16(64) {
			from := a1.From(port)
			if dst == "fd0a::9" {
				from = a1.From6(port)
			}
			f := packettest.UDP(from, a1.Via(netip.MustParseAddr(dst), 9))
			a1.Send(f, f)
		}
		x, y := len(b1.Take()), len(b2.Take())
		if x+y != 128 || x%2 != 0 || x < 20 || y < 20 {
			t.Errorf("of 64 flows of two datagrams each to %s %d datagrams took one way and %d the other", dst, x, y)
		}
	}
	for i := range 8 {
		a1.Send(packettest.UDP(a1.From(uint16(i)), a1.Via(netip.MustParseAddr("10.9.1.9"), 9)))
		a1.Send(packettest.UDP(a1.From6(uint16(i)), a1.Via(netip.MustParseAddr("fd09::9"), 9)))
	}
	if x, y := len(b1.Take()), len(b2.Take()); x != 8 || y != 8 {
		t.Errorf("%d datagrams to the one, %d to the other, want 8 each", x, y)
	}
	// While a next hop is dead, its flows take the other way and none is lost.
	lab.Router("main").SetRoutes([]router.StaticRoute{
		{Prefix: net("10.9.0.0/16"), NextHops: []netip.Addr{b1.IP4, netip.MustParseAddr("10.2.0.99")}, Metric: 1},
		{Prefix: net("fd09::/64"), NextHops: []netip.Addr{b1.IP6, netip.MustParseAddr("fd02::99")}, Metric: 1},
	})
	for range 8 {
		for port := range uint16(32) {
			a1.Send(packettest.UDP(a1.From(port), a1.Via(netip.MustParseAddr("10.9.0.9"), 9)))
			a1.Send(packettest.UDP(a1.From6(port), a1.Via(netip.MustParseAddr("fd09::9"), 9)))
		}
		lab.Advance(time.Second)
		lab.TendRouters()
		var got [2]int
		for _, f := range b1.Take() {
			switch {
			case f[13] == 0:
				got[0]++
			case f[13] == 0xdd && f[20] == packet.ProtoUDP:
				got[1]++
			}
		}
		if got != [2]int{32, 32} {
			t.Fatalf("%v of 32 flows of IPv4 and IPv6 took the way that is left", got)
		}
	}
	b1.Send(packettest.UDP(packettest.From(macOf(b1.MAC), "10.9.0.9", 9), b1.Via(a1.IP4, 7))) // behind b1: the way back
	lab.Discard()
	lab.ExpectDrops(t, nil)
}

// A network that is internal is reached from no other one, nor is its gateway, and reaches none; its own gateway answers.
func TestInternalNetworks(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	meet(t, b1, a1)
	gw := *b1.Net().Gateway().If
	gw.Internal = true
	b1.Net().SetGateway(lab.Router("main"), &gw)
	refused := 0
	for _, c := range []struct {
		from *netlab.Port
		to   []string
	}{{a1, []string{"10.2.0.2", "fd02::2", "10.2.0.1", "fd02::1"}}, {b1, []string{"10.1.0.2", "fd01::2", "10.1.0.1", "fd01::1"}}} {
		for _, addr := range c.to {
			to, own, want := netip.MustParseAddr(addr), c.from.From(0), [2]byte{3, 13}
			if to.Is6() {
				own, want = c.from.From6(0), [2]byte{1, 1}
			}
			c.from.Send(packettest.ICMPEcho(own, c.from.Via(to, 0), packettest.Echo(1, 1)))
			if kind, code, _, _ := icmpOf(t, c.from); [2]byte{kind, code} != want {
				t.Errorf("from %s to %s: ICMP %d/%d, want administratively prohibited", c.from.Name, addr, kind, code)
			}
			refused++
		}
	}
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, map[packet.DropReason]int{packet.DropInternalNetwork: refused})
	for _, addr := range []string{"10.2.0.1", "fd02::1"} {
		own := b1.From(0)
		if addr == "fd02::1" {
			own = b1.From6(0)
		}
		b1.Send(packettest.ICMPEcho(own, b1.Via(netip.MustParseAddr(addr), 0), packettest.Echo(1, 1)))
		if n := len(b1.Take()); n != 1 {
			t.Errorf("%d answers of its own gateway at %s", n, addr)
		}
	}
}

// A scan of a whole /16 behind the router, and of as much of a /64, asks no more than the limits allow, and costs neighbors that are known nothing.
func TestScan(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	lab.Gateway("b", 1400, "10.2.0.1/16", "fd02::1/64")
	for k, scan := range []func(hi, lo byte) *packet.Frame{
		func(hi, lo byte) *packet.Frame {
			return packettest.UDP(a1.From(7), a1.Via(netip.AddrFrom4([4]byte{10, 2, hi, lo}), 9))
		},
		func(hi, lo byte) *packet.Frame {
			return packettest.UDP(a1.From6(7), a1.Via(netip.AddrFrom16([16]byte{0: 0xfd, 1: 2, 14: hi, 15: lo}), 9))
		},
	} {
		for i := range 1 << 16 {
			a1.Send(scan(byte(i>>8), byte(i)))
			if i%512 == 0 {
				lab.Discard()
			}
		}
		lab.Discard()
		if n := len(lab.Router("main").Neighbors().List()); n > router.MaxPendingPort+4 {
			t.Errorf("%d neighbors after a scan by one port", n)
		}
		a1.Send(packettest.UDP(a1.From(7), a1.Via(b1.IP4, 9)), packettest.UDP(a1.From6(7), a1.Via(b1.IP6, 9)))
		b1.Expect(t, packettest.UDP(hop(a1, b1, a1.IP4, b1.IP4)...), packettest.UDP(hop(a1, b1, a1.IP6, b1.IP6)...))
		if n := lab.Drops()[packet.DropNeighborQueue]; n < (k+1)*60000 {
			t.Errorf("%d frames of the scan were dropped, want nearly all", n)
		}
	}
}

// The routed hit path allocates nothing.
func TestRoutedAllocs(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	f := packettest.UDP(a1.From(7), a1.Via(b1.IP4, 9))
	a1.Send(f)
	lab.Discard()
	cached := false
	for _, flows := range lab.Path().Flows(func(*flow.Flow) bool { return true }) {
		for i := range flows {
			v := &flows[i]
			if v.NActions == 2 && !v.L2 && v.Gens[1].Gen != nil && v.NRefs == 4 {
				cached = true
				g := f.Clone()
				g.Parse()
				if n := testing.AllocsPerRun(100, func() {
					h := v.Actions[0].Hop
					if v.Valid() {
						g.Route(&h.Dst, &h.Src)
						g.IPv4()[8] = 64
					}
				}); n != 0 {
					t.Errorf("%v allocations per routed frame", n)
				}
			}
		}
	}
	if !cached {
		t.Error("no routed flow in the cache")
	}
}
