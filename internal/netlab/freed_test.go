package netlab_test

import (
	"net/netip"
	"testing"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	. "vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
)

// A port that asks for all it can get of what routing keeps gets its share, and leaves nothing behind when it goes; neither does an uplink that
// loses its addresses, nor one that has others again and again.
func TestAllIsFreed(t *testing.T) {
	lab := netlab.New(t, netlab.Stepped(), netlab.NoCoalesce(), netlab.MaxFlows(1024))
	lab.LimitConnections(nat.Limits{Connections: 2000, PerNetwork: 1000})
	u := lab.Port("u", "u", netlab.Queue(20000)).Address("203.0.113.9", "2001:db8:f::9")
	lab.Wire("a", router.Interface{MTU: 1500, Prefixes: prefixes("10.1.0.1/24", "fd01::1/64")}, pipeline.MasqueradeAuto)
	lab.Wire("b", router.Interface{MTU: 1500, Prefixes: prefixes("10.2.0.1/16", "fd02::1/64")}, pipeline.MasqueradeAuto)
	lab.Port("b", "b1").Address("10.2.0.2", "fd02::2")
	uplink := func(external ...string) {
		lab.Wire("u", router.Interface{MTU: 1500, Peer: [6]byte{2, 5: 1}, Uplink: true, Shared: true, External: addrs(external...)}, pipeline.MasqueradeOff)
		lab.Router("main").SetRoutes([]router.StaticRoute{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Interface: "u"}, {Prefix: netip.MustParsePrefix("::/0"), Interface: "u"}})
	}
	memory := 0
	for cycle := range 4 {
		uplink("192.0.2.2", "2001:db8::2")
		x := lab.Port("a", "x", netlab.Queue(8)).Address("10.1.0.2", "fd01::2")
		greedy := func(n int) {
			for i := range n {
				at := uint16(1024 + i)
				x.Send(UDP(x.From(at), x.Via(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), at)), TCP(x.From6(at), x.Via(u.IP6, at), Flags(packet.TCPSyn)),
					ICMPEcho(x.From(0), x.Via(u.IP4, 0), Echo(at, 1)), UDP(x.From(7), x.Via(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 9)),
					IP(packet.ProtoUDP, x.From(0), x.Via(u.IP4, 0), ID(at, false), Fragment(9, true), Size(1200)))
				lab.Settle()
			}
			lab.Discard()
		}
		greedy(4000)
		datagrams, held := lab.Fragments()
		neighbors := lab.Router("main").Neighbors().List()
		if n := lab.Connections().Len(); n < 500 || n > 1000 {
			t.Errorf("%d connections", n)
		}
		if datagrams != router.MaxDatagrams || held > router.MaxHeldBytes || len(neighbors) < 100 || len(neighbors) > router.MaxPendingPort+2 {
			t.Errorf("%d datagrams, %d bytes wait; %d neighbors", datagrams, held, len(neighbors))
		}
		if cycle%2 == 0 {
			uplink()
			if n := lab.Connections().Len(); n != 0 {
				t.Errorf("%d connections by an uplink without addresses", n)
			}
			uplink("192.0.2.2", "2001:db8::2")
			greedy(100)
		}
		x.Remove()
		datagrams, held = lab.Fragments()
		parked := 0
		for _, n := range lab.Router("main").Neighbors().List() {
			parked += n.Parked
		}
		if n := lab.Connections().Len(); n+datagrams+held+parked != 0 {
			t.Errorf("%d connections, %d datagrams of %d bytes, %d parked frames of a port that is gone", n, datagrams, held, parked)
		}
		if n := lab.Connections().Memory(); cycle == 0 {
			memory = n
		} else if n > memory {
			t.Errorf("%d bytes for connections, %d after the first cycle", n, memory)
		}
		lab.Advance(router.RetryTime * (router.Retries + 5))
		for range router.Retries + 5 {
			lab.Advance(router.RetryTime)
			lab.TendRouters()
		}
		if list := lab.Router("main").Neighbors().List(); len(list) != 0 {
			t.Errorf("%d neighbors, the first %+v", len(list), list[0])
		}
		lab.Discard()
	}
	for i := range 70000 { // more than there can be at once
		p, err := lab.Connections().NewPool(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 1024, 2000)
		if err != nil {
			t.Fatal(err)
		}
		lab.Connections().RemovePool(p)
	}
}

func prefixes(all ...string) (list []netip.Prefix) {
	for _, p := range all {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}
