package netlab_test

import (
	"net/netip"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/nat"
	"vswitch/router"
)

// sctpPublished is translated, with a1's SCTP port 80 published at 8080. The ways lead there and back, in both families.
func sctpPublished(t *testing.T) (lab *netlab.Lab, ways [][2]leg) {
	t.Helper()
	lab, a1, _, b1 := translated(t)
	if err := lab.Published().Add(&nat.Publication{
		Owner: "a1", Zone: 1, Proto: packet.ProtoSCTP, Low: 8080, High: 8080, ToPort: 80, To: []netip.Addr{a1.IP4, a1.IP6},
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{{"10.2.0.2", "10.2.0.1", "10.1.0.2"}, {"fd02::2", "fd02::1", "fd01::2"}} {
		ways = append(ways, [2]leg{
			{from: b1, to: a1, src: c[0], dst: c[1], src2: c[0], dst2: c[2], port: 5000, at: 8080, port2: 5000, at2: 80},
			{from: a1, to: b1, src: c[2], dst: c[0], src2: c[1], dst2: c[0], port: 80, at: 5000, port2: 8080, at2: 5000},
		})
	}
	return lab, ways
}

// Ports of SCTP are translated, and the CRC32c with them: of whole packets, and of fragments in any order, which wait for the last one.
func TestSCTPTranslated(t *testing.T) {
	lab, ways := sctpPublished(t)
	id := uint16(0)
	for _, way := range ways {
		for _, l := range way {
			l.check(t, SCTP, Size(1200))
			for _, order := range [][2][]int{
				{{0, 1, 2, 3}, {0, 1, 2, 3}}, {{3, 2, 1, 0}, {0, 3, 2, 1}}, {{1, 0, 3, 2}, {0, 1, 3, 2}}, {{2, 3, 0, 1}, {0, 2, 3, 1}},
			} {
				id++
				sent := cut(SCTP(l.sent(Size(4000))...), packet.ProtoSCTP, 1016, l.sent(ID(id, false))...)
				want := cut(SCTP(l.received(Size(4000))...), packet.ProtoSCTP, 1016, l.received(ID(id, false))...)
				l.from.Send(reordered(sent, order[0]...)...)
				l.to.Expect(t, reordered(want, order[1]...)...)
			}
		}
	}
	lab.ExpectDrops(t, nil)
	lab.ExpectNothing(t)
	if n, held := lab.Fragments(); n != 0 || held != 0 {
		t.Errorf("%d datagrams are known yet, %d bytes wait: all are complete", n, held)
	}
}

// A packet of SCTP that lost its last fragment is lost whole, by name.
func TestSCTPFragmentsWaitInVain(t *testing.T) {
	lab, ways := sctpPublished(t)
	l := ways[0][0]
	sent := cut(SCTP(l.sent(Size(3000))...), packet.ProtoSCTP, 1016, l.sent(ID(1, false))...)
	l.from.Send(sent[0], sent[1])
	lab.Advance(router.FragmentTime)
	lab.TendRouters()
	lab.ExpectDrops(t, drops{packet.DropFragLate: 2})
	lab.ExpectNothing(t)
}

// An ICMP error about an SCTP packet reaches its sender however little it quotes (RFC 792: 8 bytes, without the CRC32c), and quotes what was sent.
func TestSCTPErrors(t *testing.T) {
	lab, ways := sctpPublished(t)
	for i, way := range ways {
		there, back := way[0], way[1]
		there.check(t, SCTP)
		for _, n := range []int{8, 12, 500} {
			header, unreachable := []int{34, 54}[i], []uint8{3, 1}[i]
			quote := func(o []Option) []byte { return SCTP(append(o, Size(1200))...).Bytes()[14 : header+n] }
			back.check(t, SCTP, Size(1200))
			there.from.Send(ICMP(unreachable, there.sent(Payload(quote(back.received())))...))
			there.to.Expect(t, ICMP(unreachable, there.received(Payload(quote(back.sent(TTL(63)))))...))
		}
	}
	lab.ExpectDrops(t, nil)
	lab.ExpectNothing(t)
}
