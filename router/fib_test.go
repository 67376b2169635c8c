package router_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"vswitch/router"
)

// naive finds the active route by looking at all: longest prefix, then lowest metric, then the first.
func naive(routes []router.StaticRoute, dst netip.Addr) (best *router.StaticRoute) {
	for i := range routes {
		r := &routes[i]
		if r.Prefix.Contains(dst) && (best == nil || r.Prefix.Bits() > best.Prefix.Bits() ||
			r.Prefix.Bits() == best.Prefix.Bits() && r.Metric < best.Metric) {
			best = r
		}
	}
	return best
}

func TestFIBAgainstNaiveTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	addr := func(v6 bool) netip.Addr {
		if v6 {
			return netip.AddrFrom16([16]byte{0: 0xfd, 1: byte(r.IntN(3)), 7: byte(r.IntN(3)), 15: byte(r.IntN(4))})
		}
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(4))})
	}
	gateways := []router.StaticRoute{
		{Prefix: netip.MustParsePrefix("192.168.0.0/16")}, {Prefix: netip.MustParsePrefix("fc00::/64")},
	}
	for range 200 {
		m := router.New("main")
		m.SetInterface(router.Interface{Name: "net", MTU: 1500, Prefixes: []netip.Prefix{
			netip.MustParsePrefix("192.168.0.1/16"), netip.MustParsePrefix("fc00::1/64"),
		}})
		routes := append([]router.StaticRoute{}, gateways...)
		for range r.IntN(30) {
			v6 := r.IntN(2) == 0
			a := addr(v6)
			p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
			hop := netip.MustParseAddr("192.168.0.9")
			if v6 {
				hop = netip.MustParseAddr("fc00::9")
			}
			routes = append(routes, router.StaticRoute{Prefix: p, NextHops: []netip.Addr{hop}, Metric: uint32(1 + r.IntN(3))})
		}
		m.SetRoutes(routes[2:])
		s := m.Snapshot()
		for range 100 {
			dst := addr(r.IntN(2) == 0)
			want, got := naive(routes, dst), s.Lookup(dst)
			switch {
			case (want == nil) != (got == nil):
				t.Fatalf("to %v: %v, want %v", dst, got, want)
			case want != nil && (want.Prefix != got.Prefix || want.Metric != got.Metric):
				t.Fatalf("to %v: %v metric %d, want %v metric %d", dst, got.Prefix, got.Metric, want.Prefix, want.Metric)
			}
		}
	}
}

// A route whose next hops are in no subnet is kept and not used; one that has some uses those.
func TestNextHopsOutOfReach(t *testing.T) {
	m := router.New("main")
	hop := netip.MustParseAddr
	route := router.StaticRoute{Prefix: netip.MustParsePrefix("0.0.0.0/0"), NextHops: []netip.Addr{hop("10.1.0.9"), hop("10.2.0.9")}, Metric: 1}
	m.SetRoutes([]router.StaticRoute{route})
	for _, step := range []struct {
		name string
		do   func()
		hops int
	}{
		{"no interface", func() {}, 0},
		{"one", func() {
			m.SetInterface(router.Interface{Name: "a", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}})
		}, 1},
		{"both", func() {
			m.SetInterface(router.Interface{Name: "b", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")}})
		}, 2},
		{"the next hop is the router itself", func() {
			m.SetInterface(router.Interface{Name: "b", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.9/24")}})
		}, 1},
		{"none again", func() { m.RemoveInterface("a"); m.RemoveInterface("b") }, 0},
	} {
		gen := m.Gen().Load()
		step.do()
		r, got := m.Snapshot().Lookup(hop("192.0.2.1")), 0
		if r != nil {
			got = len(r.Hops)
		}
		if got != step.hops {
			t.Errorf("%s: %d next hops, want %d", step.name, got, step.hops)
		}
		if step.name != "no interface" && m.Gen().Load() == gen {
			t.Errorf("%s: the generation stayed", step.name)
		}
	}
}

func TestDirectedBroadcasts(t *testing.T) {
	m := router.New("main")
	m.SetInterface(router.Interface{Name: "a", Prefixes: []netip.Prefix{
		netip.MustParsePrefix("10.1.4.1/22"), netip.MustParsePrefix("10.9.0.0/31"), netip.MustParsePrefix("10.9.1.1/32"),
	}})
	m.SetInterface(router.Interface{Name: "link", Peer: [6]byte{2, 1}})
	m.SetRoutes([]router.StaticRoute{
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Interface: "link"}, {Prefix: netip.MustParsePrefix("198.51.100.2/32"), Interface: "link"},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), NextHops: []netip.Addr{netip.MustParseAddr("10.1.4.9")}},
		{Prefix: netip.MustParsePrefix("10.8.0.0/24"), Interface: "a"},
	})
	for addr, want := range map[string]bool{
		"192.0.2.255": true, "192.0.2.0": true, "192.0.2.1": false, "198.51.100.2": false, "203.0.113.255": false, "10.8.0.255": false,
		"10.1.4.0": true, "10.1.7.255": true, "10.1.4.255": false, "10.1.5.0": false, "10.9.0.1": false, "10.9.0.0": false, "10.9.1.1": false,
	} {
		if got := m.Snapshot().Broadcast(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: broadcast %v, want %v", addr, got, want)
		}
	}
}

// A route may be bound to an interface: its next hops are there, also link-local ones, and it is found there when another one is active.
func TestBoundRoutes(t *testing.T) {
	m := router.New("main")
	one := m.SetInterface(router.Interface{Name: "one", MTU: 1500, Uplink: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::2/64")}})
	two := m.SetInterface(router.Interface{Name: "two", MTU: 1500, Uplink: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:2::2/64")}})
	link := netip.MustParseAddr("fe80::1")
	all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	m.SetRoutes([]router.StaticRoute{
		{Prefix: all, NextHops: []netip.Addr{link}, Interface: "one", Metric: 100},
		{Prefix: all, NextHops: []netip.Addr{link}, Interface: "two", Metric: 200},
		{Prefix: all, NextHops: []netip.Addr{link}, Interface: "none", Metric: 1},
	})
	s, dst := m.Snapshot(), netip.MustParseAddr("2001:db8:9::9")
	if r := s.Lookup(dst); r == nil || len(r.Hops) != 1 || r.Hops[0] != (router.Hop{If: one, Via: link}) {
		t.Errorf("the active route is %+v", r)
	}
	if h, ok := s.LookupBy(dst, two); !ok || h != (router.Hop{If: two, Via: link}) {
		t.Errorf("by the other uplink: %+v, %v", h, ok)
	}
	if h, ok := s.LookupBy(netip.MustParseAddr("2001:db8:2::9"), two); !ok || h.If != two || h.Via.IsValid() {
		t.Errorf("on the other uplink's segment: %+v, %v", h, ok)
	}
	if h, ok := s.LookupBy(netip.MustParseAddr("192.0.2.1"), two); ok {
		t.Errorf("IPv4: %+v", h)
	}
	for _, i := range []*router.Interface{one, two} {
		if !s.Reaches(dst, i) || s.Reaches(netip.MustParseAddr("2001:db8:1::9"), two) && i == two {
			t.Errorf("who is outside may be behind any uplink, but in no other one's subnet")
		}
	}
}
