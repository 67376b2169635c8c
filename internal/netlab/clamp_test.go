package netlab_test

import (
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
)

// The segment size that a SYN or SYN ACK announces is lowered to the smaller MTU of its way, never raised, and left alone where the MTUs are
// the same.
func TestClampMSS(t *testing.T) {
	lab, a1, a2, b1 := translated(t)
	mss := func(n int) Option { return TCPOptions(4, 2, 2, 4, byte(n>>8), byte(n), 1, 1) }
	for i, way := range natWays(a1, b1) {
		there, back := way[0], way[1]
		fits := []int{1360, 1340}[i]
		for _, c := range []struct {
			leg   leg
			flags uint8
		}{{there, packet.TCPSyn}, {back, packet.TCPSyn | packet.TCPAck}} {
			for sent, want := range map[int]int{1460: fits, 65000: fits, fits: fits, fits - 1: fits - 1, 88: 88} {
				for _, o := range [][]Option{nil, {Partial()}} {
					o = append(o, Flags(c.flags))
					c.leg.from.Send(TCP(c.leg.sent(append(o, mss(sent))...)...))
					c.leg.to.Expect(t, TCP(c.leg.received(append(o, mss(want))...)...))
				}
			}
		}
		there.check(t, TCP, mss(1460)) // no SYN: nobody heeds it
	}
	// Also where a decision about frames without SYN is in the cache, and nothing is translated.
	plain := leg{from: b1, to: a2, src: "10.2.0.2", dst: "10.1.0.3", src2: "10.2.0.2", dst2: "10.1.0.3", port: 4000, at: 80, port2: 4000, at2: 80}
	lab.Network("a").SetNAT(nil)
	lab.Network("b").SetNAT(nil)
	for range 2 {
		plain.check(t, TCP)
		b1.Send(TCP(plain.sent(Flags(packet.TCPSyn), mss(1460))...))
		a2.Expect(t, TCP(plain.received(Flags(packet.TCPSyn), mss(1360))...))
	}
	lab.ExpectNothing(t)
	lab.ExpectDrops(t, nil)
}

// Where both sides have the same MTU nothing is lowered, whatever is announced.
func TestClampMSSNot(t *testing.T) {
	lab, a1, _, b1 := routed(t)
	b1.Set(netlab.MTU(1500))
	lab.Gateway("b", 1500, "10.2.0.1/24", "fd02::1/64")
	meet(t, a1, b1)
	way := leg{from: a1, to: b1, src: "10.1.0.2", dst: "10.2.0.2", src2: "10.1.0.2", dst2: "10.2.0.2", port: 4000, at: 80, port2: 4000, at2: 80}
	way.check(t, TCP, Flags(packet.TCPSyn), TCPOptions(2, 4, 0xff, 0xff))
	before := lab.Path().WorkerCounters()[0].FlowHits
	way.check(t, TCP, Flags(packet.TCPSyn), TCPOptions(2, 4, 0xff, 0xff))
	if lab.Path().WorkerCounters()[0].FlowHits == before {
		t.Error("the second SYN was decided anew")
	}
}

// What comes by an uplink says what the other end can receive, which the uplink may not carry: its MTU counts, not what its port can read.
func TestClampMSSFromUplink(t *testing.T) {
	lab, a1, u, _ := uplinked(t, pipeline.MasqueradeAuto)
	u.Set(netlab.MTU(65517))
	for i, c := range [][3]string{{"203.0.113.9", "192.0.2.2", "10.1.0.2"}, {"2001:db8:f::9", "2001:db8::2", "fd01::2"}} {
		fits := []int{1360, 1340}[i]
		there := leg{from: u, to: a1, src: c[0], dst: c[1], src2: c[0], dst2: c[2], port: 5000, at: 8080, port2: 5000, at2: 80}
		u.Send(TCP(From(macOf(u.MAC), there.src, there.port), outside(there.dst, there.at), Flags(packet.TCPSyn), TCPOptions(2, 4, 0x23, 0x28)))
		a1.Expect(t, TCP(there.received(Flags(packet.TCPSyn), TCPOptions(2, 4, byte(fits>>8), byte(fits)))...))
	}
	lab.ExpectNothing(t)
}
