package netlab_test

import (
	"testing"
	"time"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	l2switch "vswitch/switch"
)

type drops = map[packet.DropReason]int

// hello lets each port be learned: it sends a broadcast, which nobody looks at.
func hello(lab *netlab.Lab, ports ...*netlab.Port) {
	for _, p := range ports {
		p.Send(packettest.ARPRequest(p.From(0), p.To(0)))
	}
	lab.Discard()
}

// modes runs the test with the cache and without it: nobody outside can tell.
func modes(t *testing.T, test func(*testing.T, *netlab.Lab)) {
	t.Run("cache", func(t *testing.T) { test(t, netlab.New(t)) })
	t.Run("no cache", func(t *testing.T) { test(t, netlab.New(t, netlab.NoCache())) })
	t.Run("two workers", func(t *testing.T) { test(t, netlab.New(t, netlab.Workers(2))) })
}

func TestLearning(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
		other := lab.Port("other", "c4")
		f := packettest.UDP(c1.From(1), c2.To(2))
		c1.Send(f)
		c2.Expect(t, f) // unknown: flooded
		c3.Expect(t, f)
		reply := packettest.UDP(c2.From(2), c1.To(1))
		c2.Send(reply, reply)
		c1.Expect(t, reply, reply)
		c1.Send(f, f)
		c2.Expect(t, f, f)
		other.ExpectNothing(t)
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, nil)
	})
}

func TestMove(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
		hello(lab, c1, c2, c3)
		toC2 := packettest.UDP(c1.From(1), c2.To(2))
		for range 3 {
			c1.Send(toC2)
			c2.Expect(t, toC2)
		}
		moved := packettest.UDP(c2.From(2), c1.To(1))
		c3.Send(moved) // c2's address speaks from c3
		c1.Expect(t, moved)
		c1.Send(toC2)
		c3.Expect(t, toC2)
		c2.Send(moved)
		c1.Expect(t, moved)
		c1.Send(toC2)
		c2.Expect(t, toC2)
		lab.ExpectNothing(t)
		if c := lab.FDB("n").Counters(); c.Moved != 2 {
			t.Errorf("%d moves", c.Moved)
		}
	})
}

func TestAgeing(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
		hello(lab, c1, c2, c3)
		f, back := packettest.UDP(c1.From(1), c2.To(2)), packettest.UDP(c2.From(2), c1.To(1))
		for range 5 { // use keeps both alive, from the cache too
			lab.Advance(200 * time.Second)
			c1.Send(f)
			c2.Expect(t, f)
			c2.Send(back)
			c1.Expect(t, back)
		}
		if n := lab.Sweep(); n != 1 {
			t.Errorf("%d entries expired, want that of c3", n)
		}
		lab.Advance(299 * time.Second)
		if n := lab.Sweep(); n != 0 {
			t.Errorf("%d entries expired too early", n)
		}
		lab.Advance(time.Second)
		if n := lab.Sweep(); n != 2 {
			t.Errorf("%d entries expired, want c1's and c2's", n)
		}
		c1.Send(f)
		c2.Expect(t, f)
		c3.Expect(t, f)
		lab.ExpectNothing(t)
	})
}

// To be a destination does not keep an address alive.
func TestAgeingOfTheSilent(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
		hello(lab, c1, c2, c3)
		f := packettest.UDP(c1.From(1), c2.To(2))
		for range 4 {
			c1.Send(f)
			c2.Expect(t, f)
			c3.ExpectNothing(t)
			lab.Advance(75 * time.Second)
			lab.Sweep()
		}
		c1.Send(f)
		c2.Expect(t, f)
		c3.Expect(t, f)
	})
}

func TestStatic(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2"), lab.Port("n", "c3")
		hello(lab, c1, c2, c3)
		f := packettest.UDP(c1.From(1), c2.To(2))
		c1.Send(f)
		c2.Expect(t, f)
		if err := lab.FDB("n").AddStatic(0, c2.MAC, c3.ID()); err != nil {
			t.Fatal(err)
		}
		c1.Send(f)
		c3.Expect(t, f)
		back := packettest.UDP(c2.From(2), c1.To(1))
		c2.Send(back, back) // passes, and moves nothing
		c1.Expect(t, back, back)
		c1.Send(f)
		c3.Expect(t, f)
		lab.Advance(time.Hour)
		if n := lab.Sweep(); n != 3-1 {
			t.Errorf("%d entries expired", n)
		}
		c1.Send(f)
		c3.Expect(t, f)
		lab.FDB("n").DeleteEntry(0, c2.MAC)
		c1.Send(f)
		c2.Expect(t, f)
		c3.Expect(t, f)
		lab.ExpectNothing(t)
	})
}

// A port over its limit of addresses gives up its oldest, and nobody else's.
func TestMACLimit(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2, c3 := lab.Port("n", "c1"), lab.Port("n", "c2", netlab.MACLimit(2)), lab.Port("n", "c3")
		hello(lab, c1, c3)
		for _, mac := range []string{"02:99:00:00:00:01", "02:99:00:00:00:02", "02:99:00:00:00:03"} {
			f := packettest.UDP(packettest.From(mac, "10.9.9.9", 1), c1.To(1))
			c2.Send(f)
			c1.Expect(t, f)
			lab.Advance(time.Second)
		}
		for i, mac := range []string{"02:99:00:00:00:01", "02:99:00:00:00:02", "02:99:00:00:00:03"} {
			f := packettest.UDP(c1.From(1), packettest.To(mac, "10.9.9.9", 1))
			c1.Send(f)
			c2.Expect(t, f)
			if i == 0 {
				c3.Expect(t, f)
			}
		}
		lab.ExpectNothing(t)
		if n := lab.FDB("n").PerPort(c2.ID()); n != 2 {
			t.Errorf("%d addresses on c2", n)
		}
	})
}

func TestVLANs(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		a10, b10 := lab.Port("n", "a10", netlab.VLAN(10)), lab.Port("n", "b10", netlab.VLAN(10))
		a20, plain := lab.Port("n", "a20", netlab.VLAN(20)), lab.Port("n", "plain")
		trunk := lab.Port("n", "trunk", netlab.Trunk(10, 20))
		native := lab.Port("n", "native", netlab.Trunk(20, 30), netlab.Native(10))
		broadcast := func(p *netlab.Port, o ...packettest.Option) *packet.Frame {
			return packettest.ARPRequest(append(o, p.From(0), p.To(0))...)
		}
		untagged, tagged := broadcast(a10), broadcast(a10, packettest.VLAN(10))

		a10.Send(untagged)
		b10.Expect(t, untagged)
		native.Expect(t, untagged)
		trunk.Expect(t, tagged)
		lab.ExpectNothing(t)

		// A frame with the tag of the port's own VLAN, or with a priority only, is the same. The priority goes on.
		a10.Send(tagged)
		b10.Expect(t, untagged)
		native.Expect(t, untagged)
		trunk.Expect(t, tagged)
		a10.Send(broadcast(a10, packettest.VLAN(0xe000)))
		b10.Expect(t, untagged)
		native.Expect(t, untagged)
		trunk.Expect(t, broadcast(a10, packettest.VLAN(0xe00a)))
		plain2 := lab.Port("n", "plain2")
		plain.Send(broadcast(plain, packettest.VLAN(0xe000)))
		plain2.Expect(t, broadcast(plain))
		plain2.Remove()
		lab.ExpectNothing(t)

		// From trunks. The priority survives from trunk to trunk.
		f := broadcast(trunk, packettest.VLAN(0x6014))
		trunk.Send(f)
		a20.Expect(t, broadcast(trunk))
		native.Expect(t, f)
		native.Send(broadcast(native))
		a10.Expect(t, broadcast(native))
		b10.Expect(t, broadcast(native))
		trunk.Expect(t, broadcast(native, packettest.VLAN(10)))
		native.Send(broadcast(native, packettest.VLAN(30)))
		trunk.Send(broadcast(trunk), broadcast(trunk, packettest.VLAN(21)))
		plain.Send(broadcast(plain), broadcast(plain, packettest.VLAN(10)))
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropNoReceiver: 2, packet.DropVLANNotMember: 3})

		// Unicast, the same address in two VLANs.
		one, two := packettest.UDP(a10.From(1), trunk.To(1)), packettest.UDP(trunk.From(1), a10.To(1), packettest.VLAN(10))
		trunk.Send(two)
		a10.Expect(t, packettest.UDP(trunk.From(1), a10.To(1)))
		for range 2 {
			a10.Send(one)
			trunk.Expect(t, packettest.UDP(a10.From(1), trunk.To(1), packettest.VLAN(10)))
			a10.Send(packettest.UDP(a10.From(1), trunk.To(1), packettest.VLAN(0x6000)))
			trunk.Expect(t, packettest.UDP(a10.From(1), trunk.To(1), packettest.VLAN(0x600a)))
			b10.Send(packettest.UDP(b10.From(1), a10.To(1), packettest.VLAN(0x6000)))
			a10.Expect(t, packettest.UDP(b10.From(1), a10.To(1)))
		}
		twenty := packettest.UDP(trunk.From(1), a10.To(1), packettest.VLAN(20))
		trunk.Send(twenty) // a10's address is not known in VLAN 20
		a20.Expect(t, packettest.UDP(trunk.From(1), a10.To(1)))
		native.Expect(t, twenty)
		lab.ExpectNothing(t)
	})
}

// Tags behind the outermost, and tags that are not 802.1Q, pass untouched.
func TestQinQIsOpaque(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		a, trunk := lab.Port("v", "a", netlab.VLAN(10)), lab.Port("v", "trunk", netlab.Trunk(10, 10))
		hello(lab, c1, c2)
		for range 2 {
			f := packettest.UDP(c1.From(1), c2.To(1), packettest.ServiceVLAN(5), packettest.VLAN(6))
			c1.Send(f)
			c2.Expect(t, f)
			a.Send(packettest.UDP(a.From(1), trunk.To(1), packettest.ServiceVLAN(5), packettest.VLAN(6)))
			trunk.Expect(t, packettest.UDP(a.From(1), trunk.To(1), packettest.VLAN(10), packettest.ServiceVLAN(5), packettest.VLAN(6)))
			trunk.Send(packettest.UDP(trunk.From(1), a.To(1), packettest.VLAN(10, 11)))
			a.Expect(t, packettest.UDP(trunk.From(1), a.To(1), packettest.VLAN(11)))
		}
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, nil)
	})
}

func TestReservedGroups(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		for _, mac := range []string{"01:80:c2:00:00:01", "01:80:c2:00:00:0e", "01:80:c2:00:00:0f"} {
			c1.Send(packettest.Raw(0x88cc, c1.From(0), packettest.To(mac, "10.0.0.1", 0), packettest.Size(46)))
		}
		f := packettest.Raw(0x88cc, c1.From(0), packettest.To("01:80:c2:00:00:10", "10.0.0.1", 0), packettest.Size(46))
		c1.Send(f)
		c2.Expect(t, f)
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropReservedGroup: 3})
	})
}

func TestIsolated(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		i1, i2 := lab.Port("n", "i1", netlab.Isolated()), lab.Port("n", "i2", netlab.Isolated())
		open := lab.Port("n", "open")
		hello(lab, i1, i2, open)
		for range 2 {
			i1.Send(packettest.UDP(i1.From(1), i2.To(1)))
			f, g := packettest.UDP(i1.From(1), open.To(1)), packettest.UDP(open.From(1), i1.To(1))
			i1.Send(f)
			open.Expect(t, f)
			open.Send(g)
			i1.Expect(t, g)
			b := packettest.ARPRequest(i1.From(0), i2.To(0))
			i1.Send(b)
			open.Expect(t, b)
			b = packettest.ARPRequest(open.From(0), i2.To(0))
			open.Send(b)
			i1.Expect(t, b)
			i2.Expect(t, b)
		}
		lab.ExpectNothing(t)
		i2.Set(netlab.NotIsolated())
		f := packettest.UDP(i1.From(1), i2.To(1))
		i1.Send(f, f)
		i2.Expect(t, f, f)
		lab.ExpectDrops(t, drops{packet.DropIsolated: 2})
		open.Remove()
		i2.Set(netlab.Isolated())
		i1.Send(packettest.ARPRequest(i1.From(0), i2.To(0)))
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropIsolated: 3})
	})
}

func TestICC(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		hello(lab, c1, c2)
		f := packettest.UDP(c1.From(1), c2.To(1))
		c1.Send(f, f)
		c2.Expect(t, f, f)
		lab.ICC("n", false)
		c1.Send(f, f, packettest.ARPRequest(c1.From(0), c2.To(0)))
		lab.ExpectNothing(t)
		lab.ICC("n", true)
		c1.Send(f)
		c2.Expect(t, f)
		lab.ExpectDrops(t, drops{packet.DropICCOff: 3})
	})
}

func TestLimitsOfANetwork(t *testing.T) {
	lab := netlab.New(t)
	c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
	lab.FDB("n").SetLimits(l2switch.Limits{MACs: 8})
	hello(lab, c2)
	for i := range 100 {
		f := packettest.UDP(packettest.From("02:88:00:00:00:"+string("0123456789abcdef"[i/16])+string("0123456789abcdef"[i%16]), "10.1.1.1", 1), c2.To(1))
		c1.Send(f)
		c2.Expect(t, f)
	}
	if n := lab.FDB("n").Len(); n != 8 {
		t.Errorf("%d entries", n)
	}
	f := packettest.UDP(c1.From(1), c2.To(1))
	c1.Send(f)
	c2.Expect(t, f) // c2's one address was never evicted
	lab.ExpectNothing(t)
}
