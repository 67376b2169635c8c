package router

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"vswitch/internal/prefix"
)

// StaticRoute is a route that a user asked for, or one that leads to all behind a point-to-point interface. The next hops are in subnets
// of the router's interfaces, or the route is not active.
type StaticRoute struct {
	Prefix    netip.Prefix // masked
	NextHops  []netip.Addr
	Interface string // the next hops are behind that one, also link-local ones; or, without any, that is point to point
	Metric    uint32 // of routes to the same prefix the one with the lowest is active; connected ones have 0
}

// Route is where datagrams to a prefix go.
type Route struct {
	Prefix netip.Prefix
	Static bool
	Metric uint32
	Wanted []netip.Addr // next hops of a static one, as they were asked for
	Link   string       // the interface that the route is bound to
	Hops   []Hop        // ways to those that are in reach; without any it is not active
}

// Hop is one way of a route.
type Hop struct {
	If  *Interface
	Via netip.Addr // the next hop; invalid where it is the destination: on connected routes, and those of a point-to-point interface
}

// Snapshot is a router's configuration at one moment. It never changes.
//
//	maps     destination -> Route by longest prefix; address -> interface that owns it
//	memory   a table of some 100 bytes a route, made anew by each change
type Snapshot struct {
	fib        bart.Table[*Route]
	interfaces []*Interface
	own        map[netip.Addr]*Interface // without link-local addresses
	external   map[netip.Addr]*Interface // see Interface.External; of several that have it, a shared one
	broadcasts map[netip.Addr]bool       // directed ones of connected subnets (RFC 2644), and their networks' own addresses
	routes     []*Route                  // active ones and others
}

func newSnapshot(ifs []*Interface, static []StaticRoute) *Snapshot {
	s := &Snapshot{interfaces: ifs, own: map[netip.Addr]*Interface{}, external: map[netip.Addr]*Interface{}, broadcasts: map[netip.Addr]bool{}}
	for _, i := range ifs {
		for _, p := range i.Prefixes {
			s.own[p.Addr()] = i
			s.connected(p)
			s.add(&Route{Prefix: p.Masked(), Hops: []Hop{{If: i}}})
		}
		for _, a := range i.External {
			if s.external[a] == nil || i.Shared {
				s.external[a] = i
			}
		}
	}
	for _, r := range static {
		route := &Route{Prefix: r.Prefix, Static: true, Metric: r.Metric, Wanted: r.NextHops, Link: r.Interface, Hops: s.hops(r.NextHops)}
		if r.Interface != "" {
			route.Hops = s.bound(r)
			if len(r.NextHops) == 0 && len(route.Hops) > 0 { // a subnet at the other end of a link
				s.connected(r.Prefix)
			}
		}
		s.add(route)
	}
	slices.SortStableFunc(s.routes, func(a, b *Route) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	return s
}

// connected notes the directed broadcasts of a subnet.
func (s *Snapshot) connected(p netip.Prefix) {
	if p.Addr().Is4() && p.Bits() < 31 {
		s.broadcasts[p.Masked().Addr()] = true
		s.broadcasts[prefix.Last(p)] = true
	}
}

// add enters a route. The first of equals stays.
func (s *Snapshot) add(r *Route) {
	s.routes = append(s.routes, r)
	if len(r.Hops) == 0 {
		return
	}
	if old, ok := s.fib.Get(r.Prefix); !ok || r.Metric < old.Metric {
		s.fib.Insert(r.Prefix, r)
	}
}

// bound returns the hops of a route that is bound to an interface, but for those that it has no address to ask for.
func (s *Snapshot) bound(r StaticRoute) (hops []Hop) {
	i := s.Interface(r.Interface)
	if i == nil {
		return nil
	}
	if i.PointToPoint() {
		return []Hop{{If: i}}
	}
	for _, via := range r.NextHops {
		if i.Source(via).IsValid() {
			hops = append(hops, Hop{i, via})
		}
	}
	return hops
}

// hops finds the interfaces of next hops; those that no subnet contains are left out.
func (s *Snapshot) hops(via []netip.Addr) (hops []Hop) {
	for _, a := range via {
		var best *Interface
		bits := -1
		for _, i := range s.interfaces {
			for _, p := range i.Prefixes {
				if p.Contains(a) && p.Bits() > bits && !i.Owns(a) {
					best, bits = i, p.Bits()
				}
			}
		}
		if best != nil {
			hops = append(hops, Hop{best, a})
		}
	}
	return hops
}

// Lookup returns the active route with the longest prefix that contains dst, or nil.
func (s *Snapshot) Lookup(dst netip.Addr) *Route {
	r, _ := s.fib.Lookup(dst)
	return r
}

// LookupBy returns the way to dst by an interface, also where the active route leads elsewhere: that of the longest prefix.
func (s *Snapshot) LookupBy(dst netip.Addr, i *Interface) (hop Hop, ok bool) {
	bits := -1
	for _, r := range s.routes {
		if r.Prefix.Bits() <= bits || !r.Prefix.Contains(dst) {
			continue
		}
		for _, h := range r.Hops {
			if h.If.id == i.id {
				hop, ok, bits = h, true, r.Prefix.Bits()
			}
		}
	}
	return hop, ok
}

// Active tells whether datagrams take the route.
func (s *Snapshot) Active(r *Route) bool {
	a, ok := s.fib.Get(r.Prefix)
	return ok && a == r
}

// Routes returns all routes, by prefix and metric, those that are not active too. The caller doesn't change them.
func (s *Snapshot) Routes() []*Route { return s.routes }

// Interfaces returns all interfaces. The caller doesn't change them.
func (s *Snapshot) Interfaces() []*Interface { return s.interfaces }

// Interface returns the interface of that name, or nil.
func (s *Snapshot) Interface(name string) *Interface {
	for _, i := range s.interfaces {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// Own returns the interface that has the address, or nil. Link-local addresses are the interfaces' own affair.
func (s *Snapshot) Own(a netip.Addr) *Interface { return s.own[a] }

// External returns the interface by which the router uses the host's address, or nil.
func (s *Snapshot) External(a netip.Addr) *Interface { return s.external[a] }

// Broadcast tells whether the address is a directed broadcast to a connected subnet, or the subnet's own address.
func (s *Snapshot) Broadcast(a netip.Addr) bool { return s.broadcasts[a] }

// Reaches tells whether one of the ways to addr leads through the interface: the strict reverse-path check (RFC 3704 2.2). Behind an
// uplink there is whatever static routes say to be behind any (2.4, loose): who is there knows routes that the router doesn't.
func (s *Snapshot) Reaches(addr netip.Addr, i *Interface) bool {
	if slices.Contains(i.Sources, addr) {
		return true
	}
	r := s.Lookup(addr)
	if i.Uplink && (r == nil || r.Static && slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.If.Uplink })) {
		return true
	}
	return r != nil && slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.If.id == i.id })
}
