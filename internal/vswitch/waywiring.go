package vswitch

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"vswitch/internal/link"
	"vswitch/internal/pipeline"
	"vswitch/internal/prefix"
	"vswitch/internal/uplink"
	"vswitch/nat"
	"vswitch/router"
)

// wiring is what the router knows of a way.
type wiring struct {
	up    bool
	spare bool // down, while another one is up: its connections end
	mtu   int
	addrs []netip.Addr // best first

	reached []netip.Prefix // by a shared one: the segment, and all when the host has a default route by it
}

// usable tells whether frames can leave by the interface.
func usable(st *uplink.State) bool { return st.Index != 0 && st.Attached != "" && st.Up && st.Carrier }

// settleWays makes the routers heed what is known of all uplinks.
func (s *Switch) settleWays() {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	up := make(map[string]bool) // routers that have one that is
	for _, w := range s.ways.by {
		up[w.Router] = up[w.Router] || w.work != nil && usable(&w.state)
	}
	for _, w := range s.ways.by {
		if w.work == nil {
			continue
		}
		is := wiring{up: usable(&w.state), mtu: w.state.MTU, addrs: preferred(w.state.Addrs)}
		if w.share == nil {
			is.addrs = addrsOf(w.IPs)
		} else if is.up {
			is.reached = reachedBy(&w.state)
		}
		is.spare = !is.up && up[w.Router]
		if !is.up { // what it had may come back
			is.mtu = w.wired.mtu
			if w.share != nil {
				is.addrs = w.wired.addrs
			}
		}
		if w.wired.mtu != 0 && reflect.DeepEqual(is, w.wired) {
			continue
		}
		if is.mtu == 0 {
			is.mtu = defaultMTU
		}
		came := is.up && !w.wired.up
		w.wired = is
		s.wireWay(w)
		if came {
			s.announceWay(w)
		}
	}
}

// reachedBy returns where the host would send by the interface: where its kernel knows no way, it would drop what we send in silence.
func reachedBy(st *uplink.State) (list []netip.Prefix) {
	for _, a := range st.Addrs {
		if !a.IsSingleIP() && !slices.Contains(list, a.Masked()) {
			list = append(list, a.Masked())
		}
	}
	if st.IP4 {
		list = append(list, prefix.Default(netip.IPv4Unspecified()))
	}
	if st.IP6 {
		list = append(list, prefix.Default(netip.IPv6Unspecified()))
	}
	return list
}

// addressGrace is how long connections outlive the address that they use: DHCP clients take it away and put it back, and the kernel takes those of
// IPv6 away while an interface is set down.
const addressGrace = 5 * time.Second

// sweepWays ends the connections of addresses that did not come back.
func (s *Switch) sweepWays(now time.Time) {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	for _, w := range s.ways.by {
		for a, since := range w.gone {
			if w.wired.up && now.Sub(since) > addressGrace {
				s.conns.RemovePool(w.pools[a])
				delete(w.pools, a)
				delete(w.gone, a)
			}
		}
	}
}

// preferred returns the addresses, those that new connections should have first.
func preferred(list []link.HostAddr) (addrs []netip.Addr) {
	rank := func(a link.HostAddr) int {
		return map[bool]int{true: 2}[a.Deprecated] + map[bool]int{true: 1}[a.Secondary]
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b link.HostAddr) int { return rank(a) - rank(b) })
	for _, a := range list {
		if a.Addr().IsGlobalUnicast() {
			addrs = append(addrs, a.Addr())
		}
	}
	return addrs
}

// wireWay gives the router an interface, pools of ports and routes as w.wired says. Callers hold ways.mu.
func (s *Switch) wireWay(w *way) {
	c := s.translation(w.Router, w.leg.number)
	keep := make(map[netip.Addr]*nat.Pool)
	var routes []router.StaticRoute
	for _, a := range w.wired.addrs {
		i := 0
		if a.Is6() {
			i = 1
		}
		if w.wired.spare {
			break
		}
		pool := w.pools[a]
		if pool == nil && c.Pools[i] == nil {
			pool = s.newPool(w, a)
		}
		if pool == nil {
			continue
		}
		keep[a] = pool // also one that is no longer the best: its connections go on
		if c.Pools[i] == nil {
			c.Pools[i] = pool
		}
	}
	for _, p := range w.wired.reached {
		routes = append(routes, router.StaticRoute{Prefix: p, Interface: w.leg.name, Metric: w.Metric})
	}
	w.leg.line.SetNAT(c)
	i := &router.Interface{MAC: gatewayMAC(w.ID), MTU: w.wired.mtu, Uplink: true}
	if w.share != nil {
		i.Peer, i.Shared, i.External = peerMAC, true, w.wired.addrs
	} else {
		i.Prefixes = w.IPs
		routes = w.gatewayRoutes()
	}
	w.leg.line.SetGateway(s.router(w.Router), i)
	s.routeBy(w.leg.name, w.Router, routes)
	for a, pool := range w.pools {
		switch {
		case keep[a] != nil:
			delete(w.gone, a)
		case w.wired.spare:
			s.conns.RemovePool(pool)
			delete(w.gone, a)
		default:
			if keep[a] = pool; w.gone[a].IsZero() {
				w.gone[a] = time.Now()
			}
		}
	}
	w.pools = keep
	s.steerAll(w)
	if w.read {
		return
	}
	if err := s.path.Start(w.leg.id); err != nil {
		s.log.Error("read an uplink", "uplink", w.Name, "err", err)
	}
	w.read = true
}

// gatewayRoutes are the default routes of a dedicated uplink.
func (w *way) gatewayRoutes() (routes []router.StaticRoute) {
	for _, via := range w.Gateways {
		if w.wired.up {
			routes = append(routes, router.StaticRoute{Prefix: prefix.Default(via), NextHops: []netip.Addr{via}, Interface: w.leg.name, Metric: w.Metric})
		}
	}
	return routes
}

// announceWay tells the segment where the addresses of a dedicated uplink are: its tables of MACs, and neighbors that knew an older owner.
func (s *Switch) announceWay(w *way) {
	if w.share != nil {
		return
	}
	for _, a := range w.wired.addrs {
		s.path.Send(w.leg.id, pipeline.Announcement(gatewayMAC(w.ID), a))
	}
}
