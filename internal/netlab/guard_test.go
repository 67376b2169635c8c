package netlab_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
)

func hw(p *netlab.Port) string { return net.HardwareAddr(p.MAC[:]).String() }

// What a guarded port may send arrives, from the cache too; what it may not is dropped, also when a decision about a lawful
// frame is cached.
func TestGuardedPort(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Guard()), lab.Port("n", "c2")
		hello(lab, c1, c2)
		for range 3 {
			f := packettest.UDP(c1.From(1), c2.To(2))
			c1.Send(f)
			c2.Expect(t, f)
			c1.Send(packettest.UDP(packettest.From(hw(c1), "10.0.0.9", 1), c2.To(2)))
			c1.Send(packettest.UDP(packettest.From(hw(c2), c1.IP4.String(), 1), c2.To(2)))
			c1.Send(packettest.UDP(c1.From(67), c2.To(68)))
			back := packettest.UDP(c2.From(67), c1.To(68)) // c2 is free to serve
			c2.Send(back)
			c1.Expect(t, back)
		}
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropSourceIP: 3, packet.DropSourceMAC: 3, packet.DropDHCPServer: 3})
		if n := lab.FDB("n").PerPort(c1.ID()); n != 1 {
			t.Errorf("%d addresses are learned from c1: a refused source is not", n)
		}
	})
}

// The ports of a first fragment are not in its Key. Neither it nor a whole datagram of that Key is let pass for the other's sake.
func TestGuardFragmentsAreNotCached(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Guard()), lab.Port("n", "c2")
		hello(lab, c1, c2)
		first := func(src byte) *packet.Frame {
			return packettest.IP(17, c1.From(0), c2.To(0), packettest.Fragment(0, true), packettest.Payload([]byte{0, src, 0, 1, 1, 0, 0, 0}))
		}
		whole := packettest.UDP(c1.From(0), c2.To(0))
		for range 3 {
			c1.Send(whole, first(66), first(67), whole)
			c2.Expect(t, whole, first(66), whole)
		}
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropDHCPServer: 3})
	})
}

// Behind LLC the guard looks at bytes that are not in the Key.
func TestGuardLLCIsNotCached(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Guard()), lab.Port("n", "c2")
		hello(lab, c1, c2)
		llc := func(b ...byte) *packet.Frame {
			return packettest.Raw(46, c1.From(0), c2.To(0), packettest.Payload(append(b, make([]byte, 46-len(b))...)))
		}
		for range 3 {
			c1.Send(llc(0x42, 0x42, 3), llc(0xaa, 0xaa, 3, 0, 0, 0, 8, 0))
			c2.Expect(t, llc(0x42, 0x42, 3))
		}
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropHidden: 3})
	})
}

// A guard that is switched on holds for flows that are cached, and when it is switched off all is as before.
func TestGuardOnAndOff(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		hello(lab, c1, c2)
		f := packettest.UDP(packettest.From(hw(c1), "10.0.0.9", 1), c2.To(2))
		for range 2 {
			c1.Send(f, f)
			c2.Expect(t, f, f)
			c1.Set(netlab.Guard())
			c1.Send(f, f)
			lab.ExpectNothing(t)
			c1.Set(netlab.NoGuard())
		}
		lab.ExpectDrops(t, drops{packet.DropSourceIP: 4})
	})
}

// Each kind has its bucket; what is above the rate is dropped, cached or not, and the rest of the port's traffic is not touched.
func TestStormMeters(t *testing.T) {
	for _, c := range []struct {
		kind flow.StormKind
		to   packettest.Option
	}{
		{flow.StormBroadcast, packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 9)},
		{flow.StormMulticast, packettest.To("01:00:5e:00:00:07", "224.0.0.7", 9)},
		{flow.StormUnknown, packettest.To("02:99:00:00:00:01", "10.0.0.99", 9)},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			modes(t, func(t *testing.T, lab *netlab.Lab) {
				const rate, burst = 200, 20
				c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
				c1.Set(netlab.Storm(c.kind, rate))
				hello(lab, c1, c2)
				lab.Advance(time.Second)
				f, unicast := packettest.UDP(c1.From(1), c.to), packettest.UDP(c1.From(1), c2.To(2))
				lost := 0
				for i, pass := range []int{burst, 10, 10, 1, 0} {
					for range 40 {
						c1.Send(f)
						lab.Settle()
					}
					for range pass {
						c2.Expect(t, f)
					}
					lost += 40 - pass
					c1.Send(unicast)
					c2.Expect(t, unicast)
					lab.Advance([]time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 5 * time.Millisecond, 0, 0}[i])
				}
				lab.ExpectNothing(t)
				lab.ExpectDrops(t, drops{c.kind.Reason(): lost})
				if n := c1.Counters().Drops[c.kind.Reason()]; int(n) != lost {
					t.Errorf("%d drops are counted at the port that sent them, want %d", n, lost)
				}
				// Another port of the network has no meter.
				back := packettest.UDP(c2.From(1), c.to)
				for range 40 {
					c2.Send(back)
					c1.Expect(t, back)
				}
			})
		})
	}
}

// A super-frame counts as its segments.
func TestStormMeterSuperFrames(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Storm(flow.StormMulticast, 200)), lab.Port("n", "c2")
		f := packettest.UDP(c1.From(1), packettest.To("01:00:5e:00:00:07", "224.0.0.7", 9), packettest.GSO(100), packettest.Size(1500))
		c1.Send(f, f, f) // 15 packets each, a burst of 20: the second owes 10 of them
		c2.Expect(t, f, f)
		lab.Advance(45 * time.Millisecond) // 9 tokens
		c1.Send(f)
		lab.Advance(10 * time.Millisecond)
		c1.Send(f)
		c2.Expect(t, f)
		lab.ExpectNothing(t)
		lab.ExpectDrops(t, drops{packet.DropStormMulticast: 30})
	})
}

// A meter that is set, changed or taken away acts at once on flows that are cached.
func TestStormMeterChanges(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
		f := packettest.UDP(c1.From(1), packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 9))
		send := func(want int) {
			t.Helper()
			for range 50 {
				c1.Send(f)
				lab.Settle()
			}
			for range want {
				c2.Expect(t, f)
			}
			lab.ExpectNothing(t)
		}
		send(50)
		c1.Set(netlab.Storm(flow.StormBroadcast, 200))
		send(20)
		c1.Set(netlab.MTU(1400)) // the bucket stays as it is
		send(0)
		c1.Set(netlab.Storm(flow.StormBroadcast, 300))
		send(30)
		c1.Set(netlab.Storm(flow.StormBroadcast, 0))
		send(50)
	})
}

// A trace takes no tokens.
func TestStormMeterAndTrace(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Storm(flow.StormBroadcast, 1)), lab.Port("n", "c2")
		for range 100 {
			lab.Trace(t, "in_port=c1,arp,arp_tpa=10.0.0.9")
		}
		f := packettest.ARPRequest(c1.From(0), c2.To(0))
		for range 10 {
			c1.Send(f)
			c2.Expect(t, f)
		}
		c1.Send(f)
		lab.ExpectNothing(t)
	})
}

// Guards and meters, more often than TestCacheChangesNothing draws them: two ports exchange frames that guards look at closely, at
// rates around those of their meters.
func TestCacheChangesNothingOfGuards(t *testing.T) {
	hits := uint64(0)
	for seed := range uint64(20) {
		w := newTwins(t, rand.New(rand.NewPCG(seed, 3)))
		for _, name := range []string{"p1", "p2", "p3", "p4"} {
			w.both("guard "+name, func(l *netlab.Lab) { l.Find(name).Set(netlab.VLAN(0), netlab.Guard()) })
		}
		for range 400 {
			if w.r.IntN(20) == 0 {
				w.change()
			}
			p := w.labs[0].Find(w.pick())
			w.exchange(sending{p.Name, w.guardedFrame(p)}, 1+w.r.IntN(3))
		}
		w.close()
		hits += w.hits
	}
	if hits < 1000 {
		t.Errorf("%d cache hits: this proves nothing", hits)
	}
}

// guardedFrame draws a frame of a guarded port's own MAC, mostly one that it may send. Many have the Key of others of which the guard
// says something else.
func (w *twins) guardedFrame(p *netlab.Port) *packet.Frame {
	to := w.labs[0].Find(w.pick())
	from4, to4, from6, to6 := p.From(7), to.To(7), p.From6(7), to.To6(7)
	if w.r.IntN(6) == 0 {
		from4, from6 = packettest.From(hw(p), "10.9.9.9", 7), packettest.From(hw(p), "fd09::9", 7)
	}
	if w.r.IntN(6) == 0 {
		to4, to6 = packettest.To("ff:ff:ff:ff:ff:ff", "10.255.255.255", 7), packettest.To("33:33:00:00:00:01", "ff02::1", 7)
	}
	payload := packettest.Payload([]byte{0, []byte{66, 67, 134, 128}[w.r.IntN(4)], 0, 0, 0, 0, 0, 0})
	switch w.r.IntN(10) {
	case 0:
		return packettest.ARPRequest(from4, to4)
	case 1:
		return packettest.ND(136, []netip.Addr{p.IP6, to.IP6}[w.r.IntN(2)].String(), nil, from6, to6)
	case 2:
		return packettest.IP(packet.ProtoUDP, from4, to4, packettest.Fragment(0, true), payload)
	case 3:
		return packettest.UDP(p.From(0), to.To(0)) // has the Key of a fragment
	case 4:
		return packettest.Raw(46, from4, to4, packettest.Payload([]byte{0xaa, 0xaa, 3, 0, 0, 0, []byte{8, 9}[w.r.IntN(2)], 0}))
	case 5:
		return packettest.IP(packet.ProtoICMPv6, from6, to6, packettest.Fragment(uint16(w.r.IntN(2)), true),
			packettest.Payload([]byte{[]byte{128, 134}[w.r.IntN(2)], 0, 0, 0, 0, 0, 0, 0}))
	case 6:
		return packettest.ICMPEcho(from6, to6)
	case 7:
		return packettest.UDP(p.From(uint16(66+w.r.IntN(2))), to4)
	case 8:
		return packettest.TCP(from6, to6, packettest.GSO(500), packettest.Size(4000))
	}
	return packettest.UDP(from4, to4)
}

// A port in a storm is served one refused frame a turn; others are served as always, and so is it once the storm is over.
func TestStormWaitsForOthers(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped(), netlab.NoCoalesce())
	c1 := lab.Port("n", "c1", netlab.Storm(flow.StormBroadcast, 1), netlab.Queue(2000))
	c2, c3 := lab.Port("n", "c2", netlab.Queue(2000)), lab.Port("n", "c3", netlab.Queue(2000))
	hello(lab, c1, c2, c3)
	storm, calm := packettest.ARPRequest(c1.From(0), c2.To(0)), packettest.UDP(c2.From(1), c3.To(1))
	for range 9 { // a burst of 10 is used up
		c1.Send(storm)
	}
	lab.Settle()
	for range 500 {
		c1.Send(storm)
		c2.Send(calm)
	}
	read := func(p *netlab.Port) int { return int(lab.Path().PortCounters()[p.ID()].RxFrames) }
	for range 5 {
		before1, before2 := read(c1), read(c2)
		if err := lab.Path().Turn(); err != nil {
			t.Fatal(err)
		}
		if n, others := read(c1)-before1, read(c2)-before2; n != 1 || others != 64 {
			t.Errorf("a turn reads %d frames of the port in a storm and %d of another, want 1 and 64", n, others)
		}
	}
	lab.Settle()
	lab.ExpectDrops(t, drops{packet.DropStormBroadcast: 500})
}
