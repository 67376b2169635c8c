package ipam

import (
	"io"
	"net/netip"
	"slices"

	"vswitch/internal/api"
)

// Change makes of a network's subnets what r asks for; the prefixes that come or stay overlap with none of others. noGateway
// is what holds for the network from now on. Whether somebody uses what goes is for the caller to know. Errors are those of
// Subnets, and *api.Error with CodeNotFound for a subnet to remove that the network doesn't have.
func Change(subnets []api.Subnet, r *api.NetworkChange, noGateway bool, others []Owned, hostRoutes []netip.Prefix, random io.Reader) ([]api.Subnet, error) {
	var kept []api.Subnet
	for _, p := range r.RemoveSubnets {
		if !slices.ContainsFunc(subnets, func(s api.Subnet) bool { return s.Prefix == p }) {
			return nil, api.Errorf(api.CodeNotFound, "the network has no subnet %v to remove (it has: %s)", p, list(subnets))
		}
	}
	for _, s := range subnets {
		if slices.Contains(r.RemoveSubnets, s.Prefix) {
			continue
		}
		if err := checkOverlap(s.Prefix, nil, others); err != nil {
			return nil, err
		}
		kept = append(kept, s)
	}
	if len(r.AddSubnets) > 0 {
		taken := slices.Clone(others)
		for _, s := range kept {
			taken = append(taken, Owned{Network: "the same network", Prefix: s.Prefix})
		}
		more, err := prefixes(&api.NetworkRequest{Subnets: r.AddSubnets}, taken, hostRoutes, random)
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			kept = append(kept, api.Subnet{Prefix: p})
		}
	}
	return kept, refine(kept, r, noGateway)
}

// refine sets gateways and ranges.
func refine(subnets []api.Subnet, r *api.NetworkChange, noGateway bool) error {
	if noGateway && len(r.Gateways) > 0 {
		return api.Errorf(api.CodeInvalid, "gateway %v contradicts the wish for none: leave one of them out", r.Gateways[0])
	}
	for _, g := range r.Gateways {
		if s := containing(subnets, g); s != nil {
			s.Gateway = netip.Addr{}
		}
	}
	for _, p := range r.Ranges {
		if s := containing(subnets, p.Addr()); s != nil {
			s.Range = netip.Prefix{}
		}
	}
	if err := setGateways(subnets, r.Gateways); err != nil {
		return err
	}
	if err := setRanges(subnets, r.Ranges); err != nil {
		return err
	}
	for i := range subnets {
		s := &subnets[i]
		switch {
		case noGateway:
			s.Gateway = netip.Addr{}
		case !s.Gateway.IsValid():
			s.Gateway, _ = Usable(s.Prefix)
		}
		if s.Range == s.Prefix {
			s.Range = netip.Prefix{}
		}
	}
	return nil
}

// Change makes the pools of a network's changed subnets: what is leased or rests stays so, except in subnets that are gone.
// The pools that it is called on stay as they are. Errors are those of NewPool, and *api.Error with CodeConflict when a new gateway's
// address is taken, with the owner as Object.
func (ps Pools) Change(subnets []api.Subnet) (Pools, error) {
	var changed Pools
	for _, s := range subnets {
		i := slices.IndexFunc(ps, func(p *Pool) bool { return p.subnet.Prefix == s.Prefix })
		if i >= 0 && ps[i].subnet == s {
			changed = append(changed, ps[i])
			continue
		}
		p, err := NewPool(s)
		if err == nil && i >= 0 {
			err = p.inherit(ps[i])
		}
		if err != nil {
			return nil, err
		}
		changed = append(changed, p)
	}
	return changed, nil
}

// inherit takes over what old has leased and what rests there. p is new and nobody else's.
func (p *Pool) inherit(old *Pool) error {
	old.mu.Lock()
	defer old.mu.Unlock()
	if owner := old.leases[p.subnet.Gateway]; owner != "" && owner != Gateway {
		return taken(p.subnet.Gateway, owner)
	}
	for a, owner := range old.leases {
		if owner != Gateway && a != p.subnet.Gateway {
			p.leases[a] = owner
		}
	}
	for _, r := range old.resting {
		if r.addr != p.subnet.Gateway {
			p.resting = append(p.resting, r)
		}
	}
	return nil
}

// Reserve gives owner the addresses on top of what it has, with the length of their subnet. It gives all or none; errors are
// those of Pool.Reserve.
func (ps Pools) Reserve(owner string, asked []netip.Addr) (given []netip.Prefix, err error) {
	for _, a := range asked {
		p := ps.containing(a)
		if p == nil {
			err = ps.noSubnet(a)
		} else {
			err = p.Reserve(a, owner)
		}
		if err != nil {
			ps.Return(given)
			return nil, err
		}
		given = append(given, netip.PrefixFrom(a, p.subnet.Prefix.Bits()))
	}
	return given, nil
}
