package netlab_test

import (
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
)

// Masqueraded containers reach each other by their external ports, each seen as its own one, once both have sent something there: as
// from anywhere else (RFC 4787 REQ-9, RFC 5382 REQ-8).
func TestHairpin(t *testing.T) {
	lab, a1, a2, b1 := translated(t)
	filtered := 0
	for _, c := range []struct{ a1, a2, b1, gw string }{
		{"10.1.0.2", "10.1.0.3", "10.2.0.2", "10.2.0.1"}, {"fd01::2", "fd01::3", "fd02::2", "fd02::1"},
	} {
		for _, x := range []struct {
			build func(...Option) *packet.Frame
			open  []Option
		}{{UDP, nil}, {TCP, []Option{Flags(packet.TCPSyn)}}} {
			for i, src := range []string{c.a1, c.a2} { // both are known outside
				from, port := []*netlab.Port{a1, a2}[i], uint16(61007+i)
				leg{from: from, to: b1, src: src, dst: c.b1, src2: c.gw, dst2: c.b1, port: port, at: 9, port2: port, at2: 9}.check(t, x.build, x.open...)
			}
			there := leg{from: a1, to: a2, src: c.a1, dst: c.gw, src2: c.gw, dst2: c.a2, port: 61007, at: 61008, port2: 61007, at2: 61008}
			back := leg{from: a2, to: a1, src: c.a2, dst: c.gw, src2: c.gw, dst2: c.a1, port: 61008, at: 61007, port2: 61008, at2: 61007}
			a1.Send(x.build(there.sent(x.open...)...)) // a2 has not sent there
			lab.ExpectNothing(t)
			filtered++
			back.check(t, x.build, x.open...)
			for range 3 {
				there.check(t, x.build, append(x.open, Size(100))...)
				back.check(t, x.build, append(x.open, Size(1000))...)
			}
			proto := map[bool]uint8{true: packet.ProtoUDP, false: packet.ProtoTCP}[x.open == nil]
			sent := cut(x.build(there.sent(Size(2000))...), proto, 1000, there.sent()...)
			want := cut(x.build(there.received(Size(2000))...), proto, 1000, there.received()...)
			a1.Send(reordered(sent, 1, 0, 2)...)
			a2.Expect(t, reordered(want, 0, 1, 2)...)
			// An error about what came that way is told to who sent it.
			kind := map[bool]uint8{true: 3, false: 1}[c.gw == "10.2.0.1"]
			got := UDP(there.received(Size(10))...).Bytes()[14:]
			sent0 := UDP(there.sent(Size(10), TTL(63))...).Bytes()[14:]
			if x.open == nil {
				a2.Send(ICMP(kind, From(macOf(a2.MAC), c.a2, 0), To(macOf(a2.Net().Gateway().If.MAC), c.gw, 0), Payload(got)))
				a1.Expect(t, ICMP(kind, From(macOf(a1.Net().Gateway().If.MAC), c.gw, 0), To(macOf(a1.MAC), c.a1, 0), TTL(63), Payload(sent0)))
			}
			// Who is outside and was not spoken to is not let in, nor told.
			b1.Send(x.build(leg{from: b1, src: c.b1, dst: c.gw, port: 10, at: 61007}.sent(x.open...)...))
			filtered++
			lab.ExpectNothing(t)
		}
	}
	lab.ExpectDrops(t, drops{packet.DropNATFiltered: filtered})
	// Who receives has sent there before, so that rules take it for an answer.
	lab.Rules("a", "a out deny", "a1 in deny --dst 192.0.2.9")
	for range 2 {
		leg{from: a1, to: a2, src: "10.1.0.2", dst: "10.2.0.1", src2: "10.2.0.1", dst2: "10.1.0.3", port: 61007, at: 61008, port2: 61007, at2: 61008}.check(t, UDP)
		leg{from: a2, to: a1, src: "10.1.0.3", dst: "10.2.0.1", src2: "10.2.0.1", dst2: "10.1.0.2", port: 61008, at: 61007, port2: 61008, at2: 61007}.check(t, UDP)
	}
	lab.Rules("a")
	// What keeps ports of a network apart keeps them apart here too.
	lab.ICC("a", false)
	a1.Send(UDP(leg{from: a1, src: "10.1.0.2", dst: "10.2.0.1", port: 61007, at: 61008}.sent()...))
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, drops{packet.DropNATFiltered: filtered, packet.DropICCOff: 1})
	lab.ICC("a", true)
	a1.Set(netlab.Isolated())
	a2.Set(netlab.Isolated())
	a1.Send(UDP(leg{from: a1, src: "10.1.0.2", dst: "10.2.0.1", port: 61007, at: 61008}.sent()...))
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, drops{packet.DropNATFiltered: filtered, packet.DropICCOff: 1, packet.DropIsolated: 1})
	// A port that nobody has is the gateway's own.
	a1.Send(UDP(leg{from: a1, src: "10.1.0.2", dst: "10.2.0.1", port: 61007, at: 61500}.sent()...))
	if n := len(a1.Take()); n != 1 {
		t.Errorf("%d answers, want that there is no service", n)
	}
}

// Hairpins work behind the host's address too, which is none of the router's own.
func TestHairpinByUplink(t *testing.T) {
	lab, a1, u, _ := uplinked(t, pipeline.MasqueradeAuto)
	a2 := lab.Port("a", "a2").Address("10.1.0.3", "fd01::3")
	heard(a2)
	lab.Discard()
	meet(t, a1, a2)
	for _, c := range []struct{ a1, a2, out, host string }{
		{"10.1.0.2", "10.1.0.3", "203.0.113.9", "192.0.2.2"}, {"fd01::2", "fd01::3", "2001:db8:f::9", "2001:db8::2"},
	} {
		for i, src := range []string{c.a1, c.a2} {
			from, port := []*netlab.Port{a1, a2}[i], uint16(61007+i)
			leg{from: from, to: u, src: src, dst: c.out, src2: c.host, dst2: c.out, port: port, at: 9, port2: port, at2: 9}.goesOut(t, UDP)
		}
		there := leg{from: a1, to: a2, src: c.a1, dst: c.host, src2: c.host, dst2: c.a2, port: 61007, at: 61008, port2: 61007, at2: 61008}
		back := leg{from: a2, to: a1, src: c.a2, dst: c.host, src2: c.host, dst2: c.a1, port: 61008, at: 61007, port2: 61008, at2: 61007}
		a1.Send(UDP(there.sent()...))
		lab.ExpectNothing(t)
		for range 2 {
			back.check(t, UDP, Size(100))
			there.check(t, UDP, Size(1000))
		}
	}
	if n := lab.Drops()[packet.DropNATFiltered]; n != 2 {
		t.Errorf("%d frames were dropped as nat_filtered, want the first of each family", n)
	}
}
