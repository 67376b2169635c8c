package netlab_test

import (
	"testing"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/port"
)

// dropCase is a frame that c1 sends, and why it is lost. How many packets it is comes from the frame: a super-frame is its
// segments, but when the parser refused it nobody knows of how many it is.
type dropCase struct {
	reason  packet.DropReason
	frame   func(c1, c2 *netlab.Port) *packet.Frame
	prepare func(lab *netlab.Lab, c1, c2 *netlab.Port)
	packets int
	at      string // port on which it is counted; c1 unless said
}

// raw is a frame of these bytes behind c1's Ethernet header to c2.
func raw(etherType uint16, b ...byte) func(c1, c2 *netlab.Port) *packet.Frame {
	return func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.Raw(etherType, c1.From(0), c2.To(0), packettest.Payload(b))
	}
}

func udp(o ...packettest.Option) func(c1, c2 *netlab.Port) *packet.Frame {
	return func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.UDP(append([]packettest.Option{c1.From(1), c2.To(1)}, o...)...)
	}
}

// ip cuts an IPv4 datagram short, by its own account too.
func ip(proto uint8, n int) func(c1, c2 *netlab.Port) *packet.Frame {
	return func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.IP(proto, c1.From(1), c2.To(1), packettest.Size(n))
	}
}

var dropCases = []dropCase{
	{reason: packet.DropRunt, frame: func(c1, c2 *netlab.Port) *packet.Frame { f := udp()(c1, c2); f.SetLen(13); return f }},
	{reason: packet.DropOversize, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		f := udp()(c1, c2)
		f.SetLen(packet.MaxFrame + 1)
		return f
	}},
	{reason: packet.DropBadVnet, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		f := udp(packettest.GSO(100), packettest.Size(1000))(c1, c2)
		f.Vnet().Set(packet.VnetNeedsCsum, packet.GSOTCPv4, 42, 100, 34, 16)
		return f
	}},
	{reason: packet.DropBadVLAN, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		f := udp(packettest.VLAN(5))(c1, c2)
		f.SetLen(16)
		return f
	}},
	{reason: packet.DropBadARP, frame: raw(packet.EtherTypeARP, 0, 1, 8, 0, 6, 4)},
	{reason: packet.DropBadIPv4, frame: raw(packet.EtherTypeIPv4, 0x45, 0, 0, 20)},
	{reason: packet.DropBadIPv6, frame: raw(packet.EtherTypeIPv6, 0x60)},
	{reason: packet.DropBadTCP, frame: ip(packet.ProtoTCP, 19)},
	{reason: packet.DropBadUDP, frame: ip(packet.ProtoUDP, 7)},
	{reason: packet.DropBadICMP, frame: ip(packet.ProtoICMP, 3)},
	{reason: packet.DropPortDown, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) {
		lab.Bridge("n").RemovePort(c1.ID())
	}},
	{reason: packet.DropBadSourceMAC, frame: udp(packettest.From("03:00:00:00:00:01", "10.0.0.1", 1))},
	{reason: packet.DropBadSourceMAC, frame: udp(packettest.From("00:00:00:00:00:00", "10.0.0.1", 1))},
	{reason: packet.DropVLANNotMember, frame: udp(packettest.VLAN(7))},
	{reason: packet.DropReservedGroup, frame: udp(packettest.To("01:80:c2:00:00:02", "10.0.0.2", 1))},
	{reason: packet.DropBPDU, frame: udp(packettest.To("01:80:c2:00:00:00", "10.0.0.2", 1))},
	{reason: packet.DropBPDU, frame: udp(packettest.To("01:80:c2:00:00:08", "10.0.0.2", 1))},
	{reason: packet.DropBPDU, frame: udp(packettest.To("01:00:0c:cc:cc:cd", "10.0.0.2", 1))},
	{reason: packet.DropPortBlocked, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c1.Block() }},
	{reason: packet.DropLoopProbe, frame: func(c1, c2 *netlab.Port) *packet.Frame { return c1.Probe() }},
	{reason: packet.DropSamePort, frame: func(c1, c2 *netlab.Port) *packet.Frame { return packettest.UDP(c1.From(1), c1.To(1)) }},
	{reason: packet.DropNoReceiver, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.Remove() }},
	{reason: packet.DropNoReceiver, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.Set(netlab.VLAN(9)) }},
	{reason: packet.DropIsolated, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) {
		c1.Set(netlab.Isolated())
		c2.Set(netlab.Isolated())
	}},
	{reason: packet.DropICCOff, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { lab.ICC("n", false) }},
	{reason: packet.DropRuleDeny, frame: udp(), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { lab.Rules("n", "c1 in deny --proto udp") }},
	{reason: packet.DropRuleReject, prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { lab.Rules("n", "c2 out reject --src @c1") },
		frame: func(c1, c2 *netlab.Port) *packet.Frame { // a reset: nobody is told of those
			return packettest.TCP(c1.From(1), c2.To(1), packettest.Flags(packet.TCPRst))
		}},
	{reason: packet.DropOverMTU, frame: udp(packettest.Size(1473))},
	{reason: packet.DropOverMTU, frame: udp(packettest.Size(1001)), prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.Set(netlab.MTU(1000)) }},
	{reason: packet.DropOverMTU, frame: udp(packettest.GSO(1473), packettest.Size(10000)), packets: 7},
	{reason: packet.DropStormBroadcast, frame: udp(packettest.To("ff:ff:ff:ff:ff:ff", "10.0.0.255", 9)), prepare: exhaust(flow.StormBroadcast)},
	{reason: packet.DropStormMulticast, frame: udp(packettest.To("01:00:5e:00:00:07", "224.0.0.7", 9)), prepare: exhaust(flow.StormMulticast)},
	{reason: packet.DropStormUnknown, frame: udp(packettest.To("02:99:00:00:00:01", "10.0.0.99", 9)), prepare: exhaust(flow.StormUnknown)},
	{reason: packet.DropSourceMAC, frame: udp(packettest.From("02:99:00:00:00:01", "10.0.0.1", 1)), prepare: guard},
	{reason: packet.DropSourceIP, frame: udp(packettest.From("02:00:00:00:00:01", "10.0.0.9", 1), packettest.GSO(100), packettest.Size(450)), packets: 5, prepare: guard},
	{reason: packet.DropARPSpoof, prepare: guard, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.ARPReply(packettest.From(hw(c1), c2.IP4.String(), 0), c2.To(0))
	}},
	{reason: packet.DropNDSpoof, prepare: guard, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.ND(136, c2.IP6.String(), nil, c1.From6(0), c2.To6(0))
	}},
	{reason: packet.DropDHCPServer, prepare: guard, frame: func(c1, c2 *netlab.Port) *packet.Frame { return packettest.UDP(c1.From(67), c2.To(68)) }},
	{reason: packet.DropRA, prepare: guard, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.ND(134, "", nil, c1.From6(0), c2.To6(0), packettest.Size(8))
	}},
	{reason: packet.DropRedirect, prepare: guard, frame: func(c1, c2 *netlab.Port) *packet.Frame {
		return packettest.ICMP(5, c1.From(0), c2.To(0), packettest.Size(28))
	}},
	{reason: packet.DropHidden, prepare: guard, frame: udp(packettest.VLAN(0, 0, 0, 0))},
	{reason: packet.DropEgressGone, frame: udp(), at: "c2", prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.Kill() }},
	{reason: packet.DropEgressDown, frame: udp(packettest.GSO(1000), packettest.Size(9000)), packets: 9, at: "c2",
		prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.SetDown(true) }},
	{reason: packet.DropEgressFull, frame: udp(), at: "c2", prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) {
		for range 8 {
			c1.Send(packettest.ARPReply(c1.From(0), c2.To(0)))
		}
		lab.Settle()
	}},
	{reason: packet.DropEgressRefused, frame: udp(packettest.GSO(100), packettest.Size(450)), packets: 5, at: "c2",
		prepare: func(lab *netlab.Lab, c1, c2 *netlab.Port) { c2.SetOffload(port.OffloadTSO4) }},
}

// guard is what a port is prepared with whose frame its source guard refuses.
func guard(_ *netlab.Lab, c1, _ *netlab.Port) { c1.Set(netlab.Guard()) }

// exhaust gives c1 a meter for the kind of storm that lets nothing more pass.
func exhaust(kind flow.StormKind) func(lab *netlab.Lab, c1, c2 *netlab.Port) {
	return func(lab *netlab.Lab, c1, _ *netlab.Port) {
		m := flow.NewMeter(kind, flow.MinRate)
		m.Take(lab.Now(), 1000)
		c1.Set(netlab.Meter(m))
	}
}

// The reasons that no single frame can bring about on a plain switch, and where else they are tested.
var unreachable = map[packet.DropReason]string{
	packet.DropTTL: "TestRouterErrors", packet.DropNoRoute: "TestRouterErrors", packet.DropNoService: "TestRouterErrors",
	packet.DropFragNeeded: "TestRouterErrors", packet.DropInternalNetwork: "TestStaticRoutes",
	packet.DropGatewayMAC: "TestRouterRefuses", packet.DropGatewaySpoof: "TestRouterRefuses", packet.DropNotRoutable: "TestRouterRefuses",
	packet.DropMartian: "TestRouterRefuses", packet.DropReversePath: "TestRouterRefuses", packet.DropDirectedBroadcast: "TestRouterRefuses",
	packet.DropSourceRoute: "TestRouterRefuses", packet.DropNeighborFailed: "TestNeighborMovesAndDies", packet.DropNeighborQueue: "TestScan",

	packet.DropFragBad: "TestBadFragments", packet.DropFragOverlap: "TestBadFragments", packet.DropFragDuplicate: "TestBadFragments",
	packet.DropFragLate: "TestFragmentsWaitInVain", packet.DropFragMany: "TestFragmentsWaitInVain",

	packet.DropConnInvalid: "TestForgedReset", packet.DropConnFull: "TestConnectionLimits", packet.DropNATPorts: "TestConnectionLimits",
	packet.DropForeign: "TestUplinkForeign", packet.DropUplinkRefused: "TestUplinkSource",
	packet.DropNATFiltered: "TestMasquerade", packet.DropPublishFrom: "TestPublishedPortRefuses",

	packet.DropInternal:  "it would be a bug",
	packet.DropKernelRx:  "the kernel's counter; TestEveryLossIsCounted in internal/vswitch",
	packet.DropKernelTx:  "likewise",
	packet.DropQueueFull: "it takes many: TestSerialQueueFull and TestFloodQueueFull of datapath",
}

// Every reason has a frame that is lost for it and for nothing else: it is counted once for each packet, and nobody gets it.
func TestDropReasons(t *testing.T) {
	reached := map[packet.DropReason]bool{}
	for _, c := range dropCases {
		reached[c.reason] = true
		t.Run(c.reason.String(), func(t *testing.T) {
			modes(t, func(t *testing.T, lab *netlab.Lab) {
				c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2", netlab.Queue(8))
				hello(lab, c1, c2)
				f := udp()(c1, c2)
				for range 2 {
					c1.Send(f)
					c2.Expect(t, f) // now it is cached
				}
				c2.Raw()
				if c.prepare != nil {
					c.prepare(lab, c1, c2)
				}
				c1.Send(c.frame(c1, c2))
				packets := max(c.packets, 1)
				lab.ExpectDrops(t, drops{c.reason: packets})
				if c.reason != packet.DropEgressFull {
					lab.ExpectNothing(t)
				}
				at := c1
				if c.at == "c2" {
					at = c2
				}
				if n := at.Counters().Drops[c.reason]; int(n) != packets {
					t.Errorf("%d drops counted at port %s", n, at.Name)
				}
			})
		})
	}
	for r := packet.DropNone + 1; r < packet.DropReasons; r++ {
		if !reached[r] && unreachable[r] == "" {
			t.Errorf("nothing is dropped as %s", r)
		}
	}
}

// The data plane's own look at the egress, for what passed the pipeline before a change: a port that is no more or has a
// smaller MTU by now.
func TestDropsAtTheEgress(t *testing.T) {
	lab := netlab.New(t)
	c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
	if err := lab.FDB("n").AddStatic(0, c2.MAC, c2.ID()); err != nil {
		t.Fatal(err)
	}
	f := packettest.UDP(c1.From(1), c2.To(1), packettest.Size(1000))
	c1.Send(f)
	c2.Expect(t, f)
	lab.Path().SetMTU(c2.ID(), 500)
	c1.Send(f)
	lab.Settle()
	if _, err := lab.Path().Remove(c2.ID()); err != nil {
		t.Fatal(err)
	}
	c1.Send(f)
	if d := c1.Counters().Drops; d[packet.DropOverMTU] != 1 || d[packet.DropEgressGone] != 1 {
		t.Errorf("drops %v", d)
	}
}

// Sum of reasons == packets lost, over ports that come, go, fill up and go down under way.
func TestEveryLossHasAReason(t *testing.T) {
	modes(t, func(t *testing.T, lab *netlab.Lab) {
		c1, c2 := lab.Port("n", "c1", netlab.Queue(4096)), lab.Port("n", "c2", netlab.Queue(100))
		c3 := lab.Port("n", "c3", netlab.MTU(1000))
		hello(lab, c1, c2, c3)
		sent := 0
		for i := range 600 {
			to := []*netlab.Port{c2, c3}[i%2]
			o := []packettest.Option{c1.From(1), to.To(1), packettest.Size(900 + i%200), packettest.Partial(), packettest.ID(0, true)}
			packets := 1
			switch i % 7 {
			case 0:
				o = append(o, packettest.GSO(400))
				packets = (900 + i%200 + 399) / 400
			case 1:
				o = append(o, packettest.VLAN(9))
			}
			c1.Send(packettest.UDP(o...))
			sent += packets
			switch i {
			case 200:
				lab.Settle()
				c3.SetDown(true)
			case 300:
				lab.Settle()
				c3.SetDown(false)
			case 400:
				lab.ICC("n", false)
			case 500:
				lab.ICC("n", true)
			}
		}
		lost := 0
		for _, n := range lab.Drops() {
			lost += n
		}
		got := len(c2.Take()) + len(c3.Take())
		if got+lost != sent {
			t.Errorf("%d packets sent, %d received, %d dropped: %v", sent, got, lost, lab.Drops())
		}
		for _, r := range []packet.DropReason{packet.DropOverMTU, packet.DropVLANNotMember, packet.DropEgressDown} {
			if lab.Drops()[r] == 0 {
				t.Errorf("nothing was dropped as %s", r)
			}
		}
		c := c1.Counters()
		if int(c.RxPackets) != sent+1 || int(c2.Counters().TxPackets+c3.Counters().TxPackets) != got+4 {
			t.Errorf("%d packets in for %d sent", c.RxPackets, sent+1)
		}
	})
}

// What waits in the queue of a port that is removed is lost, and counted.
func TestQueueOfRemovedPort(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped())
	c1, c2 := lab.Port("n", "c1"), lab.Port("n", "c2")
	hello(lab, c1, c2)
	before := lab.Drops()
	super := udp(packettest.GSO(100), packettest.Size(1000))(c1, c2)
	c1.Send(udp()(c1, c2), super, udp(packettest.From("03:00:00:00:00:01", "10.0.0.1", 1))(c1, c2))
	runt := udp()(c1, c2)
	runt.SetLen(13)
	c1.Send(runt)
	c1.Remove()
	c2.ExpectNothing(t)
	if got := lab.Drops(); got[packet.DropPortDown]-before[packet.DropPortDown] != 12 || got[packet.DropRunt] != 1 {
		t.Errorf("dropped %v, before %v", got, before)
	}
}
