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

// beside is a network a of two ports, an uplink u that the host shares, and the host's link h, by which the uplink's addresses are reached.
func beside(t *testing.T, masquerade pipeline.Masquerade) (lab *netlab.Lab, a1, a2, u, h *netlab.Port) {
	lab = netlab.New(t, netlab.Stepped(), netlab.NoCoalesce())
	a1, a2 = lab.Port("a", "a1").Address("10.1.0.2", "fd01::2"), lab.Port("a", "a2").Address("10.1.0.3", "fd01::3")
	u, h = lab.Port("u", "u").Address("203.0.113.9", "2001:db8:f::9"), lab.Port("h", "h").Address("192.0.2.2", "2001:db8::2")
	host := addrs("192.0.2.2", "2001:db8::2")
	lab.Wire("a", router.Interface{MTU: 1500, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd01::1/64")}}, masquerade)
	lab.Wire("u", router.Interface{MTU: 1500, Peer: [6]byte{0x0e, 5: 1}, Uplink: true, Shared: true, External: host}, pipeline.MasqueradeOff)
	lab.Wire("h", router.Interface{MTU: 1500, Peer: h.MAC, External: host}, pipeline.MasqueradeOff)
	var routes []router.StaticRoute
	for _, a := range host {
		routes = append(routes, router.StaticRoute{Prefix: netip.PrefixFrom(a, a.BitLen()), Interface: "h"})
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		routes = append(routes, router.StaticRoute{Prefix: netip.MustParsePrefix(all), Interface: "u"})
	}
	lab.Router("main").SetRoutes(routes)
	for _, p := range []*netlab.Port{a1, a2} {
		meet(t, h, p)
	}
	return lab, a1, a2, u, h
}

// What was let through to the host for want of a published port goes to the published port once there is one.
func TestPublishedWhileInUse(t *testing.T) {
	lab, a1, a2, _, h := beside(t, pipeline.MasqueradeOff)
	q := &nat.Publication{Owner: "a2", Zone: 1, Proto: packet.ProtoUDP, Low: 53, High: 53, ToPort: 5353, To: []netip.Addr{a2.IP4, a2.IP6}}
	for _, f := range []*packet.Frame{UDP(a1.From(5000), a1.Via(h.IP4, 53)), UDP(a1.From6(5000), a1.Via(h.IP6, 53))} {
		for range 2 {
			a1.Send(f, f)
			if n := len(h.Take()); n != 2 {
				t.Fatalf("the host got %d datagrams, want 2", n)
			}
			if err := lab.Publish(nil, []*nat.Publication{q}); err != nil {
				t.Fatal(err)
			}
			a1.Send(f, f)
			if n := len(a2.Take()); n != 2 {
				t.Errorf("a2 got %d datagrams to its published port, want 2", n)
			}
			if err := lab.Publish([]*nat.Publication{q}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, nil)
}

// What was let through to a port of the host goes there no more once masquerading has handed the port out.
func TestMappedWhileInUse(t *testing.T) {
	lab, a1, a2, u, h := beside(t, pipeline.MasqueradeAuto)
	for i, way := range [][2]netip.Addr{{h.IP4, u.IP4}, {h.IP6, u.IP6}} {
		from1, from2 := [2]Option{a1.From(5000), a1.From6(5000)}[i], [2]Option{a2.From(61001), a2.From6(61001)}[i]
		f := UDP(from1, a1.Via(way[0], 61001))
		a1.Send(f, f)
		if n := len(h.Take()); n != 2 {
			t.Fatalf("the host got %d datagrams, want 2", n)
		}
		a2.Send(UDP(from2, a2.Via(way[1], 9)))
		if n := len(u.Take()); n != 1 {
			t.Fatalf("%d datagrams left by the uplink", n)
		}
		a1.Send(f)
		h.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropNATFiltered: i + 1})
	}
	lab.ExpectNothing(t)
}

// Answers to the host are not masqueraded, also from a network that always is: what it sends there needs no connection to be answered, and an
// answer that was cached before changes nothing.
func TestHostNeedsNoConnection(t *testing.T) {
	lab, a1, _, _, h := beside(t, pipeline.MasqueradeOn)
	for i, back := range []*packet.Frame{UDP(a1.From(53), a1.Via(h.IP4, 5000)), UDP(a1.From6(53), a1.Via(h.IP6, 5000))} {
		from := [2]Option{h.From(5000), h.From6(5000)}[i]
		a1.Send(back, back)
		h.Send(UDP(from, To("02:ee:ee:ee:ee:01", [2]netip.Addr{a1.IP4, a1.IP6}[i].String(), 53)))
		a1.Send(back)
		if n, m := len(h.Take()), len(a1.Take()); n != 3 || m != 1 {
			t.Errorf("%d datagrams there, %d back", n, m)
		}
	}
	if n := lab.Connections().Len(); n != 0 {
		t.Errorf("%d connections of what nobody translates", n)
	}
}

// A route by next hops of a family in which its interface has no address is not active: nobody could ask for them.
func TestRouteWithoutAddress(t *testing.T) {
	lab, a1, _, _ := routed(t)
	lab.Gateway("b", 1400, "fd02::1/64")
	lab.Router("main").SetRoutes([]router.StaticRoute{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHops: addrs("10.2.0.2"), Interface: "b"}})
	a1.Send(UDP(a1.From(5), a1.Via(netip.MustParseAddr("203.0.113.9"), 9)))
	if kind, code, _, _ := icmpOf(t, a1); kind != 3 || code != 0 {
		t.Errorf("error %d %d", kind, code)
	}
	lab.ExpectDrops(t, drops{packet.DropNoRoute: 1})
}

// A container that was spoken to directly, from the port of a client that then comes by the published port, answers both as each of them
// expects: what it sent the one way is in no cache for the other.
func TestPastPublishedPort(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	meet(t, b1, a1)
	for _, n := range []string{"a", "b"} {
		lab.Wire(n, *lab.Network(n).Gateway().If, pipeline.MasqueradeOff)
	}
	if err := lab.Publish(nil, []*nat.Publication{{Owner: "a1", Zone: 1, Proto: packet.ProtoUDP, Low: 53, High: 54, ToPort: 5353, To: []netip.Addr{a1.IP4, a1.IP6}}}); err != nil {
		t.Fatal(err)
	}
	for i, c := range [][3]string{{"10.1.0.2", "10.2.0.2", "10.2.0.1"}, {"fd01::2", "fd02::2", "fd02::1"}} {
		server, client, gw := c[0], c[1], c[2]
		direct := leg{from: a1, to: b1, src: server, dst: client, src2: server, dst2: client, port: 5353, at: 123, port2: 5353, at2: 123}
		direct.check(t, UDP)
		direct.check(t, UDP)
		there := leg{from: b1, to: a1, src: client, dst: gw, src2: client, dst2: server, port: 123, at: 53, port2: 123, at2: 5353}
		back := leg{from: a1, to: b1, src: server, dst: client, src2: gw, dst2: client, port: 5353, at: 123, port2: 53, at2: 123}
		there.check(t, UDP)
		back.check(t, UDP)

		// The other way round the client's port is changed.
		there.at, there.at2, back.port, back.port2 = 54, 5354, 5354, 54
		ask := leg{from: b1, to: a1, src: client, dst: server, src2: client, dst2: server, port: 123, at: 5354, port2: 123, at2: 5354}
		direct.port, direct.port2 = 5354, 5354
		ask.check(t, UDP)
		direct.check(t, UDP)
		b1.Send(UDP(there.sent()...))
		got := a1.Take()
		if len(got) != 1 {
			t.Fatalf("%d datagrams by the published port", len(got))
		}
		f := packet.NewFrame(make([]byte, packet.BufSize))
		f.Load(nil, got[0])
		if f.Parse(); f.Key.SrcPort == 123 || f.Key.DstPort != 5354 {
			t.Errorf("ports %d and %d", f.Key.SrcPort, f.Key.DstPort)
		}
		back.at = f.Key.SrcPort
		for range 2 {
			back.check(t, UDP)
			direct.check(t, UDP)
			ask.check(t, UDP)
		}
		if n := lab.Connections().Len(); n != 3*(i+1) {
			t.Errorf("%d connections", n)
		}
	}
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, nil)
}

// A segment by which a connection by a published port is known again is its first and a reply at once: the rules for replies decide about the
// next one, not the cache.
func TestKnownAgainUnderRules(t *testing.T) {
	for _, o := range [][]netlab.Option{nil, {netlab.NoCache()}} {
		lab, a1, _, b1 := translated(t, o...)
		lab.Rules("a", "a out deny --proto tcp --dport 80")
		for i, c := range [][3]string{{"10.1.0.2", "10.2.0.2", "10.2.0.1"}, {"fd01::2", "fd02::2", "fd02::1"}} {
			back := leg{from: a1, to: b1, src: c[0], dst: c[1], src2: c[2], dst2: c[1], port: 80, at: 5000, port2: 8080, at2: 5000}
			back.check(t, TCP, Size(10))
			a1.Send(TCP(back.sent(Size(10))...), TCP(back.sent(Size(10))...))
			b1.ExpectNothing(t)
			lab.ExpectDrops(t, drops{packet.DropRuleDeny: 2 * (i + 1)})
		}
	}
}
