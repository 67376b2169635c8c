package link

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
	"vswitch/internal/prefix"
)

// Reconfigure makes of an interface that was placed in ns, and is as from says, what to says. Only what differs between the
// two is touched: what the interface's owner changed of the rest stays his. It goes in an order in which nothing that stays is
// away for a moment, but for what the kernel itself takes along: with an IPv4 address goes the next of its subnet, and every
// route that needs it.
//
//  1. name; MTU, MAC
//  2. new addresses
//  3. old routes, old addresses
//  4. addresses and routes as wanted
//
// Reconfigure does all or nothing: after an error it has gone back. What is as wanted already is no error, so that a
// Reconfigure that was cut off can be repeated, or undone by one with from and to exchanged.
func Reconfigure(ns *Namespace, index int, from, to PlaceConfig) error {
	err := reconfigure(ns, index, from, to)
	if err == nil {
		return nil
	}
	if undone := reconfigure(ns, index, to, from); undone != nil {
		return errors.Join(err, undone)
	}
	return err
}

func reconfigure(ns *Namespace, index int, from, to PlaceConfig) error {
	l, err := linkByIndex(ns, index)
	if err != nil {
		return err
	}
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	if from.IfName == to.IfName {
		to.IfName = l.Attrs().Name
	}
	p := &placement{from: ns, to: ns, c: to, h: h, link: l}
	if err := p.rename(); err != nil {
		return err
	}
	if from.MTU != to.MTU || from.MAC.String() != to.MAC.String() {
		if err := setAddressing(h, l, to.MAC, to.MTU); err != nil {
			return err
		}
	}
	return p.readdress(&from)
}

// readdress is steps 2 to 4 of Reconfigure.
func (p *placement) readdress(from *PlaceConfig) error {
	if p.c.NoConfig || slices.Equal(from.Addrs, p.c.Addrs) && slices.Equal(from.allRoutes(), p.c.allRoutes()) && from.Metric == p.c.Metric {
		return nil
	}
	up := p.link.Attrs().RawFlags&unix.IFF_UP != 0
	if !up && len(p.newRoutes(from)) > 0 {
		return api.Errorf(api.CodeRefused, "interface %s in namespace %s is down and can't be given a route: set it up first", p.link.Attrs().Name, p.to)
	}
	steps := []func() error{p.addresses, func() error { return p.dropRoutes(from) }, func() error { return p.dropAddresses(from) }, p.addresses}
	if up { // else the kernel has none of its routes
		steps = append(steps, p.routes)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// allRoutes lists the default routes and the others.
func (c *PlaceConfig) allRoutes() []api.Route {
	var all []api.Route
	for _, gw := range c.Gateways {
		all = append(all, api.Route{Prefix: prefix.Default(gw), Via: gw})
	}
	return append(all, c.Routes...)
}

func (p *placement) newRoutes(from *PlaceConfig) []api.Route {
	return slices.DeleteFunc(p.c.allRoutes(), func(r api.Route) bool { return slices.Contains(from.allRoutes(), r) })
}

func (p *placement) dropRoutes(from *PlaceConfig) error {
	for _, r := range from.allRoutes() {
		if from.Metric == p.c.Metric && slices.Contains(p.c.allRoutes(), r) {
			continue
		}
		err := p.h.RouteDel(&netlink.Route{
			LinkIndex: p.link.Attrs().Index, Dst: ipNet(r.Prefix.Masked()), Gw: r.Via.AsSlice(), Priority: from.Metric,
		})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("interface %s in namespace %s: remove route %s via %s: %w", p.c.IfName, p.to, r.Prefix, r.Via, err)
		}
	}
	return nil
}

func (p *placement) dropAddresses(from *PlaceConfig) error {
	for _, prefix := range from.Addrs {
		if slices.Contains(p.c.Addrs, prefix) {
			continue
		}
		err := p.h.AddrDel(p.link, &netlink.Addr{IPNet: ipNet(prefix)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("interface %s in namespace %s: remove address %s: %w", p.c.IfName, p.to, prefix, err)
		}
	}
	return nil
}
