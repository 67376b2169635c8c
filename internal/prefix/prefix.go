// Package prefix has what net/netip leaves out about prefixes of IPv4 and IPv6.
package prefix

import "net/netip"

// Host returns the prefix that holds the address alone.
func Host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Default returns the prefix that holds all addresses of the family of like: that of a default route. The zero Addr stands for IPv4.
func Default(like netip.Addr) netip.Prefix {
	if like.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Last returns the last address of a prefix: of an IPv4 subnet, its directed broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Parse reads ADDRESS/LENGTH as netip.ParsePrefix does, or an address alone, which is the prefix Host.
func Parse(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return Host(a), nil
	}
	return netip.ParsePrefix(s)
}
