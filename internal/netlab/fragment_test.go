package netlab_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/router"
)

// part is a fragment of a datagram: its bytes from..to behind the IP header.
func part(proto uint8, whole []byte, from, to int, o ...Option) *packet.Frame {
	return IP(proto, append(o, Fragment(uint16(from/8), to < len(whole)), Payload(whole[from:to]))...)
}

// cut makes fragments of n bytes of a datagram without IP options.
func cut(f *packet.Frame, proto uint8, n int, o ...Option) (all []*packet.Frame) {
	whole := f.Bytes()[34:]
	if f.Bytes()[12] == 0x86 {
		whole = f.Bytes()[54:]
	}
	for from := 0; from < len(whole); from += n {
		all = append(all, part(proto, whole, from, min(from+n, len(whole)), o...))
	}
	return all
}

// reordered returns the elements at these places.
func reordered(all []*packet.Frame, places ...int) (list []*packet.Frame) {
	for _, i := range places {
		list = append(list, all[i])
	}
	return list
}

// Fragments of masqueraded datagrams are translated as their first one, there and back, whatever their order: those that come before it
// wait for it.
func TestMasqueradeFragments(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	id := uint16(0)
	for _, way := range natWays(a1, b1) {
		there, back := way[0], way[1]
		icmp := map[bool]uint8{true: packet.ProtoICMP, false: packet.ProtoICMPv6}[netip.MustParseAddr(there.src).Is4()]
		for _, order := range [][2][]int{
			{{0, 1, 2, 3}, {0, 1, 2, 3}}, {{3, 2, 1, 0}, {0, 3, 2, 1}}, {{1, 0, 3, 2}, {0, 1, 3, 2}}, {{2, 3, 0, 1}, {0, 2, 3, 1}},
		} {
			for _, c := range []struct {
				leg   leg
				proto uint8
				build func(...Option) *packet.Frame
				o     []Option
			}{
				{there, packet.ProtoUDP, UDP, nil}, {back, packet.ProtoUDP, UDP, nil},
				{there, packet.ProtoTCP, TCP, nil}, {back, packet.ProtoTCP, TCP, nil},
				{there, icmp, ICMPEcho, nil}, {back, icmp, ICMPEchoReply, nil},
			} {
				id++
				whole := append(c.o, Size(4000))
				sent := cut(c.build(c.leg.sent(whole...)...), c.proto, 1016, c.leg.sent(ID(id, false))...)
				want := cut(c.build(c.leg.received(whole...)...), c.proto, 1016, c.leg.received(ID(id, false))...)
				c.leg.from.Send(reordered(sent, order[0]...)...)
				c.leg.to.Expect(t, reordered(want, order[1]...)...)
			}
		}
	}
	lab.ExpectDrops(t, nil)
	lab.ExpectNothing(t)
	if n, held := lab.Fragments(); n != 0 || held != 0 {
		t.Errorf("%d datagrams are known yet, %d bytes wait: all are complete", n, held)
	}
}

// A published port is reached by fragments, and an atomic fragment (RFC 6946) is a datagram like others.
func TestOtherFragments(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	there := leg{from: b1, to: a1, src: "10.2.0.2", dst: "10.2.0.1", src2: "10.2.0.2", dst2: "10.1.0.2", port: 5000, at: 8080, port2: 5000, at2: 80}
	there.check(t, TCP, Flags(packet.TCPSyn))
	sent := cut(TCP(there.sent(Size(1000))...), packet.ProtoTCP, 600, there.sent()...)
	want := cut(TCP(there.received(Size(1000))...), packet.ProtoTCP, 600, there.received()...)
	b1.Send(sent[1], sent[0])
	a1.Expect(t, want[0], want[1])
	way := natWays(a1, b1)[1][0]
	way.check(t, UDP, Extension(44, 0, 0, 0, 0, 0, 0, 9))
	lab.ExpectDrops(t, nil)
	// Of a protocol without ports whole datagrams are in the cache, which must not take their fragments for more of them.
	for i, way := range natWays(a1, b1) {
		gre := func(o ...Option) *packet.Frame { return IP(47, append(o, Size(800), ID(9, false))...) }
		there := way[0]
		there.port, there.at, there.port2, there.at2 = 0, 0, 0, 0
		for range 2 {
			there.check(t, gre)
		}
		a1.Send(gre(there.sent(Fragment(0, true))...), gre(there.sent(Fragment(99, false))...))
		if got := b1.Take(); len(got) != 1 {
			t.Errorf("%d of two fragments that overlap came", len(got))
		}
		lab.ExpectDrops(t, drops{packet.DropFragOverlap: i + 1})
	}
}

// What is wrong with fragments ends their datagram, by name; what comes of it later goes the same way, and others are not disturbed.
func TestBadFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		lab, a1, _, b1 := translated(t)
		way := natWays(a1, b1)[0][0]
		if v6 {
			way = natWays(a1, b1)[1][0]
		}
		id := uint16(1)
		opts := func(o ...Option) []Option { return way.sent(append(o, ID(id, false))...) }
		udp := UDP(way.sent(Size(1992))...).Bytes()[map[bool]int{false: 34, true: 54}[v6]:]
		u := func(from, to int) *packet.Frame { return part(packet.ProtoUDP, udp, from, to, opts()...) }
		raw := func(proto uint8, offset int, more bool, n int) *packet.Frame {
			return IP(proto, opts(Fragment(uint16(offset/8), more), Size(n))...)
		}
		for _, c := range []struct {
			name   string
			frames func() []*packet.Frame
			pass   int
			want   map[packet.DropReason]int
		}{
			{"teardrop", func() []*packet.Frame {
				return []*packet.Frame{u(0, 1000), raw(packet.ProtoUDP, 24, false, 4), u(1000, 2000)}
			},
				1, drops{packet.DropFragOverlap: 2}},
			{"overlap by one unit", func() []*packet.Frame { return []*packet.Frame{u(0, 1000), u(992, 2000), u(1000, 2000)} },
				1, drops{packet.DropFragOverlap: 2}},
			{"overlap before the first", func() []*packet.Frame { return []*packet.Frame{u(1000, 2000), u(504, 1008), u(0, 504)} },
				0, drops{packet.DropFragOverlap: 3}},
			{"the first one again, longer", func() []*packet.Frame { return []*packet.Frame{u(0, 1000), u(0, 1008), u(1000, 2000)} },
				1, drops{packet.DropFragOverlap: 2}},
			{"new ports behind the first (RFC 3128)", func() []*packet.Frame {
				return []*packet.Frame{raw(packet.ProtoTCP, 0, true, 24), raw(packet.ProtoTCP, 8, true, 8), raw(packet.ProtoTCP, 24, false, 8)}
			}, 1, drops{packet.DropFragOverlap: 2}},
			{"two ends", func() []*packet.Frame {
				return []*packet.Frame{u(0, 800), u(1600, 2000), raw(packet.ProtoUDP, 800, false, 96)}
			},
				2, drops{packet.DropFragOverlap: 1}},
			{"behind the end", func() []*packet.Frame {
				return []*packet.Frame{u(0, 800), raw(packet.ProtoUDP, 800, false, 8), u(1600, 2000)}
			},
				2, drops{packet.DropNone: 0}}, // complete by then: the rest is of a datagram without a beginning
			{"the end before", func() []*packet.Frame {
				return []*packet.Frame{u(0, 800), raw(packet.ProtoUDP, 1600, false, 8), raw(packet.ProtoUDP, 1608, true, 8)}
			},
				2, drops{packet.DropFragOverlap: 1}},
			{"ping of death", func() []*packet.Frame {
				return []*packet.Frame{u(0, 800), raw(packet.ProtoUDP, 65528, false, 100), u(800, 2000)}
			},
				1, drops{packet.DropFragBad: 2}},
			{"tiny first of TCP (RFC 1858)", func() []*packet.Frame {
				return []*packet.Frame{raw(packet.ProtoTCP, 0, true, 16), raw(packet.ProtoTCP, 16, false, 40)}
			}, 0, drops{packet.DropFragBad: 2}},
			{"half a unit", func() []*packet.Frame { return []*packet.Frame{raw(packet.ProtoUDP, 0, true, 801), u(800, 2000)} },
				0, drops{packet.DropFragBad: 2}},
			{"nothing in it", func() []*packet.Frame { return []*packet.Frame{raw(packet.ProtoUDP, 800, true, 0), u(0, 800)} },
				0, drops{packet.DropFragBad: 2}},
			{"twice", func() []*packet.Frame {
				return []*packet.Frame{u(0, 800), u(0, 800), u(800, 1600), u(800, 1600), u(1600, 2000)}
			},
				3, drops{packet.DropFragDuplicate: 2}},
		} {
			id++
			before := lab.Drops()
			a1.Send(c.frames()...)
			after := lab.Drops()
			for r := packet.DropNone + 1; r < packet.DropReasons; r++ {
				if after[r]-before[r] != c.want[r] {
					t.Errorf("%s, v6 %v: %d dropped as %s, want %d", c.name, v6, after[r]-before[r], r, c.want[r])
				}
			}
			if got := b1.Take(); len(got) != c.pass {
				t.Errorf("%s, v6 %v: %d fragments passed, want %d", c.name, v6, len(got), c.pass)
			}
		}
		id++
		a1.Send(u(0, 1000), u(1000, 2000))
		if got := b1.Take(); len(got) != 2 {
			t.Errorf("%d fragments of a good datagram passed", len(got))
		}
	}
}

// Fragments without a beginning wait for a while, within limits, and are lost then, or with their port.
func TestFragmentsWaitInVain(t *testing.T) {
	for family := range 2 {
		lab, a1, a2, b1 := translated(t)
		way := natWays(a1, b1)[family][0]
		later := func(id uint16, from int, n int) *packet.Frame {
			return IP(packet.ProtoUDP, way.sent(ID(id, false), Fragment(uint16(from/8), true), Size(n))...)
		}
		a1.Send(later(1, 800, 800), later(2, 800, 800))
		lab.Advance(router.FragmentTime - time.Second)
		lab.TendRouters()
		lab.ExpectDrops(t, nil)
		a1.Send(IP(packet.ProtoUDP, way.sent(ID(2, false), Fragment(0, true), Size(800))...)) // in time
		if got := b1.Take(); len(got) != 2 {
			t.Fatalf("%d fragments", len(got))
		}
		lab.Advance(time.Second)
		lab.TendRouters()
		lab.ExpectDrops(t, drops{packet.DropFragLate: 1})
		for i := range router.MaxFragments + 5 {
			a1.Send(later(3, 800+16*i, 8))
		}
		lab.ExpectDrops(t, drops{packet.DropFragLate: 1, packet.DropFragMany: router.MaxFragments + 5})

		// A flood of identifications ends its own datagrams, and not that of another port.
		half := way
		half.from, half.src, half.port, half.port2 = a2, []string{"10.1.0.3", "fd01::3"}[family], 61008, 61008
		sent := cut(UDP(half.sent(Size(1992))...), packet.ProtoUDP, 1000, half.sent(ID(9, false))...)
		want := cut(UDP(half.received(Size(1992))...), packet.ProtoUDP, 1000, half.received(ID(9, false))...)
		a2.Send(sent[1])
		lab.Settle()
		for i := range 20000 {
			if a1.Send(later(uint16(i), 8, 8)); i%100 == 0 {
				lab.Settle()
			}
		}
		lab.Settle()
		if n, held := lab.Fragments(); n > router.MaxDatagrams || held > router.MaxHeldBytes {
			t.Errorf("%d datagrams, %d bytes", n, held)
		}
		a2.Send(sent[0])
		b1.Expect(t, want...)
		if got := lab.Drops()[packet.DropFragMany]; got < 20000-router.MaxDatagrams {
			t.Errorf("%d are counted as lost", got)
		}
		before := lab.Drops()[packet.DropPortDown]
		_, held := lab.Fragments()
		a1.Remove()
		if n, left := lab.Fragments(); held == 0 || n != 0 || left != 0 || lab.Drops()[packet.DropPortDown] == before {
			t.Errorf("%d datagrams and %d bytes of a port that is gone, of %d", n, left, held)
		}
	}
}

// Without NAT later fragments of plain routed datagrams wait for the first one too, and the gateway is pinged by fragments in any order.
func TestFragmentsToGateway(t *testing.T) {
	lab, a1, _, _ := routed(t)
	gw := macOf(a1.Net().Gateway().If.MAC)
	for _, c := range [][2]string{{"10.1.0.2", "10.1.0.1"}, {"fd01::2", "fd02::1"}} {
		proto := map[bool]uint8{true: packet.ProtoICMP, false: packet.ProtoICMPv6}[c[0] == "10.1.0.2"]
		there := []Option{From(macOf(a1.MAC), c[0], 0), To(gw, c[1], 0), Echo(5, 6), ID(77, false)}
		back := []Option{To(macOf(a1.MAC), c[0], 0), From(gw, c[1], 0), Echo(5, 6), ID(77, false)}
		sent := cut(ICMPEcho(append(there, Size(3000))...), proto, 800, there...)
		want := cut(ICMPEchoReply(append(back, Size(3000))...), proto, 800, back...)
		a1.Send(reordered(sent, 2, 0, 3, 1)...)
		a1.Expect(t, reordered(want, 2, 0, 3, 1)...)
	}
	lab.ExpectNothing(t)
}

// What-if says what becomes of fragments, and changes nothing.
func TestTraceFragments(t *testing.T) {
	lab, a1, _, b1 := translated(t)
	way := natWays(a1, b1)[0][0]
	sent := cut(UDP(way.sent(Size(1992))...), packet.ProtoUDP, 1000, way.sent(ID(1, false))...)
	for i, want := range []string{"10 snat", "waits for other fragments"} {
		f := sent[i]
		f.Key.InPort = a1.ID()
		if f.Parse() != packet.DropNone {
			t.Fatal("bad test")
		}
		if text := strings.Join(lab.TraceFrame(f).Steps, "\n"); !strings.Contains(text, want) {
			t.Errorf("fragment %d: %s", i, text)
		}
	}
	if n, _ := lab.Fragments(); n != 0 {
		t.Errorf("what-if noted %d datagrams", n)
	}
}
