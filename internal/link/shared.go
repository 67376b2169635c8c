package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/bpf"
)

// HostAddr is an address of an interface of the host.
type HostAddr struct {
	netip.Prefix
	Secondary  bool // IPv4: not the first of its prefix; IPv6: temporary (RFC 8981)
	Deprecated bool // not for new connections
}

// HostAddrs lists the addresses of an interface that are in use, in the kernel's order. Those that are still looked for
// duplicates of, and IPv6's link-local ones, are left out.
func HostAddrs(ns *Namespace, index int) ([]HostAddr, error) {
	h, err := ns.netlink()
	if err != nil {
		return nil, err
	}
	all, err := h.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of interface number %d in network namespace %s: %w", index, ns, err)
	}
	var list []HostAddr
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ip = ip.Unmap(); !ok || ip.Is6() && ip.IsLinkLocalUnicast() || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			continue
		}
		list = append(list, HostAddr{
			Prefix:     netip.PrefixFrom(ip, ones),
			Secondary:  a.Flags&unix.IFA_F_SECONDARY != 0,
			Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
		})
	}
	return list, nil
}

// CheckShareable returns an api.Error refused that says why frames of the interface can't be shared with the switch, and what to use
// instead.
func CheckShareable(ns *Namespace, index int) error {
	l, err := linkByIndex(ns, index)
	if err != nil {
		return err
	}
	a := l.Attrs()
	refuse := func(why string, args ...any) error {
		return api.Errorf(api.CodeRefused, "interface %s can't be shared: %s", a.Name, fmt.Sprintf(why, args...))
	}
	switch {
	case a.RawFlags&unix.IFF_LOOPBACK != 0:
		return refuse("it is the host's loopback; name the interface that leads outside, or auto")
	case a.EncapType != "ether":
		return refuse("a device of type %s has no Ethernet header; share the Ethernet interface that its packets leave by", l.Type())
	case l.Type() == "vrf":
		return refuse("it is a VRF, whose routes the switch doesn't follow; share an interface outside of it")
	case a.MasterIndex != 0:
		master, err := linkByIndex(ns, a.MasterIndex)
		if err != nil {
			return err
		}
		if master.Type() == "vrf" {
			return refuse("it belongs to VRF %s, whose routes the switch doesn't follow; share an interface outside of it", master.Attrs().Name)
		}
		return refuse("it is a member of the %s %s, which has the addresses; share %[2]s instead", master.Type(), master.Attrs().Name)
	}
	return nil
}

// CreateUplinkTAP makes a TAP that stays in the host's namespace and brings it up, hidden from the host's stack as far as that goes:
// without a queue, and with no IPv6, which would announce itself. It vanishes when the last fd attached to it is closed. undo is as
// that of CreateTAP.
func CreateUplinkTAP(host *Namespace, c TAPConfig) (TAP, func() error, error) {
	tap, remove, err := CreateTAP(host, c)
	if err != nil {
		return TAP{}, nil, err
	}
	var done undo
	done.add(remove)
	if err = Condemn(tap.FD); err == nil {
		err = host.Do(func() error { return disableIPv6(c.Name) })
	}
	if err == nil {
		err = raiseTAP(host, tap.Index)
	}
	if err != nil {
		return TAP{}, nil, done.fail(fmt.Errorf("set up TAP %s: %w", c.Name, err))
	}
	return tap, done.run, nil
}

// disableIPv6 keeps an interface of the calling thread's namespace free of it.
func disableIPv6(name string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) { // the kernel has none
		return nil
	}
	return err
}

func raiseTAP(host *Namespace, index int) error {
	l, err := linkByIndex(host, index)
	if err != nil {
		return err
	}
	h, err := host.netlink()
	if err != nil {
		return err
	}
	p := placement{h: h, link: l}
	if err := p.takeQueue(); err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// DefaultInterface returns the index of the interface of the default route: IPv4's, or without one IPv6's; 0 without either.
func DefaultInterface(ns *Namespace) (int, error) {
	r, err := defaultRoute(ns, netlink.FAMILY_V4, netlink.FAMILY_V6)
	return r.LinkIndex, err
}

// DefaultInterface6 returns the index of the interface of IPv6's default route; 0 without one.
func DefaultInterface6(ns *Namespace) (int, error) {
	r, err := defaultRoute(ns, netlink.FAMILY_V6)
	return r.LinkIndex, err
}

// Detour6 returns how IPv6 leaves by an interface with these addresses where the host's default route leads elsewhere: by the gateway of its
// own default route. It is the zero Detour where the kernel finds the way.
func Detour6(ns *Namespace, index int, addrs []HostAddr) (d bpf.Detour, err error) {
	h, err := ns.netlink()
	if err != nil {
		return d, err
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return d, fmt.Errorf("list the routes of network namespace %s: %w", ns, err)
	}
	if best, ok := bestDefault(routes); !ok || best.LinkIndex == index {
		return d, nil
	}
	own, ok := bestDefault(slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.LinkIndex != index }))
	gateway, isAddr := netip.AddrFromSlice(own.Gw)
	if !ok || !isAddr {
		return d, nil
	}
	d.Gateway = gateway
	for _, a := range addrs {
		if a.Addr().Is6() && a.Bits() < 128 {
			d.OnLink = append(d.OnLink, a.Masked())
		}
	}
	return d, nil
}

// DefaultBy tells in which families the host has a default route by the interface.
func DefaultBy(ns *Namespace, index int) (ip4, ip6 bool, err error) {
	h, err := ns.netlink()
	if err != nil {
		return false, false, err
	}
	for family, has := range map[int]*bool{netlink.FAMILY_V4: &ip4, netlink.FAMILY_V6: &ip6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			return false, false, fmt.Errorf("list the routes of network namespace %s: %w", ns, err)
		}
		for _, r := range routes {
			by := r.LinkIndex == index || slices.ContainsFunc(r.MultiPath, func(n *netlink.NexthopInfo) bool { return n.LinkIndex == index })
			if _, ok := bestDefault([]netlink.Route{r}); ok && by {
				*has = true
			}
		}
	}
	return ip4, ip6, nil
}

// defaultRoute returns the host's best default route of the first family that has one, with the first of its next hops as its LinkIndex. That is 0
// without one.
func defaultRoute(ns *Namespace, families ...int) (netlink.Route, error) {
	h, err := ns.netlink()
	if err != nil {
		return netlink.Route{}, err
	}
	for _, family := range families {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			return netlink.Route{}, fmt.Errorf("list the routes of network namespace %s: %w", ns, err)
		}
		if r, ok := bestDefault(routes); ok {
			if len(r.MultiPath) > 0 {
				r.LinkIndex = r.MultiPath[0].LinkIndex
			}
			return r, nil
		}
	}
	return netlink.Route{}, nil
}
