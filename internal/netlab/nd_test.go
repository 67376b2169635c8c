package netlab_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/router"
)

// What the gateway has to hear of Neighbor Discovery it hears, also where other IPv6 of the same two MACs is decided from the cache.
func TestGatewayHearsDespiteCache(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1 := lab.Port("n", "c1").Address("10.1.0.2", "fd01::2")
		c2 := lab.Port("n", "c2").Address("10.1.0.3", "fd01::3")
		lab.Gateway("n", 1500, "10.1.0.1/24", "fd01::1/64")
		hello(lab, c1, c2)
		solicited := To("33:33:ff:00:00:01", "ff02::1:ff00:1", 0)
		for range 3 {
			plain := UDP(c1.From6(7), c2.To6(9))
			c1.Send(plain, plain)
			c2.Expect(t, plain, plain)
			c1.Send(ND(136, "fd01::1", []NDOption{TargetLLA(macOf(c1.MAC))}, c1.From6(0), c2.To6(0), Echo(0x6000, 0)))
			c2.ExpectNothing(t)

			group := UDP(c1.From6(7), solicited)
			c1.Send(group, group)
			c2.Expect(t, group, group)
			c1.ExpectNothing(t)
			c1.Send(ND(135, "fd01::1", []NDOption{SourceLLA(macOf(c1.MAC))}, c1.From6(0), solicited))
			if got := c1.Take(); len(got) != 1 {
				t.Fatalf("%d answers to a solicitation of the gateway", len(got))
			}
			c2.Take()
		}
		lab.ExpectDrops(t, drops{packet.DropGatewaySpoof: 3})
	})
}

// recode gives an ICMPv6 message the code 1.
func recode(f *packet.Frame) *packet.Frame {
	b := f.Bytes()[54:]
	b[1] = 1
	binary.BigEndian.PutUint16(b[2:], packet.UpdateSum(binary.BigEndian.Uint16(b[2:]), uint16(b[0])<<8, uint16(b[0])<<8|1))
	return f
}

// Questions for the gateway that are not valid (RFC 4861 7.1.1), or of somebody who is not in its subnet, are not answered; who tries whether
// its address is free is.
func TestQuestionsForGateway(t *testing.T) {
	lab, a1, a2, _ := routed(t)
	gw, group := macOf(a1.Net().Gateway().If.MAC), To("33:33:ff:00:00:01", "ff02::1:ff00:1", 0)
	all, mine := To("ff:ff:ff:ff:ff:ff", "10.1.0.1", 0), []NDOption{SourceLLA(macOf(a1.MAC))}
	from := func(ip string) Option { return From(macOf(a1.MAC), ip, 0) }
	for name, f := range map[string]*packet.Frame{
		"by a router":               ND(135, "fd01::1", mine, a1.From6(0), group, TTL(254)),
		"a wrong checksum":          ND(135, "fd01::1", mine, a1.From6(0), group, BadChecksum()),
		"a code":                    recode(ND(135, "fd01::1", mine, a1.From6(0), group)),
		"an option without length":  ND(135, "fd01::1", []NDOption{{1, 0, 0, 0, 0, 0, 0, 0}}, a1.From6(0), group),
		"half an option":            ND(135, "fd01::1", []NDOption{{1, 1, 2, 3}}, a1.From6(0), group),
		"a MAC of nobody":           ND(135, "fd01::1", mine, from("::"), group),
		"another subnet":            ND(135, "fd01::1", mine, from("2001:db8:9::9"), group),
		"a group":                   ND(135, "ff02::1", mine, a1.From6(0), group),
		"another's address":         ND(135, "fd01::3", mine, a1.From6(0), group),
		"another subnet, by ARP":    ARPRequest(from("192.0.2.9"), all),
		"a group's MAC, by ARP":     ARPRequest(a1.From(0), all, Sender("03:00:00:00:00:01")),
		"another's address, by ARP": ARPRequest(a1.From(0), To("ff:ff:ff:ff:ff:ff", "10.1.0.3", 0)),
	} {
		a1.Send(f)
		if got := a1.Take(); len(got) != 0 {
			t.Errorf("%s: answered by %x", name, got)
		}
		a2.Expect(t, f) // it is for a2 as well
	}
	a1.Send(ND(135, "fd01::1", nil, from("::"), group))
	a1.Expect(t, ND(136, "fd01::1", []NDOption{TargetLLA(gw)}, From(gw, "fd01::1", 0), To("33:33:00:00:00:01", "ff02::1", 0), Echo(0xa000, 0)))
	a1.Send(ARPRequest(from("0.0.0.0"), all))
	if got := a1.Take(); len(got) != 1 || got[0][21] != 2 {
		t.Errorf("an ARP probe of the gateway's address is answered by %x", got)
	}
	a2.Take()
	lab.ExpectNothing(t)
}

// What a neighbor says of itself is believed where it is valid (RFC 4861 7.1.2, 7.2.5), and taken for an answer where it is one.
func TestSayingsOfNeighbors(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	b2 := lab.Port("b", "b2", netlab.MTU(1400)).Address("10.2.0.3", "fd02::3")
	heard(b2)
	meet(t, a1, b1)
	gw := b1.Net().Gateway().If.MAC
	is := func(what string, addr netip.Addr, mac [6]byte, state router.State) {
		t.Helper()
		lab.Settle()
		for _, n := range lab.Router("main").Neighbors().List() {
			if n.Addr == addr && (n.MAC != mac || n.State != state) {
				t.Errorf("%s: %v is at %s, %v; want %s, %v", what, addr, macOf(n.MAC), n.State, macOf(mac), state)
			}
		}
		lab.Discard()
	}
	says := func(mac [6]byte, flags uint16, o ...Option) *packet.Frame {
		return ND(136, "fd02::2", []NDOption{TargetLLA(macOf(mac))}, append([]Option{From(macOf(b2.MAC), "fd02::2", 0), To("33:33:00:00:00:01", "ff02::1", 0), Echo(flags, 0)}, o...)...)
	}
	const override, solicited = 0x2000, 0x4000
	is("at first", b1.IP6, b1.MAC, router.Reachable)
	for name, f := range map[string]*packet.Frame{
		"by a router": says(b2.MAC, override, TTL(64)), "a wrong checksum": says(b2.MAC, override, BadChecksum()), "a code": recode(says(b2.MAC, override)),
		"a group's MAC": says([6]byte{0x33, 0x33, 5: 1}, override), "the gateway's MAC": says(gw, override),
	} {
		b2.Send(f)
		is(name, b1.IP6, b1.MAC, router.Reachable)
	}
	b2.Send(says(b2.MAC, 0))
	is("without override", b1.IP6, b1.MAC, router.Stale)
	b2.Send(says(b2.MAC, override))
	is("unasked", b1.IP6, b2.MAC, router.Stale)
	b2.Send(says(b2.MAC, override|solicited)) // to all: no answer is
	is("to a group", b1.IP6, b2.MAC, router.Stale)
	b2.Send(says(b2.MAC, override|solicited, To(macOf(gw), "fd02::1", 0)))
	is("an answer", b1.IP6, b2.MAC, router.Reachable)

	is("at first, by ARP", b1.IP4, b1.MAC, router.Reachable)
	arp := func(mac [6]byte) Option { return Sender(macOf(mac)) }
	for _, mac := range [][6]byte{{3, 5: 1}, {}, gw} {
		b2.Send(ARPRequest(From(macOf(b2.MAC), "10.2.0.2", 0), To("ff:ff:ff:ff:ff:ff", "10.2.0.2", 0), arp(mac)))
		is("a MAC that nobody has", b1.IP4, b1.MAC, router.Reachable)
	}
	b2.Send(ARPRequest(From(macOf(b2.MAC), "10.2.0.2", 0), To("ff:ff:ff:ff:ff:ff", "10.2.0.2", 0)))
	is("unasked, by ARP", b1.IP4, b2.MAC, router.Stale)
	b2.Send(ARPReply(From(macOf(b2.MAC), "10.2.0.2", 0), To(macOf(gw), "10.2.0.1", 0)))
	is("an answer, by ARP", b1.IP4, b2.MAC, router.Reachable)
}
