package ipam

import (
	"net/netip"
	"slices"
	"time"

	"vswitch/internal/api"
)

// Pools are those of one network's subnets.
type Pools []*Pool

// NewPools makes the pools of a network's subnets, as Subnets returned them.
func NewPools(subnets []api.Subnet) (Pools, error) {
	var ps Pools
	for _, s := range subnets {
		p, err := NewPool(s)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// Assign gives owner the addresses it asks for and, of each family of which it asks for none, the first free one of the
// first subnet that has one. They come with the length of their subnet. It gives all or none; errors are those of Reserve
// and Allocate.
func (ps Pools) Assign(owner string, asked []netip.Addr, now time.Time) (given []netip.Prefix, err error) {
	if given, err = ps.Reserve(owner, asked); err != nil {
		return nil, err
	}
	for _, is4 := range []bool{true, false} {
		if slices.ContainsFunc(asked, func(a netip.Addr) bool { return a.Is4() == is4 }) {
			continue
		}
		a, err := ps.allocate(is4, owner, now)
		if err != nil {
			ps.Return(given)
			return nil, err
		}
		if a.IsValid() {
			given = append(given, a)
		}
	}
	return given, nil
}

// allocate takes an address from the first pool of the family that has one. It is invalid when the family has no pool.
func (ps Pools) allocate(is4 bool, owner string, now time.Time) (netip.Prefix, error) {
	var full error
	for _, p := range ps {
		if p.subnet.Prefix.Addr().Is4() != is4 {
			continue
		}
		a, err := p.Allocate(owner, now)
		if err == nil {
			return netip.PrefixFrom(a, p.subnet.Prefix.Bits()), nil
		}
		full = err
	}
	return netip.Prefix{}, full
}

// Restore gives owner addresses it had before a restart. It gives all or none; errors are those of Reserve.
func (ps Pools) Restore(owner string, had []netip.Prefix) error {
	addrs := make([]netip.Addr, len(had))
	for i, h := range had {
		addrs[i] = h.Addr()
	}
	_, err := ps.Reserve(owner, addrs)
	return err
}

// Release takes all addresses back from owner.
func (ps Pools) Release(owner string, given []netip.Prefix, now time.Time) {
	for _, g := range given {
		if p := ps.containing(g.Addr()); p != nil {
			p.Release(g.Addr(), owner, now)
		}
	}
}

// Return takes back addresses that nobody has seen: they need no rest.
func (ps Pools) Return(given []netip.Prefix) {
	for _, g := range given {
		ps.containing(g.Addr()).undo(g.Addr())
	}
}

func (ps Pools) containing(a netip.Addr) *Pool {
	for _, p := range ps {
		if p.subnet.Prefix.Contains(a) {
			return p
		}
	}
	return nil
}

func (ps Pools) noSubnet(a netip.Addr) error {
	if len(ps) == 0 {
		return api.Errorf(api.CodeInvalid, "the network has no subnet for address %v: leave the address out, or make a network with one", a)
	}
	subnets := make([]api.Subnet, len(ps))
	for i, p := range ps {
		subnets[i] = p.subnet
	}
	return api.Errorf(api.CodeInvalid, "address %v is in none of the network's subnets (%s)", a, list(subnets))
}
