package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// routeProtocol marks our routes in the host's tables (rtm_protocol in linux/rtnetlink.h); programs like ip show the number.
const routeProtocol = 118

// HostRoute is a route of the host's to a network, by the host port.
type HostRoute struct {
	Prefix netip.Prefix
	Source netip.Addr // by which the host speaks to it; invalid: the kernel's choice
	MTU    int        // of packets to it, bytes
}

// HostRoutes lists our routes by the host port of that index.
func HostRoutes(host *Namespace, index int) ([]HostRoute, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(host.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink in network namespace %s: %w", host, err)
	}
	defer h.Close()
	if err := h.SetStrictCheck(true); err != nil { // the kernel leaves the others out, which may be a million
		return nil, fmt.Errorf("netlink in network namespace %s: %w", host, err)
	}
	var list []HostRoute
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) {
			filter := &netlink.Route{LinkIndex: index, Protocol: routeProtocol}
			return h.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil {
			return nil, fmt.Errorf("list the routes of network namespace %s: %w", host, err)
		}
		for _, r := range routes {
			src, _ := netip.AddrFromSlice(r.Src)
			list = append(list, HostRoute{Prefix: prefixOf(r.Dst), Source: src.Unmap(), MTU: r.MTU})
		}
	}
	return list, nil
}

// AddHostRoute adds a route by the host port of that index. An api.Error conflict says that the host has one to the same prefix.
func AddHostRoute(host *Namespace, index int, r HostRoute) error {
	return setHostRoute(host, index, r, (*netlink.Handle).RouteAdd)
}

// ReplaceHostRoute changes a route of ours that is there.
func ReplaceHostRoute(host *Namespace, index int, r HostRoute) error {
	return setHostRoute(host, index, r, (*netlink.Handle).RouteReplace)
}

func setHostRoute(host *Namespace, index int, r HostRoute, set func(*netlink.Handle, *netlink.Route) error) error {
	h, err := host.netlink()
	if err != nil {
		return err
	}
	route := hostRoute(index, r.Prefix)
	route.MTU = r.MTU
	if r.Source.IsValid() {
		route.Src = r.Source.AsSlice()
	}
	err = set(h, route)
	switch {
	case errors.Is(err, unix.EEXIST):
		return api.Errorf(api.CodeConflict, "the host has another route to %s", r.Prefix)
	case err != nil:
		return fmt.Errorf("add route %s by the host port: %w", r.Prefix, err)
	}
	return nil
}

// DeleteHostRoute removes a route of ours. That it is gone already is no error.
func DeleteHostRoute(host *Namespace, index int, prefix netip.Prefix) error {
	h, err := host.netlink()
	if err != nil {
		return err
	}
	if err := h.RouteDel(hostRoute(index, prefix)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s by the host port: %w", prefix, err)
	}
	return nil
}

func hostRoute(index int, prefix netip.Prefix) *netlink.Route {
	r := &netlink.Route{LinkIndex: index, Dst: ipNet(prefix), Protocol: routeProtocol, Scope: netlink.SCOPE_LINK}
	if prefix.Addr().Is6() {
		r.Scope = netlink.SCOPE_UNIVERSE // IPv6 has no other
	}
	return r
}

// HostWay is where the host sends what goes to a prefix, by another interface than the host port.
type HostWay struct {
	Prefix netip.Prefix
	Index  int // of the interface; 0: it refuses what goes there
}

// HostWays lists the host's routes of all tables, but for those by the host port of that index, those to itself and default routes.
func HostWays(host *Namespace, index int) ([]HostWay, error) {
	routes, err := allRoutes(host)
	if err != nil {
		return nil, err
	}
	var list []HostWay
	for _, r := range routes {
		out := r.LinkIndex
		if len(r.MultiPath) > 0 {
			out = r.MultiPath[0].LinkIndex
		}
		if p := prefixOf(r.Dst); p.Bits() > 0 && out != index {
			list = append(list, HostWay{p, out})
		}
	}
	return list, nil
}

// allRoutes lists the routes of all tables but the local one.
func allRoutes(ns *Namespace) ([]netlink.Route, error) {
	h, err := ns.netlink()
	if err != nil {
		return nil, err
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		return h.RouteListFiltered(netlink.FAMILY_ALL, all, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes of network namespace %s: %w", ns, err)
	}
	return slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Table == unix.RT_TABLE_LOCAL }), nil
}

// whole repeats a list under which something changed, for a while.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 20 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// prefixOf is invalid for what is no prefix, as of a route of another family than IP's.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones).Masked()
}

// LocalAddr is an address of the host's and the index of its interface.
type LocalAddr struct {
	Addr  netip.Addr
	Index int
}

// LocalAddrs lists the addresses by which others can reach the host: those of all interfaces, without loopback, link-local ones, groups,
// and those that are not in use yet.
func LocalAddrs(host *Namespace) ([]LocalAddr, error) {
	h, err := host.netlink()
	if err != nil {
		return nil, err
	}
	all, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of network namespace %s: %w", host, err)
	}
	var list []LocalAddr
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		if ok && addr.IsGlobalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			list = append(list, LocalAddr{addr, a.LinkIndex})
		}
	}
	return list, nil
}
