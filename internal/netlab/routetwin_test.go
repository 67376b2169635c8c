package netlab_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
	l2switch "vswitch/switch"
)

// routedTwins are twins whose networks n, m and o are on one router, two ports each, and a shared uplink u.
type routedTwins struct {
	twins
}

var routedNets = []string{"n", "m", "o"}

func newRoutedTwins(t netlab.TB, r source) *routedTwins {
	w := &routedTwins{twins{t: t, r: r, labs: [2]*netlab.Lab{
		netlab.Open(t, netlab.Stepped(), netlab.NoCoalesce()),
		netlab.Open(t, netlab.Stepped(), netlab.NoCoalesce(), netlab.NoCache()),
	}}}
	for i, n := range routedNets {
		w.both("network "+n, func(l *netlab.Lab) {
			l.FDB(n).SetLimits(l2switch.Limits{Age: 60 * time.Second})
			for j := range 2 {
				l.Port(n, fmt.Sprint(n, j)).Address(fmt.Sprintf("10.%d.0.%d", i+1, j+2), fmt.Sprintf("fd0%d::%d", i+1, j+2))
			}
		})
		w.gateway(i, 1500, false)
	}
	w.both("uplink", func(l *netlab.Lab) {
		l.Port("u", "u0").Address("10.4.0.2", "fd04::2")
		l.Interface("u", router.Interface{MTU: 1400, Peer: [6]byte{2, 9}, Uplink: true, Shared: true, External: addrs("10.4.0.1", "fd04::1")})
		l.NAT("u", pipeline.MasqueradeOff)
	})
	for _, p := range w.labs[0].Ports() {
		w.says(p.Name, p.Name)
	}
	return w
}

func (w *routedTwins) gateway(i, mtu int, internal bool) {
	n := routedNets[i]
	w.both(fmt.Sprint("gateway of ", n, " ", mtu, internal), func(l *netlab.Lab) {
		g := *l.Gateway(n, mtu, fmt.Sprintf("10.%d.0.1/24", i+1), fmt.Sprintf("fd0%d::1/64", i+1))
		g.Internal = internal
		l.Network(n).SetGateway(l.Router("main"), &g)
	})
}

// says lets port as tell its gateway that it has the addresses of port name, which is of the same network.
func (w *routedTwins) says(as, name string) {
	w.both(as+" says it is "+name, func(l *netlab.Lab) {
		p, q := l.Find(as), l.Find(name)
		gw := p.Net().Gateway()
		if gw == nil {
			return
		}
		mac := macOf(gw.If.MAC)
		p.Send(packettest.ARPReply(packettest.From(macOf(p.MAC), q.IP4.String(), 0), packettest.To(mac, gw.If.Source(q.IP4).String(), 0)),
			packettest.ND(136, q.IP6.String(), []packettest.NDOption{packettest.TargetLLA(macOf(p.MAC))}, packettest.From(macOf(p.MAC), q.IP6.String(), 0),
				packettest.To(mac, gw.If.Source(q.IP6).String(), 0), packettest.Echo(0x6000, 0)))
	})
	w.compare()
}

func (w *routedTwins) change() {
	i := w.r.IntN(len(routedNets))
	n := routedNets[i]
	name := w.pick()
	same := fmt.Sprint(name[:1], w.r.IntN(2))
	switch w.r.IntN(15) {
	case 0:
		w.gateway(i, []int{600, 1400, 1500}[w.r.IntN(3)], w.r.IntN(5) == 0)
	case 1:
		if w.r.IntN(3) > 0 {
			w.gateway(i, 1500, false)
			return
		}
		w.both("no gateway for "+n, func(l *netlab.Lab) { l.Network(n).SetGateway(nil, nil) })
	case 2:
		mtu := []int{600, 1000, 1500}[w.r.IntN(3)]
		w.both(fmt.Sprint("MTU ", mtu, " of "+name), func(l *netlab.Lab) { l.Find(name).Set(netlab.MTU(mtu)) })
	case 3:
		on := w.r.IntN(3) > 0
		w.both(fmt.Sprint("icc ", on), func(l *netlab.Lab) { l.ICC(n, on) })
	case 4:
		o := []netlab.PortOption{netlab.Isolated(), netlab.NotIsolated(), netlab.VLAN(10), netlab.VLAN(0), netlab.VLAN(0)}[w.r.IntN(5)]
		w.both("isolation or VLAN of "+name, func(l *netlab.Lab) { l.Find(name).Set(o) })
	case 5:
		routes := w.routes()
		w.both(fmt.Sprint("routes ", routes), func(l *netlab.Lab) { l.Router("main").SetRoutes(routes) })
	case 6:
		w.both("flush neighbors", func(l *netlab.Lab) { l.Router("main").Neighbors().Flush(n) })
	case 7:
		w.both("flush MACs of "+name, func(l *netlab.Lab) { l.FDB(name[:1]).Flush(l.ID(name), true) })
	case 8:
		d := time.Duration([]int{1, 2, 3, 35}[w.r.IntN(4)]) * time.Second
		w.both(fmt.Sprint("wait ", d), func(l *netlab.Lab) { l.Advance(d); l.Sweep(); l.TendRouters() })
	case 9:
		masquerade := []pipeline.Masquerade{pipeline.MasqueradeOn, pipeline.MasqueradeOn, pipeline.MasqueradeAuto, pipeline.MasqueradeOff}[w.r.IntN(4)]
		w.both(fmt.Sprint("NAT of ", n, " ", masquerade), func(l *netlab.Lab) {
			if l.Network(n).Gateway() != nil {
				l.NAT(n, masquerade)
			}
		})
	case 10:
		w.publish(name)
	case 13, 14:
		w.rule(n, n+"0", n+"1", name)
	case 11:
		w.both("connections of "+name, func(l *netlab.Lab) { l.Connections().RemovePort(l.ID(name)) })
	default:
		if name != "u0" {
			w.says(name, same)
		}
	}
}

// publish gives the port, or takes back what was published.
func (w *routedTwins) publish(name string) {
	proto := []uint8{packet.ProtoTCP, packet.ProtoUDP}[w.r.IntN(2)]
	w.both(fmt.Sprint("publish ", proto, " of ", name), func(l *netlab.Lab) {
		p := l.Find(name)
		for _, old := range l.Published().All() {
			l.Published().Remove(old)
		}
		err := l.Published().Add(&nat.Publication{Owner: name, Zone: 1, Proto: proto, Low: 9, High: 9, ToPort: 61001, To: []netip.Addr{p.IP4, p.IP6}})
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		for _, n := range routedNets {
			l.Bridge(n).Renew()
		}
	})
}

func (w *routedTwins) routes() (routes []router.StaticRoute) {
	for range w.r.IntN(4) {
		p := w.labs[0].Find(w.pick())
		q := w.labs[0].Find(w.pick())
		prefix := []string{"10.9.0.0/16", "10.9.1.0/24", "10.2.0.0/25", "10.1.0.3/32"}[w.r.IntN(4)]
		routes = append(routes, router.StaticRoute{
			Prefix: netip.MustParsePrefix(prefix), NextHops: []netip.Addr{p.IP4, q.IP4}, Metric: uint32(1 + w.r.IntN(2)),
		})
	}
	if w.r.IntN(4) > 0 {
		routes = append(routes, router.StaticRoute{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Interface: "u"},
			router.StaticRoute{Prefix: netip.MustParsePrefix("::/0"), Interface: "u"})
	}
	return routes
}

// send draws a datagram from a port to an address by its gateway.
func (w *routedTwins) send() sending {
	if n := len(w.recent); n > 0 && w.r.IntN(3) > 0 {
		return w.recent[w.r.IntN(n)]
	}
	name := w.pick()
	p, q := w.labs[0].Find(name), w.labs[0].Find(w.pick())
	src, dst := p.IP4, q.IP4
	switch w.r.IntN(10) {
	case 0, 1:
		src, dst = p.IP6, q.IP6
	case 3:
		dst = netip.AddrFrom4([4]byte{10, byte(1 + w.r.IntN(4)), 0, 1})
	case 4:
		src, dst = p.IP6, netip.MustParseAddr(fmt.Sprintf("fd0%d::1", 1+w.r.IntN(4)))
	case 2:
		dst = netip.AddrFrom4([4]byte{10, byte(1 + w.r.IntN(9)), byte(w.r.IntN(2)), byte(w.r.IntN(4))})
	}
	mac := [6]byte{0x0a, 5: map[byte]byte{'n': 1, 'm': 2, 'o': 3}[name[0]]}
	sport, dport := uint16(61000+w.r.IntN(3)), uint16(9)
	if w.r.IntN(2) == 0 { // as an answer has them, also to what was masqueraded
		sport, dport = dport, sport
	}
	flags := []uint8{packet.TCPSyn, packet.TCPSyn | packet.TCPAck, packet.TCPAck, packet.TCPAck, packet.TCPFin | packet.TCPAck, packet.TCPRst}[w.r.IntN(6)]
	o := []packettest.Option{
		packettest.From(macOf(p.MAC), src.String(), sport), packettest.To(macOf(mac), dst.String(), dport), packettest.Flags(flags), packettest.Echo(sport, 1),
		packettest.TTL([]uint8{64, 64, 64, 64, 64, 2, 1}[w.r.IntN(7)]), packettest.Size([]int{10, 10, 550, 900, 1400}[w.r.IntN(5)]), packettest.ID(7, w.r.IntN(2) == 0),
	}
	if w.r.IntN(6) == 0 {
		o = append(o, packettest.VLAN(0xa000))
	}
	if src.Is4() && w.r.IntN(12) == 0 {
		o = append(o, packettest.IPOptions(148, 4, 0, 0))
	}
	var f *packet.Frame
	switch w.r.IntN(7) {
	case 0:
		f = packettest.ICMPEcho(o...)
	case 2:
		f = packettest.TCP(o...)
	case 3:
		f = packettest.ICMPEchoReply(o...)
	case 1:
		f = packettest.TCP(append(o, packettest.GSO([]int{300, 900}[w.r.IntN(2)]), packettest.Size(3000))...)
	default:
		f = packettest.UDP(o...)
	}
	if w.recent = append(w.recent, sending{name, f}); len(w.recent) > 5 {
		w.recent = w.recent[1:]
	}
	return sending{name, f}
}

func (w *routedTwins) step() {
	switch w.r.IntN(12) {
	case 0:
		w.change()
		w.compare()
		return
	case 1, 2, 3:
		p := w.pick()
		w.says(p, p)
		return
	}
	w.exchange(w.send(), 1+w.r.IntN(3))
}

func (w *routedTwins) pick() string {
	ports := w.labs[0].Ports()
	return ports[w.r.IntN(len(ports))].Name
}

// What is routed, told, answered and dropped is the same with the cache and without it, whatever changes between frames.
func TestRoutedCacheChangesNothing(t *testing.T) {
	seeds, steps := uint64(40), 400
	if testing.Short() {
		seeds = 8
	}
	hits := uint64(0)
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newRoutedTwins(t, rand.New(rand.NewPCG(seed, 3)))
			defer func() { w.close(); hits += w.hits }()
			for range steps {
				w.step()
			}
		})
	}
	if hits < seeds*uint64(steps)/20 {
		t.Errorf("%d cache hits in %d steps: this proves nothing", hits, seeds*uint64(steps))
	}
}

func FuzzRoutedCacheChangesNothing(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 4))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzed{bytes: b[:min(len(b), 4000)]}
		w := newRoutedTwins(t, s)
		defer w.close()
		for !s.done {
			w.step()
		}
	})
}
