package ipam

import (
	"net/netip"
	"slices"

	"vswitch/internal/api"
)

// Gateways returns the next hops of a port's default routes on network n: those gateways that its addresses reach, one of each family at
// most. A port that nobody configures, or without default routes, has none.
func Gateways(n *api.Network, p *api.Port) (list []netip.Addr) {
	if n.NoGateway || p.DefaultRoute == "no" || p.NoConfig {
		return nil
	}
	for _, s := range n.Subnets {
		reached := slices.ContainsFunc(p.IPs, func(ip netip.Prefix) bool { return s.Prefix.Contains(ip.Addr()) })
		again := slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is4() == s.Gateway.Is4() })
		if s.Gateway.IsValid() && reached && !again {
			list = append(list, s.Gateway)
		}
	}
	return list
}
