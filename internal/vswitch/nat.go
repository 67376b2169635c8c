package vswitch

import (
	"net/netip"

	"vswitch/internal/pipeline"
	"vswitch/nat"
)

// Ports that masquerading hands out of a gateway's address, on which nothing else has any.
const (
	lowPort  = 1024
	highPort = 65535
)

// sweeps is in how many sweeps all connections of a full table are looked at.
const sweeps = 8

// masquerades are the values of --masquerade.
var masquerades = map[string]pipeline.Masquerade{"auto": pipeline.MasqueradeAuto, "on": pipeline.MasqueradeOn, "off": pipeline.MasqueradeOff}

// translate gives the network what its gateway translates with, and pools of the gateway's addresses: what comes from masqueraded networks
// of the router gets those. Connections masqueraded as an address that is the gateway's no longer end. Callers hold verb.
func (s *Switch) translate(n *network) {
	prefixes := gatewayPrefixes(&n.Network)
	t := s.translation(n.Router, s.numberOf(n))
	t.Masquerade = masquerades[n.Masquerade]
	keep := map[netip.Addr]*nat.Pool{}
	for _, p := range prefixes {
		i := 0
		if p.Addr().Is6() {
			i = 1
		}
		if t.Pools[i] != nil {
			continue // of several subnets of a family, the first gateway's
		}
		pool := n.external[p.Addr()]
		if pool == nil {
			var err error
			if pool, err = s.conns.NewPool(p.Addr(), lowPort, highPort); err != nil {
				s.log.Error("masquerade", "network", n.Name, "err", err)
				continue
			}
			s.keepAllOff(pool, t.Zone)
		}
		t.Pools[i], keep[p.Addr()] = pool, pool
	}
	if len(prefixes) == 0 {
		t = nil
	}
	n.line.SetNAT(t)
	for addr, pool := range n.external {
		if keep[addr] == nil {
			s.conns.RemovePool(pool)
		}
	}
	n.external = keep
}

// untranslate ends the connections of a network that is deleted.
func (s *Switch) untranslate(n *network) {
	n.line.SetNAT(nil)
	for _, pool := range n.external {
		s.conns.RemovePool(pool)
	}
	n.external = nil
	s.conns.RemoveNetwork(n.number)
}

// numberOf returns the network's number in tables of connections, given when it is first asked for. Callers hold verb.
func (s *Switch) numberOf(n *network) uint32 {
	if n.number == 0 {
		number := s.nextNumber()
		s.mu.Lock() // for those who look
		n.number = number
		s.mu.Unlock()
	}
	return n.number
}
