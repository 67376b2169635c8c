package netlab_test

import (
	"net/netip"
	"testing"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
)

// A route that leads to a station which sends what it gets back ends by the TTL, and its sender is told: it is no storm.
func TestRouteLoop(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	meet(t, a1, b1)
	for _, c := range []struct{ prefix, via, dst string }{{"198.51.100.0/24", "10.2.0.2", "198.51.100.1"}, {"2001:db8::/64", "fd02::2", "2001:db8::1"}} {
		lab.Router("main").SetRoutes([]router.StaticRoute{{Prefix: netip.MustParsePrefix(c.prefix), NextHops: []netip.Addr{netip.MustParseAddr(c.via)}}})
		gw := macOf(b1.Net().Gateway().If.MAC)
		from := From(macOf(b1.MAC), b1.IP4.String(), 7) // its own: what is of others is refused by the reverse path
		if c.dst == "2001:db8::1" {
			from = From(macOf(b1.MAC), b1.IP6.String(), 7)
		}
		frames, errors := 0, 0
		b1.Send(UDP(from, To(gw, c.dst, 9), TTL(64)))
		for more := true; more; {
			more = false
			for _, f := range b1.Take() {
				p := packet.NewFrame(make([]byte, packet.BufSize))
				p.Load(nil, f)
				if p.Parse() != packet.DropNone {
					t.Fatalf("bad frame %x", f)
				}
				if p.Flags&packet.FlagICMPError != 0 {
					errors++
					continue
				}
				if frames++; frames > 100 {
					t.Fatal("it goes on for ever")
				}
				dst, src := [6]byte(f[:6]), [6]byte(f[6:12])
				p.Route(&src, &dst) // as a host that forwards
				b1.Send(p)
				more = true
			}
		}
		if frames != 32 || errors != 1 {
			t.Errorf("%s: %d rounds and %d errors, want 32 and one", c.prefix, frames, errors)
		}
	}
	lab.ExpectDrops(t, drops{packet.DropTTL: 2})
}

// Floods of ARP and Neighbor Discovery make no entries, take the gateway's addresses from nobody, and change nothing of others.
func TestNeighborFloods(t *testing.T) {
	lab, a1, a2, b1 := routed(t)
	meet(t, a1, b1)
	meet(t, b1, a2)
	known := len(lab.Router("main").Neighbors().List())
	gw := macOf(a1.Net().Gateway().If.MAC)
	answers := 0
	for i := range 5000 {
		ip := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()
		if ip == a2.IP4.String() {
			continue // that is for who owns it: see the source guard
		}
		ip6 := netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 13: 1, 14: byte(i >> 8), 15: byte(i)}).String()
		from, from6 := From(macOf(a1.MAC), ip, 0), From(macOf(a1.MAC), ip6, 0)
		a1.Send(
			ARPRequest(from, To(gw, "10.1.0.1", 0)), ARPReply(from, To(gw, "10.1.0.1", 0)), ARPReply(from, To(gw, ip, 0)),
			ND(135, "fd01::1", []NDOption{SourceLLA(macOf(a1.MAC))}, from6, To(gw, "fd01::1", 0)),
			ND(136, ip6, []NDOption{TargetLLA(macOf(a1.MAC))}, from6, To(gw, "fd01::1", 0), Echo(0x6000, 0)),
			ARPReply(From(macOf(a1.MAC), "10.1.0.1", 0), To(gw, "10.1.0.1", 0)),
			ND(136, "fd01::1", []NDOption{TargetLLA(macOf(a1.MAC))}, a1.From6(0), To(gw, "fd01::1", 0), Echo(0x6000, 0)),
		)
		answers += len(a1.Take())
	}
	list := lab.Router("main").Neighbors().List()
	if len(list) != known {
		t.Errorf("%d neighbors, and %d were known before", len(list), known)
	}
	for _, n := range list {
		if n.Addr == a2.IP4 && n.MAC != a2.MAC {
			t.Errorf("%v is at %x", n.Addr, n.MAC)
		}
	}
	if answers < 5000 {
		t.Errorf("%d questions were answered", answers)
	}
	if n := lab.Drops()[packet.DropGatewaySpoof]; n < 2*4999 {
		t.Errorf("%d frames that claim the gateway's addresses were dropped", n)
	}
	lab.Discard()
	way := leg{from: b1, to: a2, src: "10.2.0.2", dst: "10.1.0.3", src2: "10.2.0.2", dst2: "10.1.0.3", port: 5, at: 6, port2: 5, at2: 6}
	way.check(t, UDP)
}

// A port that opens connections without end ends its own requests; who is beside it opens new ones, and keeps what it has.
func TestSYNFlood(t *testing.T) {
	for i, source := range []func(n int) string{
		func(n int) string { return netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + n)}).String() },
		func(n int) string { return netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 15: byte(10 + n)}).String() },
	} {
		lab, a1, a2, b1 := routed(t)
		meet(t, a1, b1)
		meet(t, b1, a1)
		lab.LimitConnections(nat.Limits{PerNetwork: 500})
		lab.NAT("a", pipeline.MasqueradeOff)
		lab.NAT("b", pipeline.MasqueradeOn) // so what comes from a is known, for the answers
		in, out := []string{"10.1.0.2", "fd01::2"}[i], []string{"10.2.0.2", "fd02::2"}[i]
		there := leg{from: a1, to: b1, src: in, dst: out, src2: in, dst2: out, port: 5000, at: 9, port2: 5000, at2: 9}
		back := leg{from: b1, to: a1, src: out, dst: in, src2: out, dst2: in, port: 9, at: 5000, port2: 9, at2: 5000}
		handshake(t, there, back)
		flood := func(n, i int) {
			for k := range n {
				f := leg{from: a2, src: source((i + k) % 200), dst: out, port: uint16(1024 + (i*n+k)%60000), at: 9}
				a2.Send(TCP(f.sent(Flags(packet.TCPSyn))...))
			}
			lab.Discard()
		}
		flood(1000, 0)
		for i := range 100 {
			there, back := there, back
			port := uint16(6000 + i)
			there.port, there.port2, back.at, back.at2 = port, port, port, port
			there.check(t, TCP, Flags(packet.TCPSyn))
			flood(50, 1+2*i)
			back.check(t, TCP, Flags(packet.TCPSyn|packet.TCPAck))
			flood(50, 2+2*i)
			there.check(t, TCP)
		}
		there.check(t, TCP, Size(99))
		back.check(t, TCP, Size(99))
		if c := lab.Connections().Counters(); c.Evicted < 5000 || lab.Connections().Len() > 500 {
			t.Errorf("%+v, %d connections", c, lab.Connections().Len())
		}
	}
}
