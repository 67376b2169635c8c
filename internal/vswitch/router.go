package vswitch

import (
	"encoding/hex"
	"net/netip"

	"vswitch/internal/api"
	"vswitch/internal/packet"
	"vswitch/nat"
	"vswitch/router"
)

// wire gives the network the interface on a router that its configuration asks for, or takes it away. Callers hold verb.
func (s *Switch) wire(n *network) {
	prefixes := gatewayPrefixes(&n.Network)
	s.judgeUsers(n.Name)
	s.translate(n)
	if len(prefixes) == 0 {
		s.path.Do(n.line.Advertise(nil))
		n.line.SetGateway(nil, nil)
		return
	}
	n.line.SetGateway(s.router(n.Router), &router.Interface{MAC: gatewayMAC(n.ID), MTU: n.MTU, Prefixes: prefixes, Internal: n.Internal})
	s.path.Do(n.line.Advertise(advertisementOf(&n.Network)))
}

// unwire takes the network's interface away: it is deleted.
func (s *Switch) unwire(n *network) {
	s.path.Do(n.line.Advertise(nil))
	n.line.SetGateway(nil, nil)
	s.untranslate(n)
	n.line.SetRules(nil)
	s.judgeUsers(n.Name)
}

// router returns the router of that name; at first use it is made.
func (s *Switch) router(name string) *router.Router {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.routers[name]
	if r == nil {
		r = router.New(name)
		s.routers[name] = r
		s.zones[name] = freeZone(s.zones)
	}
	return r
}

// freeZone returns the lowest number that no router has.
func freeZone(zones map[string]uint16) uint16 {
	taken := make(map[uint16]bool, len(zones))
	for _, z := range zones {
		taken[z] = true
	}
	free := uint16(1)
	for taken[free] {
		free++
	}
	return free
}

// forgetRouters lets go of routers that no network, uplink and route names any more, and of what is left of their connections. Callers hold verb.
func (s *Switch) forgetRouters() {
	for _, zone := range s.dropRouters() {
		s.conns.Remove(&nat.Filter{Zone: zone})
	}
}

// dropRouters is forgetRouters but for the connections, and returns the routers' zones.
func (s *Switch) dropRouters() (zones []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[string]bool{api.MainRouter: true}
	for _, n := range s.networks {
		used[n.Router] = true
	}
	for _, u := range s.uplinks {
		used[u.Router] = true
	}
	for _, r := range s.routes {
		used[r.Router] = true
	}
	for name := range s.routers {
		if !used[name] {
			zones = append(zones, s.zones[name])
			delete(s.routers, name)
			delete(s.zones, name)
		}
	}
	return zones
}

// zone returns the number of the router of that name in tables of connections.
func (s *Switch) zone(name string) uint16 {
	s.router(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.zones[name]
}

// tendRouters does what is due with the neighbors of all routers, and with fragments.
func (s *Switch) tendRouters(now int64) {
	for _, r := range s.allRouters() {
		s.path.Do(s.line.Tend(r, now))
	}
	s.path.Do(s.line.TendFragments(now))
}

// abandoned ends a port's connections, and takes from the routers its frames that wait for a neighbor or for a
// first fragment. No worker decides frames of the
// port any more.
func (s *Switch) abandoned(id packet.PortID) (lost []*packet.Frame) {
	s.conns.RemovePort(id)
	lost = s.line.Abandon(id)
	for _, r := range s.allRouters() {
		lost = append(lost, r.Neighbors().Abandon(id)...)
	}
	return lost
}

// forgetNeighbor has the router ask anew for the port's addresses.
func (s *Switch) forgetNeighbor(e *endpoint) {
	s.mu.RLock()
	n, mac, addrs := e.net, e.mac, addrsOf(e.port.IPs)
	s.mu.RUnlock()
	if n == nil {
		return
	}
	if gw := n.line.Gateway(); gw != nil {
		gw.Router.Neighbors().Forget(gw.If, mac, addrs)
	}
}

// gatewayPrefixes returns the gateway addresses of a network, with the lengths of their subnets.
func gatewayPrefixes(n *api.Network) (prefixes []netip.Prefix) {
	if n.NoGateway {
		return nil
	}
	for _, sub := range n.Subnets {
		if sub.Gateway.IsValid() {
			prefixes = append(prefixes, netip.PrefixFrom(sub.Gateway, sub.Prefix.Bits()))
		}
	}
	return prefixes
}

// gatewayMAC makes the MAC of a network's gateway from the network's id: it stays the same for the network's life, whatever addresses
// and router it gets.
func gatewayMAC(id string) (mac [6]byte) {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) < len(mac) {
		copy(mac[1:], id)
	} else {
		copy(mac[:], b)
	}
	mac[0] = mac[0]&^1 | 2 // locally administered, one station's
	return mac
}
