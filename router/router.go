package router

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"vswitch/internal/flow"
)

// Interface is a router's leg in a network. It never changes; SetInterface replaces it.
type Interface struct {
	Name     string // of the network
	MAC      [6]byte
	MTU      int            // bytes at L3
	Prefixes []netip.Prefix // its addresses, each with the length of its subnet
	Internal bool           // nothing is forwarded from or to it: it answers for itself only
	Segment  any            // what its frames leave by, for who reads frames

	Peer     [6]byte      // point to point: whatever it sends goes to this MAC, and nobody is asked for one. Zero: neighbors have theirs
	Uplink   bool         // it leads outside, where private addresses are worth nothing
	Shared   bool         // the host uses it too: what belongs to no connection and no published port is the host's, and not answered
	Sources  []netip.Addr // what comes by it may have these, though the way to them is another
	External []netip.Addr // addresses of the host's where ports can be published; all that can leave by a Shared one

	id    uint32       // the same for all interfaces of one name
	addrs []netip.Addr // all its own addresses, the link-local one too
	hop   *flow.Hop    // of a point-to-point one
}

// PointToPoint tells whether there is one peer behind the interface, and neither ARP nor Neighbor Discovery.
func (i *Interface) PointToPoint() bool { return i.hop != nil }

// Router is a world of its own: networks on it reach each other, and others may use the same addresses.
//
//	writes   control verbs, one at a time
//	reads    the slow path of any worker, through Snapshot
//	safety   each change publishes a new immutable Snapshot and only then raises the generation, see l2switch.Bridge
type Router struct {
	name      string
	gen       flow.Generation
	snap      atomic.Pointer[Snapshot]
	neighbors *Neighbors
	errors    Limiter

	mu     sync.Mutex
	ifs    map[string]*Interface // guarded by mu
	static []StaticRoute         // guarded by mu
	lastID uint32                // guarded by mu
}

// New makes a router without interfaces.
func New(name string) *Router {
	r := &Router{name: name, neighbors: newNeighbors(), ifs: map[string]*Interface{}}
	r.snap.Store(newSnapshot(nil, nil))
	return r
}

// Name returns the router's name.
func (r *Router) Name() string { return r.name }

// Gen returns the generation of the configuration: load it before Snapshot.
func (r *Router) Gen() *flow.Generation { return &r.gen }

// Renew raises the generation: something else has changed that decisions about what is routed lean on, as published ports.
func (r *Router) Renew() { r.gen.Bump() }

// Snapshot returns the current configuration.
func (r *Router) Snapshot() *Snapshot { return r.snap.Load() }

// Neighbors returns the router's neighbor table.
func (r *Router) Neighbors() *Neighbors { return r.neighbors }

// Errors returns what limits the ICMP errors that the router sends.
func (r *Router) Errors() *Limiter { return &r.errors }

// SetInterface adds an interface or replaces the one of its name. Neighbors that it has no subnet for any more are forgotten.
func (r *Router) SetInterface(i Interface) *Interface {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.ifs[i.Name]; old != nil {
		i.id = old.id
	} else {
		r.lastID++
		i.id = r.lastID
	}
	i.addrs = nil
	for _, p := range i.Prefixes {
		i.addrs = append(i.addrs, p.Addr())
	}
	if slices.ContainsFunc(i.addrs, netip.Addr.Is6) {
		i.addrs = append(i.addrs, LinkLocal(i.MAC))
	}
	if i.hop = nil; i.Peer != [6]byte{} {
		i.hop = &flow.Hop{Dst: i.Peer, Src: i.MAC}
	}
	r.ifs[i.Name] = &i
	r.publish()
	r.neighbors.retain(&i)
	return &i
}

// RemoveInterface forgets the interface and its neighbors.
func (r *Router) RemoveInterface(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.ifs[name]
	if i == nil {
		return
	}
	delete(r.ifs, name)
	r.publish()
	r.neighbors.retain(&Interface{id: i.id})
}

// SetRoutes replaces all static routes.
func (r *Router) SetRoutes(routes []StaticRoute) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.static = slices.Clone(routes)
	r.publish()
}

func (r *Router) publish() {
	var ifs []*Interface
	for _, i := range r.ifs {
		ifs = append(ifs, i)
	}
	slices.SortFunc(ifs, func(a, b *Interface) int { return cmp.Compare(a.id, b.id) })
	r.snap.Store(newSnapshot(ifs, r.static))
	r.gen.Bump()
}

// Owns tells whether addr is one of the interface's own addresses.
func (i *Interface) Owns(addr netip.Addr) bool { return slices.Contains(i.addrs, addr) }

// OnLink tells whether addr is in one of the interface's subnets, or link-local where it has IPv6.
func (i *Interface) OnLink(addr netip.Addr) bool {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return slices.ContainsFunc(i.addrs, netip.Addr.Is6)
	}
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Source returns the address by which the interface speaks to addr: that of addr's subnet, else the first of the family; of a shared one
// the first that the host has. It is invalid when there is none.
func (i *Interface) Source(addr netip.Addr) netip.Addr {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return LinkLocal(i.MAC)
	}
	var first netip.Addr
	for _, p := range i.Prefixes {
		switch {
		case p.Contains(addr):
			return p.Addr()
		case !first.IsValid() && p.Addr().Is4() == addr.Is4():
			first = p.Addr()
		}
	}
	if !first.IsValid() && i.Shared {
		for _, a := range i.External {
			if a.Is4() == addr.Is4() {
				return a
			}
		}
	}
	return first
}

// LinkLocal returns the link-local address made from a MAC (RFC 4291 appendix A).
func LinkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}
