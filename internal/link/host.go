package link

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostPrefixes returns the prefixes of the host's addresses and of its routes in all tables, of which no pool may take a
// part: masked, sorted, each once. Default routes, loopback, link-local and multicast are left out, and our own routes by a host port.
func HostPrefixes() ([]netip.Prefix, error) {
	host, err := Host()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	return Prefixes(host)
}

// Prefixes is HostPrefixes of any namespace.
func Prefixes(ns *Namespace) ([]netip.Prefix, error) {
	h, err := ns.netlink()
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	addrs, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of network namespace %s: %w", ns, err)
	}
	for _, a := range addrs {
		list = appendPrefix(list, a.IPNet)
		if a.Peer != nil {
			list = appendPrefix(list, a.Peer)
		}
	}
	routes, err := allRoutes(ns)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if r.Dst != nil && r.Protocol != routeProtocol {
			list = appendPrefix(list, r.Dst)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), nil
}

func appendPrefix(list []netip.Prefix, n *net.IPNet) []netip.Prefix {
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 || ones == 0 {
		return list
	}
	p := netip.PrefixFrom(ip.Unmap(), ones).Masked()
	if a := p.Addr(); !p.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return list
	}
	return append(list, p)
}

// HostMTU returns the MTU of the host's default route in bytes: the route's own or its interface's. It is 0 without
// a default route; IPv4's is asked first.
func HostMTU() (int, error) {
	host, err := Host()
	if err != nil {
		return 0, err
	}
	defer host.Close()
	return DefaultRouteMTU(host)
}

// DefaultRouteMTU is HostMTU of any namespace.
func DefaultRouteMTU(ns *Namespace) (int, error) {
	r, err := defaultRoute(ns, netlink.FAMILY_V4, netlink.FAMILY_V6)
	if err != nil || r.LinkIndex == 0 || r.MTU > 0 {
		return r.MTU, err
	}
	s, err := LookupIndex(ns, r.LinkIndex)
	return s.MTU, err
}

// bestDefault returns the default route that the kernel would take: that of the lowest metric.
func bestDefault(routes []netlink.Route) (best netlink.Route, ok bool) {
	metric := math.MaxInt
	for _, r := range routes {
		ones := 0
		if r.Dst != nil {
			ones, _ = r.Dst.Mask.Size()
		}
		if ones == 0 && r.Type == unix.RTN_UNICAST && r.Priority < metric {
			best, ok, metric = r, true, r.Priority
		}
	}
	return best, ok
}
