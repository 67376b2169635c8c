package pipeline_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
	l2switch "vswitch/switch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// traceCase is a network and frames to ask about. The answers are in testdata/<name>.txt.
type traceCase struct {
	name  string
	lab   func(*testing.T) *netlab.Lab
	flows []string
}

// web is where most cases start: four ports that know each other.
func web(t *testing.T, c2 ...netlab.PortOption) *netlab.Lab {
	lab := netlab.New(t)
	ports := []*netlab.Port{lab.Port("web", "c1"), lab.Port("web", "c2", c2...), lab.Port("web", "c3", netlab.VLAN(10))}
	ports = append(ports, lab.Port("web", "trunk", netlab.Trunk(10, 20), netlab.Native(30)))
	for _, p := range ports {
		p.Send(packettest.ARPRequest(p.From(0), p.To(0)))
	}
	ports[3].Send(packettest.ARPRequest(ports[3].From(0), ports[3].To(0), packettest.VLAN(10)))
	lab.Settle()
	return lab
}

// routes are three networks of one router, the third an internal one. The gateway of b knows b1, and a route leads over it.
func routes(t *testing.T) *netlab.Lab {
	lab := netlab.New(t)
	a1 := lab.Port("a", "a1").Address("10.1.0.2", "fd01::2")
	b1 := lab.Port("b", "b1", netlab.MTU(1400)).Address("10.2.0.2", "fd02::2")
	lab.Gateway("a", 1500, "10.1.0.1/24", "fd01::1/64")
	gw := lab.Gateway("b", 1400, "10.2.0.1/24", "fd02::1/64")
	lab.Gateway("c", 1500, "10.3.0.1/24")
	inner := *lab.Network("c").Gateway().If
	inner.Internal = true
	lab.Network("c").SetGateway(lab.Router("main"), &inner)
	hop := netip.MustParseAddr("10.2.0.2")
	lab.Router("main").SetRoutes([]router.StaticRoute{{Prefix: netip.MustParsePrefix("10.9.0.0/16"), NextHops: []netip.Addr{hop}, Metric: 1}})
	a1.Send(packettest.UDP(a1.From(1), a1.Via(b1.IP4, 1)), packettest.UDP(a1.From6(1), a1.Via(b1.IP6, 1)))
	lab.Settle()
	mac := "0a:00:00:00:00:02"
	b1.Send(packettest.ARPReply(b1.From(0), packettest.To(mac, "10.2.0.1", 0)))
	b1.Send(packettest.ND(136, "fd02::2", []packettest.NDOption{packettest.TargetLLA("02:00:00:00:00:02")}, b1.From6(0), packettest.To(mac, "fd02::1", 0),
		packettest.Echo(0x6000, 0)))
	lab.Settle()
	if gw.MAC[5] != 2 {
		t.Fatalf("the gateway of b is at %x", gw.MAC)
	}
	return lab
}

// nats are routes with a masqueraded towards b, and port 8080 of the router published; a1 speaks with b1 already.
func nats(t *testing.T) *netlab.Lab {
	lab := routes(t)
	lab.NAT("a", pipeline.MasqueradeOn)
	lab.NAT("b", pipeline.MasqueradeOff)
	a1, b1 := lab.Find("a1"), lab.Find("b1")
	if err := lab.Published().Add(&nat.Publication{
		Owner: "a1", Zone: 1, Proto: packet.ProtoTCP, Low: 8080, High: 8080, ToPort: 80, To: []netip.Addr{a1.IP4, a1.IP6},
		From: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")},
	}); err != nil {
		t.Fatal(err)
	}
	mac := "0a:00:00:00:00:01"
	a1.Send(packettest.ARPReply(a1.From(0), packettest.To(mac, "10.1.0.1", 0)))
	b1.Send(packettest.UDP(b1.From(1), b1.Via(a1.IP4, 1)))
	lab.Settle()
	a1.Send(packettest.ARPReply(a1.From(0), packettest.To(mac, "10.1.0.1", 0)), packettest.UDP(a1.From(61007), a1.Via(b1.IP4, 53)))
	lab.Settle()
	return lab
}

// hairpins are nats where a1 has sent to its own external ports, from one to the other, and network a advertises itself.
func hairpins(t *testing.T) *netlab.Lab {
	lab := nats(t)
	a1, b1 := lab.Find("a1"), lab.Find("b1")
	gw := netip.MustParseAddr("10.2.0.1")
	a1.Send(packettest.UDP(a1.From(61008), a1.Via(b1.IP4, 53)))
	a1.Send(packettest.UDP(a1.From(61007), a1.Via(gw, 61008)), packettest.UDP(a1.From(61008), a1.Via(gw, 61007)))
	lab.Settle()
	a1.Net().Advertise(&pipeline.Advertisement{MTU: 1500, Prefixes: []netip.Prefix{netip.MustParsePrefix("fd01::/64")}, Default: true})
	return lab
}

// uplinks are nats with a masqueraded as uplinks want it, b not, and a shared uplink.
func uplinks(t *testing.T) *netlab.Lab {
	lab := nats(t)
	lab.Port("uplink:u", "u1")
	lab.Interface("uplink:u", router.Interface{
		MTU: 1400, Peer: [6]byte{0x0e, 5: 1}, Uplink: true, Shared: true, External: []netip.Addr{netip.MustParseAddr("198.51.100.2")},
	})
	lab.NAT("a", pipeline.MasqueradeAuto)
	lab.NAT("uplink:u", pipeline.MasqueradeOff)
	lab.Router("main").SetRoutes([]router.StaticRoute{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Interface: "uplink:u", Metric: 100}})
	all := *lab.Published().All()[0]
	lab.Published().Remove(lab.Published().All()[0])
	all.From = nil
	if err := lab.Published().Add(&all); err != nil {
		t.Fatal(err)
	}
	return lab
}

// rules are a network whose ports c1 and c2 have rules, and a connection from c1 to c2.
func rules(t *testing.T) *netlab.Lab {
	lab := web(t)
	lab.Rules("web", "c1 in allow --proto tcp --dport 80 --dst @c2", "web in reject --proto tcp --dport 22", "web in deny --src @c2", "c2 out reject --proto udp --dport 53",
		"web out deny --proto udp --dport 5353", "c2 out deny --proto udp --dport 5354", "web in deny --ethertype 0x88cc")
	c1, c2 := lab.Find("c1"), lab.Find("c2")
	c1.Send(packettest.UDP(c1.From(9), c2.To(7)))
	lab.Settle()
	return lab
}

// rulesRouted are nats with rules on both networks.
func rulesRouted(t *testing.T) *netlab.Lab {
	lab := nats(t)
	lab.Rules("a", "a in deny --proto tcp --dport 81", "a1 out allow --proto tcp --dport 80", "a1 out deny", "a1 in reject --proto icmp --dst 10.1.0.1")
	lab.Rules("b", "b1 out reject --proto udp --dst @b1 --dport 53 --src 10.1.0.0/24", "b1 out deny --proto udp --dport 53")
	return lab
}

var traceCases = []traceCase{
	{"unicast", func(t *testing.T) *netlab.Lab { return web(t) }, []string{
		"in_port=c1,tcp,ip_src=10.0.0.1,ip_dst=10.0.0.2,tcp_dst=80",
		"in_port=c1,udp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,udp_dst=53,len=500",
		"in_port=c1,icmp,ip_src=10.0.0.1,ip_dst=10.0.0.2",
		"in_port=c1,eth_dst=02:00:00:00:00:02",
		"in_port=c1,icmp,icmp_type=3,ip_src=10.0.0.1,ip_dst=10.0.0.2",
	}},
	{"flood", func(t *testing.T) *netlab.Lab { return web(t) }, []string{
		"in_port=c1,arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.2",
		"in_port=c1,tcp,eth_dst=02:99:00:00:00:09",
		"in_port=c3,udp,ip_dst=224.0.0.251,udp_dst=5353",
		"in_port=c1,icmp6,icmpv6_type=135,ipv6_src=fd00::1,ipv6_dst=ff02::1:ff00:2",
	}},
	{"vlan", func(t *testing.T) *netlab.Lab { return web(t) }, []string{
		"in_port=c3,tcp,ip_dst=10.0.0.4",
		"in_port=trunk,tcp,ip_dst=10.0.0.3,vlan_vid=10,vlan_pcp=5",
		"in_port=trunk,tcp,ip_dst=10.0.0.3,vlan_vid=20",
		"in_port=trunk,tcp,ip_dst=10.0.0.3",
		"in_port=trunk,tcp,ip_dst=10.0.0.3,vlan_vid=40",
		"in_port=c3,tcp,ip_dst=10.0.0.4,vlan_vid=0,vlan_pcp=3",
		"in_port=c1,tcp,ip_dst=10.0.0.2,vlan_vid=10",
		"in_port=c1,tcp,ip_dst=10.0.0.2,vlan_service=10",
	}},
	{"learning", func(t *testing.T) *netlab.Lab {
		lab := web(t)
		if err := lab.FDB("web").AddStatic(0, [6]byte{2, 0x77, 0, 0, 0, 1}, lab.ID("c2")); err != nil {
			t.Fatal(err)
		}
		return lab
	}, []string{
		"in_port=c1,tcp,eth_src=02:99:00:00:00:09,ip_dst=10.0.0.2",
		"in_port=c2,tcp,eth_src=02:00:00:00:00:01,ip_dst=10.0.0.1",
		"in_port=c1,tcp,eth_src=02:77:00:00:00:01,ip_dst=10.0.0.2",
		"in_port=c1,tcp,eth_dst=02:77:00:00:00:01",
	}},
	{"guard", func(t *testing.T) *netlab.Lab {
		lab := web(t)
		lab.Find("c1").Set(netlab.Guard())
		lab.Find("trunk").Set(netlab.Guard())
		return lab
	}, []string{
		"in_port=c1,tcp,ip_src=10.0.0.1,ip_dst=10.0.0.2",
		"in_port=c1,tcp,ip_src=10.0.0.9,ip_dst=10.0.0.2",
		"in_port=c1,tcp6,ipv6_src=fd00::1,ipv6_dst=fd00::2",
		"in_port=c1,tcp6,ipv6_src=fe80::ff:fe00:2,ipv6_dst=fd00::2",
		"in_port=c1,tcp,eth_src=02:00:00:00:00:02,ip_src=10.0.0.1,ip_dst=10.0.0.2",
		"in_port=trunk,tcp,vlan_vid=10,vlan_inner=0,ip_src=10.0.0.3,eth_dst=02:00:00:00:00:03",
		"in_port=c1,arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.2",
		"in_port=c1,arp,arp_op=reply,arp_spa=10.0.0.2,arp_tpa=10.0.0.1,eth_dst=02:00:00:00:00:02",
		"in_port=c1,icmp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,icmpv6_type=136,nd_target=fd00::1,nd_tll=02:00:00:00:00:01",
		"in_port=c1,icmp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,icmpv6_type=136,nd_target=fd00::1,nd_tll=02:00:00:00:00:02",
		"in_port=c1,icmp6,ipv6_src=::,ipv6_dst=ff02::1:ff00:2,icmpv6_type=135,nd_target=fd00::2",
		"in_port=c1,icmp6,ipv6_src=fe80::ff:fe00:1,ipv6_dst=ff02::1,icmpv6_type=134",
		"in_port=c1,icmp6,ipv6_src=fe80::ff:fe00:1,ipv6_dst=fd00::2,icmpv6_type=137",
		"in_port=c1,udp,ip_src=0.0.0.0,udp_src=68,ip_dst=255.255.255.255,udp_dst=67",
		"in_port=c1,udp,ip_src=10.0.0.1,udp_src=67,ip_dst=10.0.0.2,udp_dst=68",
		"in_port=c2,udp,ip_src=10.0.0.2,udp_src=67,ip_dst=10.0.0.1,udp_dst=68",
	}},
	{"route", routes, []string{
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.2.0.2,tcp_dst=80",
		"in_port=a1,udp6,ipv6_src=fd01::2,ipv6_dst=fd02::2,udp_dst=53",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.9.0.9,udp_dst=53",
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.2.0.9,tcp_dst=80",
		"in_port=a1,icmp,ip_src=10.1.0.2,ip_dst=10.1.0.1",
		"in_port=a1,arp,arp_spa=10.1.0.2,arp_tpa=10.1.0.1",
		"in_port=a1,icmp6,ipv6_src=fd01::2,ipv6_dst=ff02::1:ff00:1,icmpv6_type=135,nd_target=fd01::1,nd_sll=02:00:00:00:00:01,ip_ttl=255",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.2.0.2,ip_ttl=1,udp_dst=33434",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=192.0.2.1,udp_dst=53",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.1.0.1,udp_dst=53",
		"in_port=a1,udp6,ipv6_src=fd01::2,ipv6_dst=fd02::2,udp_dst=53,len=1500",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.2.0.2,udp_dst=53,len=1500",
		"in_port=a1,udp,ip_src=10.7.0.2,ip_dst=10.2.0.2,udp_dst=53",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=127.0.0.1,udp_dst=53",
		"in_port=a1,icmp,ip_src=10.1.0.2,ip_dst=10.2.0.255",
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.3.0.2",
		"in_port=a1,tcp,eth_src=0a:00:00:00:00:01,ip_src=10.1.0.2,ip_dst=10.2.0.2",
		"in_port=a1,arp,arp_spa=10.1.0.1,arp_tpa=10.1.0.9",
	}},
	{"nat", nats, []string{
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.2.0.2,tcp_dst=80",
		"in_port=a1,udp6,ipv6_src=fd01::2,ipv6_dst=fd02::2,udp_dst=53",
		"in_port=a1,udp,ip_src=10.1.0.2,udp_src=61007,ip_dst=10.2.0.2,udp_dst=53",
		"in_port=b1,udp,ip_src=10.2.0.2,udp_src=53,ip_dst=10.2.0.1,udp_dst=61007",
		"in_port=b1,udp,ip_src=10.2.0.2,udp_src=54,ip_dst=10.2.0.1,udp_dst=61007",
		"in_port=b1,tcp,ip_src=10.2.0.2,ip_dst=10.1.0.1,tcp_dst=8080",
		"in_port=b1,tcp,ip_src=10.2.0.2,ip_dst=10.2.0.1,tcp_dst=8080",
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.1.0.1,tcp_dst=8080",
	}},
	{"hairpin", hairpins, []string{
		"in_port=a1,udp,ip_src=10.1.0.2,udp_src=61007,ip_dst=10.2.0.1,udp_dst=61008",
		"in_port=a1,udp,ip_src=10.1.0.2,udp_src=5000,ip_dst=10.2.0.1,udp_dst=61008",
		"in_port=b1,udp,ip_src=10.2.0.2,udp_src=5000,ip_dst=10.2.0.1,udp_dst=61008",
		"in_port=a1,udp,ip_src=10.1.0.2,udp_src=61007,ip_dst=10.2.0.1,udp_dst=61009",
		"in_port=a1,icmp6,icmpv6_type=133,ipv6_src=fe80::ff:fe00:1,ipv6_dst=ff02::2,ip_ttl=255",
		"in_port=a1,icmp6,icmpv6_type=133,ipv6_src=fe80::ff:fe00:1,ipv6_dst=ff02::2,ip_ttl=64",
	}},
	{"uplink", uplinks, []string{
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=192.0.2.1,tcp_dst=443",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.2.0.2,udp_dst=53",
		"in_port=b1,tcp,ip_src=10.2.0.2,ip_dst=192.0.2.1,tcp_dst=443",
		"in_port=a1,ip,ip_src=10.1.0.2,ip_dst=192.0.2.1,ip_proto=47",
		"in_port=u1,tcp,ip_src=192.0.2.1,ip_dst=198.51.100.2,tcp_dst=8080",
		"in_port=u1,tcp,ip_src=192.0.2.1,ip_dst=198.51.100.2,tcp_dst=22",
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=198.51.100.2,tcp_dst=8080",
	}},
	{"rules", rules, []string{
		"in_port=c1,tcp,ip_src=10.0.0.1,ip_dst=10.0.0.2,tcp_dst=80",
		"in_port=c1,tcp,ip_src=10.0.0.1,ip_dst=10.0.0.2,tcp_dst=22",
		"in_port=c1,tcp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,tcp_dst=22",
		"in_port=c1,udp,ip_src=10.0.0.1,ip_dst=10.0.0.2,udp_dst=53",
		"in_port=c1,udp6,ipv6_src=fd00::1,ipv6_dst=fd00::2,udp_dst=53",
		"in_port=c1,arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.2",
		"in_port=c1,udp,ip_src=10.0.0.1,ip_dst=224.0.0.251,udp_dst=5353",
		"in_port=c1,udp,ip_src=10.0.0.1,ip_dst=224.0.0.251,udp_dst=5354",
		"in_port=c1,udp,ip_src=10.0.0.1,udp_src=9,ip_dst=10.0.0.2,udp_dst=7",
		"in_port=c2,udp,ip_src=10.0.0.2,udp_src=7,ip_dst=10.0.0.1,udp_dst=9",
		"in_port=c2,udp,ip_src=10.0.0.2,udp_src=7,ip_dst=10.0.0.1,udp_dst=8",
		"in_port=c1,eth_dst=02:00:00:00:00:02,eth_type=0x88cc",
	}},
	{"rulesrouted", rulesRouted, []string{
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.2.0.2,tcp_dst=80",
		"in_port=a1,tcp,ip_src=10.1.0.2,ip_dst=10.2.0.2,tcp_dst=81",
		"in_port=a1,udp,ip_src=10.1.0.2,ip_dst=10.2.0.2,udp_dst=53",
		"in_port=a1,udp6,ipv6_src=fd01::2,ipv6_dst=fd02::2,udp_dst=53",
		"in_port=a1,icmp,ip_src=10.1.0.2,ip_dst=10.1.0.1",
		"in_port=b1,tcp,ip_src=10.2.0.2,ip_dst=10.2.0.1,tcp_dst=8080",
		"in_port=b1,udp,ip_src=10.2.0.2,udp_src=53,ip_dst=10.2.0.1,udp_dst=61007",
	}},
	{"storm", func(t *testing.T) *netlab.Lab {
		lab := web(t)
		for kind := range flow.StormKinds {
			lab.Find("c1").Set(netlab.Storm(kind, 100*int(kind+1)))
		}
		return lab
	}, []string{
		"in_port=c1,arp,arp_tpa=10.0.0.9",
		"in_port=c1,udp,ip_dst=224.0.0.251",
		"in_port=c1,tcp,eth_dst=02:99:00:00:00:01",
		"in_port=c1,tcp,ip_dst=10.0.0.2",
		"in_port=c2,arp,arp_tpa=10.0.0.9",
	}},
	{"loops", func(t *testing.T) *netlab.Lab {
		lab := web(t)
		blocked := lab.Port("web", "c5")
		if err := lab.FDB("web").AddStatic(0, [6]byte{2, 0x77, 0, 0, 0, 1}, blocked.ID()); err != nil {
			t.Fatal(err)
		}
		blocked.Block()
		c1, c2 := lab.Find("c1"), lab.Find("c2")
		for _, p := range []struct {
			mac   string
			moves int
		}{{"02:88:00:00:00:01", l2switch.MaxMoves}, {"02:88:00:00:00:02", l2switch.MaxMoves + 1}} {
			c1.Send(packettest.ARPRequest(packettest.From(p.mac, "10.0.0.88", 0), c2.To(0)))
			for i := range p.moves {
				lab.Settle()
				[]*netlab.Port{c2, c1}[i%2].Send(packettest.ARPRequest(packettest.From(p.mac, "10.0.0.88", 0), c2.To(0)))
			}
		}
		lab.Settle()
		return lab
	}, []string{
		"in_port=c5,tcp,ip_dst=10.0.0.2",
		"in_port=c1,tcp,eth_dst=02:77:00:00:00:01",
		"in_port=c1,arp,arp_tpa=10.0.0.2",
		"in_port=c2,tcp,eth_src=02:88:00:00:00:01,eth_dst=02:00:00:00:00:01",
		"in_port=c2,tcp,eth_src=02:88:00:00:00:02,eth_dst=02:00:00:00:00:01",
		"in_port=c1,tcp,eth_src=02:88:00:00:00:02,ip_dst=10.0.0.2",
	}},
	{"drops", func(t *testing.T) *netlab.Lab {
		lab := web(t, netlab.MTU(1400), netlab.Isolated())
		lab.Port("web", "c5", netlab.Isolated())
		lab.Port("alone", "c6")
		shut := lab.Port("shut", "c7")
		lab.Port("shut", "c8")
		lab.ICC("shut", false)
		_ = shut
		gone := lab.Port("alone", "c9")
		lab.Bridge("alone").RemovePort(gone.ID())
		return lab
	}, []string{
		"in_port=c1,tcp,eth_src=03:00:00:00:00:01,ip_dst=10.0.0.2",
		"in_port=c1,eth_dst=01:80:c2:00:00:00",
		"in_port=c1,tcp,ip_dst=10.0.0.2,len=1415",
		"in_port=c1,tcp,ip_dst=10.0.0.2,len=1515",
		"in_port=c1,tcp,ip_dst=10.0.0.1",
		"in_port=c5,tcp,ip_dst=10.0.0.2",
		"in_port=c6,arp,arp_tpa=10.0.0.9",
		"in_port=c7,tcp,ip_dst=10.0.0.8",
		"in_port=c9,tcp,ip_dst=10.0.0.8",
	}},
}

func TestTrace(t *testing.T) {
	for _, c := range traceCases {
		t.Run(c.name, func(t *testing.T) {
			lab := c.lab(t)
			before := lab.FDB("web").Entries()
			var b strings.Builder
			for _, flow := range c.flows {
				s, trace := lab.Trace(t, flow)
				fmt.Fprintf(&b, "$ trace %s\n%s\n", flow, s)
				for _, step := range trace.Steps {
					fmt.Fprintln(&b, strings.TrimRight(step, " "))
				}
				fmt.Fprintf(&b, "=> %s", trace.Verdict)
				if len(trace.Outputs) > 0 {
					fmt.Fprintf(&b, " to %s", strings.Join(trace.Outputs, ","))
				}
				b.WriteString("\n\n")
				if gone := trace.Drop != packet.DropNone || trace.Verdict == "taken by the gateway" || strings.HasPrefix(trace.Verdict, "waits"); gone == (len(trace.Outputs) > 0) {
					t.Errorf("%s: dropped as %s, but goes to %v", flow, trace.Drop, trace.Outputs)
				}
			}
			if diff := cmp.Diff(before, lab.FDB("web").Entries()); diff != "" {
				t.Errorf("a trace left something behind (-before +after):\n%s", diff)
			}
			golden(t, filepath.Join("testdata", c.name+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; when that is right, go test -update (-want +got):\n%s", file, diff)
	}
}

// A trace says what then happens: the ports that a frame is said to leave by are those that get it.
func TestTraceIsTrue(t *testing.T) {
	for _, c := range traceCases {
		lab := c.lab(t)
		lab.Discard()
		for _, flow := range c.flows {
			before := lab.Drops()
			s, trace := lab.Trace(t, flow)
			f := packet.NewFrame(make([]byte, packet.BufSize))
			if err := s.Build(f, lab.ID(s.InPort)); err != nil {
				t.Fatal(err)
			}
			lab.Find(s.InPort).Send(f)
			var got []string
			for _, p := range lab.Ports() {
				if len(p.Take()) > 0 {
					got = append(got, p.Name)
				}
			}
			want := append(slices.Clone(trace.Outputs), trace.Answers...)
			slices.Sort(want)
			if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
				t.Errorf("%s: trace and truth differ (-trace +truth):\n%s", flow, diff)
			}
			for r, n := range lab.Drops() {
				if n != before[r] && r != trace.Drop {
					t.Errorf("%s: dropped as %s, the trace says %q", flow, r, trace.Verdict)
				}
			}
			if r := trace.Drop; r != packet.DropNone && lab.Drops()[r] == before[r] {
				t.Errorf("%s: not dropped as %s", flow, r)
			}
		}
	}
}
