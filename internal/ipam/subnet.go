package ipam

import (
	"io"
	"net/netip"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/prefix"
)

// Owned is a subnet of a network that exists.
type Owned struct {
	Network string
	Prefix  netip.Prefix
}

// Subnets makes the subnets of a new network of what was asked for: checks them, chooses those that are to come from the
// default pools, and fills in gateways and ranges. An invalid prefix asks for an IPv4 subnet of the default pools; one of
// the unspecified address, 0.0.0.0/n or ::/n, for a subnet of that family and length, 0 being the usual length. None at all
// asks for one IPv4 subnet.
//
// others are the subnets of the networks on the same router, with none of which a subnet may overlap; hostRoutes are
// avoided by the default pools only, for a user may know better. random serves to choose IPv6 subnets. Errors are
// *api.Error: CodeInvalid, CodeConflict with the other network as Object, CodeExhausted.
func Subnets(r *api.NetworkRequest, others []Owned, hostRoutes []netip.Prefix, random io.Reader) ([]api.Subnet, error) {
	if r.NoSubnet {
		if len(r.Subnets)+len(r.Gateways)+len(r.Ranges) != 0 {
			return nil, api.Errorf(api.CodeInvalid, "a network without subnets has no gateway and no range: leave them out, or the wish for no subnet")
		}
		return nil, nil
	}
	if r.NoGateway && len(r.Gateways) != 0 {
		return nil, api.Errorf(api.CodeInvalid, "gateway %v contradicts the wish for none: leave one of them out", r.Gateways[0])
	}
	prefixes, err := prefixes(r, others, hostRoutes, random)
	if err != nil {
		return nil, err
	}
	subnets := make([]api.Subnet, len(prefixes))
	for i, p := range prefixes {
		subnets[i].Prefix = p
	}
	if err := setGateways(subnets, r.Gateways); err != nil {
		return nil, err
	}
	if err := setRanges(subnets, r.Ranges); err != nil {
		return nil, err
	}
	for i := range subnets {
		s := &subnets[i]
		if !r.NoGateway && !s.Gateway.IsValid() {
			s.Gateway, _ = Usable(s.Prefix)
		}
		if _, err := NewPool(*s); err != nil {
			return nil, err
		}
	}
	return subnets, nil
}

// prefixes checks the wanted prefixes first, so that what is then chosen overlaps none of them.
func prefixes(r *api.NetworkRequest, others []Owned, hostRoutes []netip.Prefix, random io.Reader) ([]netip.Prefix, error) {
	wanted := r.Subnets
	if len(wanted) == 0 {
		wanted = []netip.Prefix{{}}
	}
	avoid := append([]netip.Prefix{}, hostRoutes...)
	for _, o := range others {
		avoid = append(avoid, o.Prefix)
	}
	all := make([]netip.Prefix, len(wanted))
	for i, p := range wanted {
		if fromDefaults(p) {
			continue
		}
		if err := checkPrefix(p); err != nil {
			return nil, err
		}
		if err := checkOverlap(p, all[:i], others); err != nil {
			return nil, err
		}
		all[i] = p
		avoid = append(avoid, p)
	}
	for i, p := range wanted {
		if !fromDefaults(p) {
			continue
		}
		chosen, err := choose(p, avoid, random)
		if err != nil {
			return nil, err
		}
		all[i] = chosen
		avoid = append(avoid, chosen)
	}
	return all, nil
}

func fromDefaults(p netip.Prefix) bool { return !p.IsValid() || p.Addr().IsUnspecified() }

// reserved are prefixes in which no container can live.
var reserved = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "addresses of this host (RFC 1122)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback addresses"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local addresses"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast addresses"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved addresses (RFC 1112)"},
	{netip.MustParsePrefix("::/127"), "the unspecified and the loopback address"},
	{netip.MustParsePrefix("fe80::/10"), "link-local addresses"},
	{netip.MustParsePrefix("ff00::/8"), "multicast addresses"},
}

// checkPrefix refuses prefixes that can't be a subnet. The error says what was probably meant.
func checkPrefix(p netip.Prefix) error {
	if p.Addr().Is4In6() {
		hint := "write it as IPv4"
		if p.Bits() >= 96 {
			hint = "did you mean " + netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked().String() + "?"
		}
		return api.Errorf(api.CodeInvalid, "subnet %v is IPv4 mapped into IPv6; %s", p, hint)
	}
	if p != p.Masked() {
		return api.Errorf(api.CodeInvalid, "subnet %v has host bits set; did you mean %v?", p, p.Masked())
	}
	for _, r := range reserved {
		if p.Overlaps(r.prefix) {
			return api.Errorf(api.CodeInvalid, "subnet %v contains %s: choose a private one, such as 10.1.0.0/16 or fd00:1::/64", p, r.what)
		}
	}
	return nil
}

func checkOverlap(p netip.Prefix, same []netip.Prefix, others []Owned) error {
	for _, q := range same {
		if q.IsValid() && p.Overlaps(q) {
			return api.Errorf(api.CodeInvalid, "subnets %v and %v of the request overlap", q, p)
		}
	}
	for _, o := range others {
		if p.Overlaps(o.Prefix) {
			err := api.Errorf(api.CodeConflict, "subnet %v overlaps %v of network %s: choose another one, or put the network on a router of its own", p, o.Prefix, o.Network)
			err.Object = o.Network
			return err
		}
	}
	return nil
}

func setGateways(subnets []api.Subnet, gateways []netip.Addr) error {
	for _, g := range gateways {
		s := containing(subnets, g)
		switch {
		case s == nil:
			return api.Errorf(api.CodeInvalid, "gateway %v is in none of the network's subnets (%s)", g, list(subnets))
		case s.Gateway.IsValid():
			return api.Errorf(api.CodeInvalid, "subnet %v has two gateways, %v and %v: name one", s.Prefix, s.Gateway, g)
		}
		s.Gateway = g
	}
	return nil
}

func setRanges(subnets []api.Subnet, ranges []netip.Prefix) error {
	for _, r := range ranges {
		s := containing(subnets, r.Addr())
		switch {
		case s == nil || r.Bits() < s.Prefix.Bits():
			return api.Errorf(api.CodeInvalid, "IP range %v is within none of the network's subnets (%s)", r, list(subnets))
		case r != r.Masked():
			return api.Errorf(api.CodeInvalid, "IP range %v has host bits set; did you mean %v?", r, r.Masked())
		case s.Range.IsValid():
			return api.Errorf(api.CodeInvalid, "subnet %v has two IP ranges, %v and %v: name one", s.Prefix, s.Range, r)
		}
		s.Range = r
	}
	return nil
}

func containing(subnets []api.Subnet, a netip.Addr) *api.Subnet {
	for i := range subnets {
		if subnets[i].Prefix.Contains(a) {
			return &subnets[i]
		}
	}
	return nil
}

func list(subnets []api.Subnet) string {
	var names []string
	for _, s := range subnets {
		names = append(names, s.Prefix.String())
	}
	return strings.Join(names, ", ")
}

// Usable returns the first and last address of p that an interface may have. Not among them are IPv4's network and broadcast
// address, except in a /31 or /32 (RFC 3021), and IPv6's subnet-router anycast address (RFC 4291 2.6.1), except in a /127 or
// /128 (RFC 6164).
func Usable(p netip.Prefix) (first, last netip.Addr) {
	first, last = p.Addr(), prefix.Last(p)
	if p.Addr().BitLen()-p.Bits() < 2 {
		return first, last
	}
	if p.Addr().Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}
