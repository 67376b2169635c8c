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

// wiring is what the router knows of an uplink.
type wiring struct {
	up    bool
	spare bool // down, while another one is up: its connections end
	mtu   int
	addrs []netip.Addr // best first

	reached []netip.Prefix // by a shared one: the segment, and all when the host has a default route by it
}

// usable tells whether frames can leave by the interface.
func usable(st *uplink.State) bool { return st.Index != 0 && st.Attached != "" && st.Up && st.Carrier }

// settleUplinks makes the routers heed what is known of all uplinks.
func (s *Switch) settleUplinks() {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	s.settleUplinksLocked()
}

// settleUplinksLocked is settleUplinks for callers that hold liveUplinks.mu.
func (s *Switch) settleUplinksLocked() {
	up := make(map[string]bool) // routers that have one that is
	for _, live := range s.liveUplinks.by {
		up[live.Router] = up[live.Router] || live.work != nil && usable(&live.state)
	}
	for _, live := range s.liveUplinks.by {
		if live.work == nil {
			continue
		}
		is := wiring{up: usable(&live.state), mtu: live.state.MTU, addrs: preferred(live.state.Addrs)}
		if live.share == nil {
			is.addrs = addrsOf(live.IPs)
		} else if is.up {
			is.reached = reachedBy(&live.state)
		}
		is.spare = !is.up && up[live.Router]
		if !is.up { // what it had may come back
			is.mtu = live.wired.mtu
			if live.share != nil {
				is.addrs = live.wired.addrs
			}
		}
		if live.wired.mtu != 0 && reflect.DeepEqual(is, live.wired) {
			continue
		}
		if is.mtu == 0 {
			is.mtu = defaultMTU
		}
		came := is.up && !live.wired.up
		live.wired = is
		s.wireUplink(live)
		if came {
			s.announceUplink(live)
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

// sweepUplinks ends the connections of addresses that did not come back.
func (s *Switch) sweepUplinks(now time.Time) {
	s.liveUplinks.mu.Lock()
	defer s.liveUplinks.mu.Unlock()
	for _, live := range s.liveUplinks.by {
		for a, since := range live.gone {
			if live.wired.up && now.Sub(since) > addressGrace {
				s.conns.RemovePool(live.pools[a])
				delete(live.pools, a)
				delete(live.gone, a)
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

// wireUplink gives the router an interface, pools of ports and routes as live.wired says. Callers hold liveUplinks.mu.
func (s *Switch) wireUplink(live *liveUplink) {
	c := s.translation(live.Router, live.leg.number)
	keep := make(map[netip.Addr]*nat.Pool)
	var routes []router.StaticRoute
	for _, a := range live.wired.addrs {
		i := 0
		if a.Is6() {
			i = 1
		}
		if live.wired.spare {
			break
		}
		pool := live.pools[a]
		if pool == nil && c.Pools[i] == nil {
			pool = s.newPool(live, a)
		}
		if pool == nil {
			continue
		}
		keep[a] = pool // also one that is no longer the best: its connections go on
		if c.Pools[i] == nil {
			c.Pools[i] = pool
		}
	}
	for _, p := range live.wired.reached {
		routes = append(routes, router.StaticRoute{Prefix: p, Interface: live.leg.name, Metric: live.Metric})
	}
	live.leg.line.SetNAT(c)
	i := &router.Interface{MAC: gatewayMAC(live.ID), MTU: live.wired.mtu, Uplink: true}
	if live.share != nil {
		i.Peer, i.Shared, i.External = peerMAC, true, live.wired.addrs
	} else {
		i.Prefixes = live.IPs
		routes = live.gatewayRoutes()
	}
	live.leg.line.SetGateway(s.router(live.Router), i)
	s.routeBy(live.leg.name, live.Router, routes)
	for a, pool := range live.pools {
		switch {
		case keep[a] != nil:
			delete(live.gone, a)
		case live.wired.spare:
			s.conns.RemovePool(pool)
			delete(live.gone, a)
		default:
			if keep[a] = pool; live.gone[a].IsZero() {
				live.gone[a] = time.Now()
			}
		}
	}
	live.pools = keep
	s.steerAll(live)
	if live.read {
		return
	}
	if err := s.path.Start(live.leg.id); err != nil {
		s.log.Error("read an uplink", "uplink", live.Name, "err", err)
	}
	live.read = true
}

// gatewayRoutes are the default routes of a dedicated uplink.
func (live *liveUplink) gatewayRoutes() (routes []router.StaticRoute) {
	for _, via := range live.Gateways {
		if live.wired.up {
			routes = append(routes, router.StaticRoute{Prefix: prefix.Default(via), NextHops: []netip.Addr{via}, Interface: live.leg.name, Metric: live.Metric})
		}
	}
	return routes
}

// announceUplink tells the segment where the addresses of a dedicated uplink are: its tables of MACs, and neighbors that knew an older owner.
func (s *Switch) announceUplink(live *liveUplink) {
	if live.share != nil {
		return
	}
	for _, a := range live.wired.addrs {
		s.path.Send(live.leg.id, pipeline.Announcement(gatewayMAC(live.ID), a))
	}
}
