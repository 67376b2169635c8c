package vswitch

import (
	"errors"
	"net/netip"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
)

// checkStation checks the addresses of an uplink: a dedicated one has its own.
func checkStation(u *api.Uplink) error {
	switch {
	case u.Mode == api.UplinkShared && len(u.IPs)+len(u.Gateways) > 0:
		return invalid("a shared uplink has the host's addresses and routes: --ip and --gateway are for --mode %s", api.UplinkDedicated)
	case u.Mode == api.UplinkShared:
		return nil
	case len(u.IPs) == 0:
		return invalid("a dedicated uplink needs an address of its own: give it by --ip, as 192.0.2.9/24")
	case u.Interface == api.AutoUplink:
		return invalid("a dedicated uplink needs an interface by name: its addresses belong to one segment, which auto may leave")
	}
	for i, p := range u.IPs {
		if err := checkStationAddress(p); err != nil {
			return err
		}
		for _, q := range u.IPs[:i] {
			if p.Addr() == q.Addr() || p.Masked() != q.Masked() && p.Overlaps(q) {
				return invalid("addresses %v and %v of an uplink: their subnets overlap", q, p)
			}
		}
	}
	for i, g := range u.Gateways {
		within := func(p netip.Prefix) bool { return p.Contains(g) && p.Addr() != g }
		linkLocal := g.Is6() && g.IsLinkLocalUnicast() && slices.ContainsFunc(u.IPs, func(p netip.Prefix) bool { return p.Addr().Is6() })
		switch {
		case slices.Contains(addrsOf(u.IPs), g):
			return invalid("gateway %v is the uplink's own address: use that of the segment's router", g)
		case !linkLocal && !slices.ContainsFunc(u.IPs, within):
			return invalid("gateway %v is in the subnet of no --ip of the uplink: use the address of the segment's router", g)
		case slices.ContainsFunc(u.Gateways[:i], func(o netip.Addr) bool { return o.Is4() == g.Is4() }):
			return invalid("gateways %v: use one of each family at most", u.Gateways)
		}
	}
	return nil
}

// checkStationAddress refuses what no host on a segment can have.
func checkStationAddress(p netip.Prefix) error {
	a := p.Addr()
	first, last := ipam.Usable(p.Masked())
	switch {
	case a.Is4In6() || !a.IsGlobalUnicast() || a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return invalid("address %v of an uplink: a host can't have it", p)
	case p.Bits() == 0 || a.Less(first) || last.Less(a):
		return invalid("address %v of an uplink: in that subnet a host can't have it; write ADDRESS/LENGTH, as 192.0.2.9/24", p)
	}
	return nil
}

// checkUplinkSubnets refuses addresses of a dedicated uplink that somebody else has: the host, or networks of the router.
func (d *draft) checkUplinkSubnets(u *api.Uplink) error {
	if u.Mode != api.UplinkDedicated {
		return nil
	}
	var errs []error
	for _, p := range u.IPs {
		errs = append(errs, d.checkUplinkSubnet(u, p))
	}
	st, err := link.Lookup(d.s.host, u.Interface)
	if err != nil {
		return err
	}
	hosts, err := link.HostAddrs(d.s.host, st.Index)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if slices.ContainsFunc(u.IPs, func(p netip.Prefix) bool { return p.Addr() == h.Addr() }) {
			errs = append(errs, api.Errorf(api.CodeConflict, "address %v is the host's own at %s: use another one of its subnet, or --mode %s", h.Addr(), u.Interface,
				api.UplinkShared))
		}
	}
	return errors.Join(errs...)
}

func (d *draft) checkUplinkSubnet(u *api.Uplink, p netip.Prefix) error {
	taken := func(by string, q netip.Prefix) error {
		e := api.Errorf(api.CodeConflict, "subnet %v of the uplink overlaps %v of %s: use a router of its own", p.Masked(), q, by)
		e.Object = by
		return e
	}
	for _, n := range d.networks {
		for _, sub := range n.Subnets {
			if n.Router == u.Router && sub.Prefix.Overlaps(p) {
				return taken(n.Name, sub.Prefix)
			}
		}
	}
	for _, o := range d.uplinks {
		for _, q := range o.IPs {
			if o.Router == u.Router && q.Overlaps(p) {
				return taken(legName(o.Name), q.Masked())
			}
		}
	}
	return nil
}
