package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// minMTU6 is the smallest MTU over which IPv6 runs (RFC 8200 5).
const minMTU6 = 1280

// PlaceConfig says how an interface is to be found in its namespace.
type PlaceConfig struct {
	IfName   string           // its name there
	MAC      net.HardwareAddr // nil: as it is
	MTU      int              // bytes; 0: as it is
	Host     bool             // it is the host's own, in a network of strangers; the rest of the host is left alone
	NoConfig bool             // leave it down and without what follows
	Addrs    []netip.Prefix   // each with the length of its subnet
	Gateways []netip.Addr     // of the default routes, at most one a family
	Routes   []api.Route
	Metric   int // of all these routes; 0: the kernel's default
}

// Place moves an interface into a namespace and makes it what c says. It may be there already. It goes in an order in which
// nothing is seen half made:
//
//  1. is the name free?
//  2. move
//  3. rename; no queue in front of a TAP's own; MAC, MTU
//  4. the host's own: what it doesn't listen to
//  5. addresses
//  6. up, and a container's lo with it
//  7. routes
//
// Place does all or nothing: after an error the interface is again where it was, but lo may be up. What is as wanted
// already stays as it is, so an interrupted Place can be repeated. undo moves back; it needs both handles open.
func Place(from *Namespace, index int, to *Namespace, c PlaceConfig) (State, func() error, error) {
	l, err := linkByIndex(from, index)
	if err != nil {
		return State{}, nil, err
	}
	return place(from, l, to, c)
}

// place is Place for an interface that was just looked up.
func place(from *Namespace, l netlink.Link, to *Namespace, c PlaceConfig) (State, func() error, error) {
	p := &placement{from: from, to: to, c: c, link: l}
	for _, step := range []func() error{
		p.start,
		p.move,
		p.rename,
		p.takeQueue,
		func() error { return setAddressing(p.h, p.link, c.MAC, c.MTU) },
		p.distrust,
		p.addresses,
		p.up,
		p.routes,
	} {
		if err := step(); err != nil {
			return State{}, nil, p.done.fail(err)
		}
	}
	return stateOf(p.link), p.done.run, nil
}

// loopback is lo, which has this index in every namespace (LOOPBACK_IFINDEX in net/loopback.h). To set up what is up does
// nothing.
var loopback = &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}

// placement is a Place under way.
type placement struct {
	from, to *Namespace
	c        PlaceConfig
	done     undo
	h        *netlink.Handle // in to, from move on
	link     netlink.Link    // as it was when last looked up, and what was done to it since
}

// start looks whether all is possible, before anything is touched.
func (p *placement) start() error {
	for _, a := range p.c.Addrs {
		if p.c.MTU != 0 && p.c.MTU < minMTU6 && a.Addr().Is6() && !p.c.NoConfig {
			return api.Errorf(api.CodeInvalid, "an MTU of %d is too small for IPv6 address %s; it needs %d", p.c.MTU, a, minMTU6)
		}
	}
	if p.here() {
		return nil // nothing is touched before its renaming, which says so
	}
	_, err := Lookup(p.to, p.c.IfName)
	if api.HasCode(err, api.CodeNotFound) {
		return nil
	}
	if err == nil {
		err = TakenError(p.c.IfName, p.to)
	}
	return err
}

// here says that there is no need to move.
func (p *placement) here() bool { return p.from.id == p.to.id }

// TakenError says that the namespace has an interface of that name.
func TakenError(ifname string, ns *Namespace) error {
	return api.Errorf(api.CodeConflict, "interface %s already exists in namespace %s; choose another with --ifname", ifname, ns)
}

func (p *placement) move() (err error) {
	if p.h, err = p.to.netlink(); err != nil || p.here() {
		return err
	}
	h, err := p.from.netlink()
	if err != nil {
		return err
	}
	name := p.link.Attrs().Name
	if err := h.LinkSetNsFd(p.link, p.to.fd); err != nil {
		return fmt.Errorf("move interface %s to network namespace %s: %w", name, p.to, err)
	}
	p.done.add(func() error {
		if err := p.h.LinkSetNsFd(p.link, p.from.fd); err != nil {
			return fmt.Errorf("move interface %s back from network namespace %s: %w", name, p.to, err)
		}
		return nil
	})
	l, err := p.h.LinkByName(name) // its index may have changed
	if err != nil {
		return lookupError(p.to, name, err)
	}
	p.link = l
	return nil
}

func (p *placement) rename() error {
	a := p.link.Attrs()
	old := a.Name
	if old == p.c.IfName {
		return nil
	}
	err := p.h.LinkSetName(p.link, p.c.IfName)
	switch {
	case errors.Is(err, unix.EEXIST):
		return TakenError(p.c.IfName, p.to)
	case errors.Is(err, unix.EBUSY): // before Linux 6.2
		return api.Errorf(api.CodeRefused, "interface %s: this kernel does not rename what is up; set it down, rename it, set it up", old)
	case err != nil:
		return api.Errorf(api.CodeRefused, "interface %s: the kernel refuses to rename it to %s: %v", old, p.c.IfName, err)
	}
	p.done.add(func() error { return p.h.LinkSetName(p.link, old) })
	a.Name = p.c.IfName
	return nil
}

// takeQueue takes the queue in front of a TAP's own away. It never holds a frame, since the TAP takes all or drops them, but
// pfifo_fast has room for three times as many: 192 KiB at DefaultTxQueueLen.
func (p *placement) takeQueue() error {
	if p.link.Type() != "tuntap" || p.link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	err := p.h.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: p.link.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // a kernel without packet schedulers has none to take away
		return fmt.Errorf("take the queue of interface %s away: %w", p.c.IfName, err)
	}
	return nil
}

// hostSysctls are of an interface of the host in a network of containers: none of them makes itself its router. What comes by it
// may be answered by the host port, and the other way round, which the strict check of RFC 3704 would drop.
var hostSysctls = []struct{ path, value string }{
	{"ipv4/conf/%s/rp_filter", "2"},
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/accept_redirects", "0"},
}

// distrust writes the settings of an interface of the host.
func (p *placement) distrust() error {
	if !p.c.Host {
		return nil
	}
	return p.to.Do(func() error { return setSysctls(hostSysctls, p.c.IfName) })
}

// addresses adds the addresses while the interface is down, so that it comes up with all of them.
func (p *placement) addresses() error {
	if p.c.NoConfig {
		return nil
	}
	for _, prefix := range p.c.Addrs {
		a := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once: IPAM knows that nobody else has it
		}
		err := p.h.AddrAdd(p.link, a)
		if errors.Is(err, unix.EACCES) && prefix.Addr().Is6() {
			if err = p.enableIPv6(); err == nil {
				err = p.h.AddrAdd(p.link, a)
			}
		}
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return api.Errorf(api.CodeRefused, "interface %s in namespace %s: the kernel refuses address %s: %v", p.c.IfName, p.to, prefix, err)
		}
		p.done.add(func() error {
			err := p.h.AddrDel(p.link, a)
			if errors.Is(err, unix.EADDRNOTAVAIL) { // IPv6 addresses go when the interface goes down
				return nil
			}
			return err
		})
	}
	return nil
}

// enableIPv6 allows IPv6 on this interface where the namespace forbids it by default, as container runtimes let it.
func (p *placement) enableIPv6() error {
	return p.to.Do(func() error {
		return setSysctl("/proc/sys/net/ipv6/conf/"+p.c.IfName+"/disable_ipv6", "0")
	})
}

func (p *placement) up() error {
	if p.c.NoConfig {
		return nil
	}
	if !p.c.Host {
		if err := p.h.LinkSetUp(loopback); err != nil {
			return fmt.Errorf("set lo up in network namespace %s: %w", p.to, err)
		}
	}
	if p.link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	if err := p.h.LinkSetUp(p.link); err != nil {
		return fmt.Errorf("set interface %s up in network namespace %s: %w", p.c.IfName, p.to, err)
	}
	p.done.add(func() error { return p.h.LinkSetDown(p.link) })
	p.link.Attrs().RawFlags |= unix.IFF_UP
	return nil
}

func (p *placement) routes() error {
	if p.c.NoConfig {
		return nil
	}
	for _, r := range p.c.allRoutes() {
		if err := p.route(r.Prefix, r.Via); err != nil {
			return err
		}
	}
	return nil
}

// route adds one route. Its next hop is taken to be on the link even where no address of the interface says so.
func (p *placement) route(dst netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{
		LinkIndex: p.link.Attrs().Index,
		Dst:       ipNet(dst.Masked()),
		Gw:        via.AsSlice(),
		Priority:  p.c.Metric,
	}
	if !p.onLink(via) {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	err := p.h.RouteAdd(r)
	switch {
	case errors.Is(err, unix.EEXIST):
		return p.sameRoute(r, dst)
	case err != nil:
		return api.Errorf(api.CodeRefused, "interface %s in namespace %s: the kernel refuses route %s via %s: %v",
			p.c.IfName, p.to, dst, via, err)
	}
	p.done.add(func() error { return p.h.RouteDel(r) })
	return nil
}

func (p *placement) onLink(via netip.Addr) bool {
	for _, a := range p.c.Addrs {
		if a.Contains(via) {
			return true
		}
	}
	return via.IsLinkLocalUnicast()
}

// sameRoute finds out whether the route that exists is the one that was to be added.
func (p *placement) sameRoute(want *netlink.Route, dst netip.Prefix) error {
	family := netlink.FAMILY_V4
	if dst.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	have, err := p.h.RouteListFiltered(family, want, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST|netlink.RT_FILTER_GW)
	if err != nil {
		return fmt.Errorf("list the routes of network namespace %s: %w", p.to, err)
	}
	for _, r := range have {
		if p.c.Metric == 0 || r.Priority == p.c.Metric {
			return nil
		}
	}
	what := "route to " + dst.String()
	if dst.Bits() == 0 {
		what = "default route"
	}
	return api.Errorf(api.CodeConflict, "namespace %s already has a %s; choose another --metric, or --default-route=no", p.to, what)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
