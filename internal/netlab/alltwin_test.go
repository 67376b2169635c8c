package netlab_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vswitch/internal/flow"
	"vswitch/internal/netlab"
	"vswitch/internal/packet"
	"vswitch/internal/packettest"
	"vswitch/internal/pipeline"
	"vswitch/nat"
	"vswitch/router"
)

// wholeTwins are twins with all that a router has at once, and all of it changes: networks n, m and o, masqueraded or not; an uplink u that
// the host shares, a dedicated one d, and the host's link h; published ports, rules, fragments.
type wholeTwins struct {
	twins
	got       []sending // what ports received, to be answered
	published []*nat.Publication
	rewritten int // cached flows that translate, and were used
	fragments int // sent
	seen      map[string]bool
	asked     map[string]bool // ports that a gateway looks for
}

var (
	wholeNets = []string{"n", "m", "o"}
	hostAddrs = []string{"192.0.2.2", "2001:db8::2", "192.0.2.3"}
	ownAddrs  = []string{"198.51.100.2/24", "2001:db8:d::2/64"}
	outsiders = []string{"203.0.113.9", "203.0.113.10", "2001:db8:f::9"}
)

func newWholeTwins(t netlab.TB, r source) *wholeTwins {
	o := []netlab.Option{netlab.Stepped(), netlab.NoCoalesce(), netlab.Workers(1 + r.IntN(2)), netlab.MaxFlows([]int{1024, 16}[r.IntN(2)])}
	w := &wholeTwins{twins: twins{t: t, r: r, labs: [2]*netlab.Lab{netlab.Open(t, o...), netlab.Open(t, append(o, netlab.NoCache())...)}}, seen: map[string]bool{},
		asked: map[string]bool{}}
	w.note = w.hear
	w.furnish()
	return w
}

// furnish makes networks, ports and links.
func (w *wholeTwins) furnish() {
	limits := []nat.Limits{{}, {}, {Connections: 24, PerNetwork: 10}}[w.r.IntN(3)]
	w.both(fmt.Sprintf("limits %+v", limits), func(l *netlab.Lab) { l.LimitConnections(limits) })
	for i, n := range wholeNets {
		for j := range 2 {
			w.plug(n, i+1, j+2)
		}
	}
	w.both("links", func(l *netlab.Lab) {
		l.Port("u", "u0", netlab.MTU(65517)).Address("203.0.113.9", "2001:db8:f::9")
		l.Port("d", "d0").Address("198.51.100.1", "2001:db8:d::1")
		l.Port("d", "d1").Address("198.51.100.9", "2001:db8:d::9")
		l.Port("h", "h0", netlab.MTU(65517)).Address("192.0.2.2", "2001:db8::2")
	})
	for i := range wholeNets {
		w.network(i, false)
	}
	w.uplinks(false)
	for _, p := range w.labs[0].Ports() {
		w.says(p.Name)
	}
}

// plug gives network i another port.
func (w *wholeTwins) plug(network string, i, host int) {
	w.next++
	name := fmt.Sprint(network, w.next)
	w.both("add port "+name, func(l *netlab.Lab) {
		l.Port(network, name).Address(fmt.Sprintf("10.%d.0.%d", i, host), fmt.Sprintf("fd0%d::%d", i, host))
	})
}

func (w *wholeTwins) any(words ...string) string { return words[w.r.IntN(len(words))] }

// network wires one of the networks anew; wild: in other ways than at first.
func (w *wholeTwins) network(i int, wild bool) {
	n, c, m := wholeNets[i], router.Interface{MTU: 1500}, pipeline.MasqueradeAuto
	for _, p := range []string{fmt.Sprintf("10.%d.0.1/24", i+1), fmt.Sprintf("fd0%d::1/64", i+1)} {
		if !wild || w.r.IntN(12) > 0 {
			c.Prefixes = append(c.Prefixes, netip.MustParsePrefix(p))
		}
	}
	if wild {
		c.MTU, c.Internal = []int{600, 1400, 1500, 1500}[w.r.IntN(4)], w.r.IntN(8) == 0
		m = []pipeline.Masquerade{pipeline.MasqueradeAuto, pipeline.MasqueradeAuto, pipeline.MasqueradeOn, pipeline.MasqueradeOff}[w.r.IntN(4)]
	}
	w.both(fmt.Sprintf("network %s: %v, MTU %d, internal %v, masquerade %d", n, c.Prefixes, c.MTU, c.Internal, m), func(l *netlab.Lab) { l.Wire(n, c, m) })
}

// uplinks wires the uplinks and the host's link, and says which routes there are.
func (w *wholeTwins) uplinks(wild bool) {
	u := router.Interface{MTU: 1400, Peer: [6]byte{2, 5: 1}, Uplink: true, Shared: true, External: addrs(hostAddrs...)}
	d, h := router.Interface{MTU: 1500, Uplink: true}, router.Interface{MTU: 65517, Peer: [6]byte{2, 9}, External: addrs(hostAddrs...)}
	h.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.0.7/32")}
	for _, p := range ownAddrs {
		d.Prefixes = append(d.Prefixes, netip.MustParsePrefix(p))
	}
	metrics := [2]uint32{1, 2}
	if wild {
		u.MTU, d.MTU = []int{1000, 1400, 1500}[w.r.IntN(3)], []int{1000, 1500}[w.r.IntN(2)]
		w.fewer(&u.External)
		h.External = u.External
		if w.r.IntN(5) == 0 {
			d.Prefixes = d.Prefixes[w.r.IntN(2):][:1]
		}
		metrics = [2]uint32{uint32(w.r.IntN(3)), uint32(w.r.IntN(3))} // 0: it is down
	}
	routes := []router.StaticRoute{{Prefix: netip.MustParsePrefix("172.16.0.0/16"), NextHops: addrs("10.2.0.2", "10.2.0.3")}}
	for i, all := range []string{"0.0.0.0/0", "::/0"} {
		p := netip.MustParsePrefix(all)
		if metrics[0] > 0 {
			routes = append(routes, router.StaticRoute{Prefix: p, Interface: "u", Metric: metrics[0]})
		}
		if metrics[1] > 0 {
			routes = append(routes, router.StaticRoute{Prefix: p, NextHops: addrs([]string{"198.51.100.1", "2001:db8:d::1"}[i]), Interface: "d", Metric: metrics[1]})
		}
	}
	for _, a := range h.External {
		routes = append(routes, router.StaticRoute{Prefix: netip.PrefixFrom(a, a.BitLen()), Interface: "h"})
	}
	which := w.r.IntN(4)
	w.both(fmt.Sprintf("uplinks %d: u %v %d, d %v %d, metrics %v", which, u.External, u.MTU, d.Prefixes, d.MTU, metrics), func(l *netlab.Lab) {
		if which != 1 || !wild {
			l.Wire("u", u, pipeline.MasqueradeOff)
			l.Wire("h", h, pipeline.MasqueradeOff)
		}
		if which != 2 || !wild {
			l.Wire("d", d, pipeline.MasqueradeOff)
		}
		l.Router("main").SetRoutes(routes)
	})
}

// fewer leaves out some addresses, or puts others first.
func (w *wholeTwins) fewer(list *[]netip.Addr) {
	switch w.r.IntN(5) {
	case 0:
		*list = (*list)[1:]
	case 1:
		*list = (*list)[:2]
	case 2:
		slices.Reverse(*list)
	}
}

// says lets a port answer for its addresses.
func (w *wholeTwins) says(name string) {
	w.both(name+" says who it is", func(l *netlab.Lab) {
		p := l.Find(name)
		gw := p.Net().Gateway()
		if gw == nil || len(gw.If.Prefixes) < 2 || gw.If.PointToPoint() {
			return
		}
		mac := macOf(gw.If.MAC)
		p.Send(packettest.ARPReply(p.From(0), packettest.To(mac, gw.If.Source(p.IP4).String(), 0)),
			packettest.ND(136, p.IP6.String(), []packettest.NDOption{packettest.TargetLLA(macOf(p.MAC))}, p.From6(0),
				packettest.To(mac, gw.If.Source(p.IP6).String(), 0), packettest.Echo(0x6000, 0)))
	})
	w.compare()
}

func (w *wholeTwins) change() {
	i, name := w.r.IntN(len(wholeNets)), w.pick()
	n := wholeNets[i]
	switch w.r.IntN(20) {
	case 0, 1:
		w.network(i, w.r.IntN(3) > 0)
	case 2, 3:
		w.uplinks(w.r.IntN(4) > 0)
	case 4, 5:
		w.publish(n)
	case 6, 7:
		w.rule(n, name, w.pick(), w.pick())
	case 8:
		texts := []string{n + " in deny", n + " out allow --proto udp", n + " out " + w.any("deny", "reject") + " --proto tcp --dport " + w.any("80", "9")}[:1+w.r.IntN(3)]
		w.ruled = map[string][]string{n: texts}
		w.both(fmt.Sprintf("rules of %s: %q", n, texts), func(l *netlab.Lab) { l.Rules(n, texts...) })
	case 9:
		on := w.r.IntN(2) > 0
		w.ruled = nil
		w.both(fmt.Sprint("icc of ", n, " ", on), func(l *netlab.Lab) { l.ICC(n, on); l.Rules(n) })
	case 10:
		o := []netlab.PortOption{netlab.Isolated(), netlab.NotIsolated(), netlab.VLAN(10), netlab.VLAN(0), netlab.VLAN(0), netlab.MTU(600), netlab.MTU(1500)}[w.r.IntN(7)]
		if strings.Contains("uh", name[:1]) {
			return
		}
		w.both("isolation, VLAN or MTU of "+name, func(l *netlab.Lab) { l.Find(name).Set(o) })
	case 11:
		switch w.r.IntN(4) {
		case 0:
			w.both("flush neighbors", func(l *netlab.Lab) { l.Router("main").Neighbors().Flush(n) })
		case 1:
			w.both("flush MACs of "+name, func(l *netlab.Lab) { l.FDB(l.Find(name).Net().Name).Flush(l.ID(name), true) })
		case 2:
			w.both("end connections of "+name, func(l *netlab.Lab) { l.Connections().RemovePort(l.ID(name)) })
		case 3:
			w.both("end all connections", func(l *netlab.Lab) { l.Connections().Remove(&nat.Filter{}) })
		}
	case 12:
		if w.labs[1] == nil {
			return // nothing settles there
		}
		d := time.Duration([]int{1, 2, 3, 11, 35, 121, 301}[w.r.IntN(7)]) * time.Second
		w.both(fmt.Sprint("wait ", d), func(l *netlab.Lab) {
			l.Advance(d)
			l.Sweep()
			l.Connections().Sweep(1<<20, l.Now())
			l.TendRouters()
		})
	case 13:
		w.both("remove port "+name, func(l *netlab.Lab) {
			if net := l.Find(name).Net(); !strings.Contains("udh", net.Name) {
				l.Find(name).Remove()
			}
		})
		if !strings.Contains("udh", name[:1]) {
			w.plug(name[:1], slices.Index(wholeNets, name[:1])+1, 2+w.r.IntN(2))
		}
	default:
		w.says(name)
	}
}

// publish replaces what is published, some of it or all.
func (w *wholeTwins) publish(network string) {
	var goes, comes []*nat.Publication
	for _, p := range w.published {
		if w.r.IntN(2) == 0 {
			goes = append(goes, p)
		}
	}
	for range w.r.IntN(3) {
		p := w.labs[0].Find(w.pick())
		if strings.Contains("udh", p.Net().Name) {
			continue
		}
		q := &nat.Publication{Owner: p.Name, Zone: 1, Proto: []uint8{packet.ProtoTCP, packet.ProtoUDP}[w.r.IntN(2)], ToPort: 80, To: []netip.Addr{p.IP4, p.IP6}}
		q.Low = []uint16{8080, 8080, 9, 61001}[w.r.IntN(4)]
		q.High = q.Low + uint16(w.r.IntN(2))
		if w.r.IntN(3) == 0 {
			q.From = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}[:1+w.r.IntN(3)]
		}
		if w.r.IntN(3) == 0 {
			q.Addr = netip.MustParseAddr(w.any("192.0.2.2", "198.51.100.2", "10.1.0.1", "2001:db8::2"))
		}
		comes = append(comes, q)
	}
	var errs [2]error
	at := 0
	w.both(fmt.Sprintf("unpublish %+v, publish %+v", goes, comes), func(l *netlab.Lab) { errs[at] = l.Publish(goes, comes); at++ })
	if errs[0] == nil {
		w.published = append(slices.DeleteFunc(w.published, func(p *nat.Publication) bool { return slices.Contains(goes, p) }), comes...)
	}
}

// What comes out is the same with the cache and without it, with all features at once, whatever changes between frames.
func TestWholeCacheChangesNothing(t *testing.T) {
	seeds, steps := uint64(24), 500
	if testing.Short() {
		seeds = 16
	}
	var all wholeTwins
	all.seen = map[string]bool{}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWholeTwins(t, rand.New(rand.NewPCG(seed, 5)))
			defer func() {
				w.close()
				all.hits, all.rewritten, all.fragments = all.hits+w.hits, all.rewritten+w.rewritten, all.fragments+w.fragments
				for s := range w.seen {
					all.seen[s] = true
				}
			}()
			for range steps {
				w.step()
			}
		})
	}
	n := int(seeds) * steps
	if int(all.hits) < n/20 || all.rewritten < n/200 || all.fragments < n/100 {
		t.Errorf("%d cache hits, %d cached flows that translate and %d fragments in %d steps: this proves nothing", all.hits, all.rewritten, all.fragments, n)
	}
	for _, reason := range []packet.DropReason{packet.DropRuleDeny, packet.DropRuleReject, packet.DropForeign, packet.DropUplinkRefused, packet.DropNATFiltered,
		packet.DropPublishFrom, packet.DropConnInvalid, packet.DropFragNeeded, packet.DropICCOff, packet.DropIsolated, packet.DropInternalNetwork} {
		if !all.seen[reason.String()] {
			t.Errorf("nothing was dropped as %s: the test doesn't get there", reason)
		}
	}
	t.Logf("%d hits, %d flows that translate, %d fragments in %d steps", all.hits, all.rewritten, all.fragments, n)
}

func (w *wholeTwins) close() {
	for r, n := range w.labs[0].Drops() {
		w.seen[r.String()] = n > 0
	}
	w.count()
	w.twins.close()
}

// count notes cached flows that translate before they are gone.
func (w *wholeTwins) count() {
	for _, flows := range w.labs[0].Path().Flows(func(f *flow.Flow) bool { return f.NActions > 0 && f.Actions[0].Op == flow.OpRewrite }) {
		for i := range flows {
			if flows[i].Packets > 1 {
				w.rewritten++
			}
		}
	}
}
