package netlab_test

import (
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
)

// The MTU counts bytes at L3; a super-frame's is that of its segments.
func TestMTU(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, small := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "small", netlab.MTU(1400))
		hello(lab, c1, c2, small)
		udp := func(to *netlab.Port, l3 int, o ...packettest.Option) *packet.Frame {
			return packettest.UDP(append(o, c1.From(1), to.To(1), packettest.Size(l3-28))...)
		}
		for range 2 {
			c1.Send(udp(c2, 1500), udp(c2, 1501), udp(small, 1400), udp(small, 1401), udp(small, 1501))
			c2.Expect(t, udp(c2, 1500))
			small.Expect(t, udp(small, 1400))
			tagged := udp(c2, 1500, packettest.VLAN(0)) // a tag is not part of L3
			c1.Send(tagged)
			c2.Expect(t, udp(c2, 1500))
			super, wide := udp(c2, 28+5000, packettest.GSO(1472)), udp(c2, 28+5000, packettest.GSO(1473))
			c1.Send(super, wide)
			c2.Expect(t, super)
			super, wide = udp(small, 28+5000, packettest.GSO(1372)), udp(small, 28+5000, packettest.GSO(1373))
			c1.Send(super, wide)
			small.Expect(t, super)
		}
		lab.ExpectNothing(t)
		// 1501, 1401, 1501, and the segments of the wide ones: 4 each.
		lab.ExpectDrops(t, drops{packet.DropOverMTU: 2 * (3 + 4 + 4)})

		// Each receiver of a flood by its own MTU.
		b := packettest.UDP(c1.From(1), packettest.To("ff:ff:ff:ff:ff:ff", "10.255.255.255", 1), packettest.Size(1401-28))
		c1.Send(b, b)
		c2.Expect(t, b, b)
		lab.ExpectNothing(t)
		if n := small.Counters().Drops[packet.DropOverMTU]; n != 2 {
			t.Errorf("%d drops at the small port", n)
		}
		small.Set(netlab.MTU(1401))
		c1.Send(b)
		c2.Expect(t, b)
		small.Expect(t, b)
	})
}

// Devices without offload get finished frames, from cached flows, floods and super-frames alike.
func TestOffload(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1 := lab.Port("n", "c1")
		bare, csum := lab.Port("n", "bare", netlab.Offload(0)), lab.Port("n", "csum", netlab.Offload(port.OffloadCsum))
		hello(lab, c1, bare, csum)
		for _, to := range []*netlab.Port{bare, csum} {
			frames := []*packet.Frame{
				packettest.UDP(c1.From(1), to.To(1), packettest.Partial(), packettest.Size(100)),
				packettest.UDP(c1.From6(1), to.To6(1), packettest.Partial(), packettest.Size(101)),
				packettest.UDP(c1.From(1), to.To(1), packettest.GSO(1000), packettest.Size(4321)),
				packettest.TCP(c1.From(1), to.To(1), packettest.GSO(1448), packettest.Size(60000), packettest.Flags(0x18)),
				packettest.TCP(c1.From6(1), to.To6(1), packettest.GSO(1400), packettest.Size(60000)),
			}
			for range 2 {
				c1.Send(frames...)
			}
			for _, f := range to.Raw() {
				if to == bare {
					packettest.CheckFinished(t, f)
				} else if f.Vnet().GSOType() != 0 {
					t.Error("a super-frame for a device without TSO and USO")
				}
			}
			c1.Send(frames...)
			to.Expect(t, frames...)
		}
		b := packettest.UDP(c1.From(1), packettest.To("ff:ff:ff:ff:ff:ff", "10.255.255.255", 1), packettest.Partial())
		c1.Send(b)
		for _, f := range bare.Raw() {
			packettest.CheckFinished(t, f)
		}
		csum.Expect(t, b)
		lab.ExpectDrops(t, nil)
	})
}

// A port that lends its memory has it spoilt when it may no longer be looked at.
func TestBorrowedFrames(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		vtep := lab.Port("n", "vtep", netlab.Lending(), netlab.VLAN(10))
		c1, trunk := lab.Port("n", "c1", netlab.VLAN(10)), lab.Port("n", "trunk", netlab.Trunk(10, 10))
		hello(lab, vtep, c1)
		trunk.Send(packettest.ARPRequest(trunk.From(0), trunk.To(0), packettest.VLAN(10)))
		lab.Discard()
		var frames, tagged []*packet.Frame
		for i := range 40 {
			o := []packettest.Option{vtep.From(1), packettest.ID(uint16(i), false), packettest.Size(100 + i%3), packettest.Partial()}
			frames = append(frames, packettest.UDP(append(o, c1.To(1))...))
			vtep.Send(frames[i], packettest.UDP(append(o, trunk.To(1))...))
			tagged = append(tagged, packettest.UDP(append(o, trunk.To(1), packettest.VLAN(10))...))
		}
		b := packettest.ARPRequest(vtep.From(0), c1.To(0))
		vtep.Send(b)
		c1.Expect(t, append(frames, b)...)
		trunk.Expect(t, append(tagged, packettest.ARPRequest(vtep.From(0), c1.To(0), packettest.VLAN(10)))...)
	})
}
