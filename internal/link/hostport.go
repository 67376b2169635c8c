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

// HostPortMTU is the MTU of host ports in bytes, a TAP's largest: each route says what its network bears.
const HostPortMTU = 65517

// HostPortConfig says what the interface is to be by which the host and the switch's router reach each other.
type HostPortConfig struct {
	Name       string
	MAC        net.HardwareAddr // by which FindHostPort knows it again
	TxQueueLen int              // frames; 0: DefaultTxQueueLen
}

// hostPortSysctls are of the interface alone. It has no neighbor to look for, and none to be told anything by.
var hostPortSysctls = []struct{ path, value string }{
	// Its one peer has checked the sources of what it sends. The host may have a port of its own in a network too, and answer by that
	// one: the strict check of RFC 3704, which may be on for all interfaces, would drop the question.
	{"ipv4/conf/%s/rp_filter", "2"},
	{"ipv4/conf/%s/forwarding", "0"}, // only what is to the host itself comes by it
	{"ipv4/conf/%s/accept_redirects", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv6/conf/%s/addr_gen_mode", "1"}, // no link-local address
	{"ipv6/conf/%s/accept_dad", "0"},
	{"ipv6/conf/%s/accept_ra", "0"},
	{"ipv6/conf/%s/accept_redirects", "0"},
	{"ipv6/conf/%s/autoconf", "0"},
	{"ipv6/conf/%s/router_solicitations", "0"},
	{"ipv6/conf/%s/forwarding", "0"},
	{"ipv6/conf/%s/disable_ipv6", "0"}, // last: a host that forbids IPv6 on new interfaces has it on this one
}

// CreateHostPort makes a host port: a TAP in the host's namespace that knows neither ARP nor multicast, so that nothing is sent by
// it which no program of the host sends. It is left down; SetUpHostPort does the rest. undo deletes it and closes its fd.
func CreateHostPort(private, host *Namespace, c HostPortConfig) (TAP, func() error, error) {
	tap, remove, err := CreateTAP(private, TAPConfig{Name: DeviceName(c.Name), MAC: c.MAC, MTU: HostPortMTU, TxQueueLen: c.TxQueueLen})
	if err != nil {
		return TAP{}, nil, err
	}
	p := &placement{from: private, to: host, c: PlaceConfig{IfName: c.Name}}
	for _, step := range []func() error{
		func() (err error) { p.link, err = linkByIndex(private, tap.Index); return err },
		p.start,
		func() error { return isolate(private, p.link) },
		p.move,
		p.rename,
		p.takeQueue,
	} {
		if err := step(); err != nil {
			return TAP{}, nil, errors.Join(err, remove())
		}
	}
	tap.Index, tap.Name = p.link.Attrs().Index, c.Name
	return tap, remove, nil
}

// FindHostPort returns the name of the host port with this MAC that is in the host's namespace, whatever it is called by now.
// An api.Error not_found says that there is none.
func FindHostPort(host *Namespace, mac net.HardwareAddr) (string, error) {
	h, err := host.netlink()
	if err != nil {
		return "", err
	}
	all, err := h.LinkList()
	if err != nil {
		return "", fmt.Errorf("list the interfaces of network namespace %s: %w", host, err)
	}
	for _, l := range all {
		if l.Type() == "tuntap" && l.Attrs().HardwareAddr.String() == mac.String() {
			return l.Attrs().Name, nil
		}
	}
	return "", api.Errorf(api.CodeNotFound, "no host port in network namespace %s", host)
}

// RenameHostPort gives the host port of that index another name. Where it must go down for that, before Linux 6.2, it loses routes and
// addresses of IPv6, as when its owner sets it down.
func RenameHostPort(host *Namespace, index int, name string) error {
	l, err := linkByIndex(host, index)
	if err != nil {
		return err
	}
	p := &placement{to: host, link: l, c: PlaceConfig{IfName: name}}
	if p.h, err = host.netlink(); err != nil {
		return err
	}
	err = p.rename()
	if l.Attrs().RawFlags&unix.IFF_UP == 0 || !api.HasCode(err, api.CodeRefused) {
		return err
	}
	if err := p.h.LinkSetDown(l); err != nil {
		return fmt.Errorf("set %s down to rename it: %w", l.Attrs().Name, err)
	}
	err = p.rename()
	if e := p.h.LinkSetUp(l); e != nil {
		err = errors.Join(err, fmt.Errorf("set %s up again: %w", l.Attrs().Name, e))
	}
	return err
}

// SetUpHostPort gives the host port of that index its settings and addresses, and brings it up. What is as wanted stays as it is.
func SetUpHostPort(host *Namespace, index int, addrs []netip.Prefix) error {
	l, err := linkByIndex(host, index)
	if err != nil {
		return err
	}
	h, err := host.netlink()
	if err != nil {
		return err
	}
	name, up := l.Attrs().Name, l.Attrs().RawFlags&unix.IFF_UP != 0
	if !up {
		if err := host.Do(func() error { return setSysctls(hostPortSysctls, name) }); err != nil {
			return err
		}
	}
	for _, a := range addrs {
		if err := addLinkAddr(h, l, a); err != nil {
			return api.Errorf(api.CodeRefused, "interface %s: the kernel refuses address %s: %v", name, a, err)
		}
	}
	if up {
		return nil
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set interface %s up: %w", name, err)
	}
	return nil
}

// isolate takes ARP and multicast from an interface, before it comes where groups would be joined by it. Without ARP, all its
// destinations have its own MAC.
func isolate(ns *Namespace, l netlink.Link) error {
	h, err := ns.netlink()
	if err != nil {
		return err
	}
	return errors.Join(h.LinkSetARPOff(l), h.LinkSetMulticastOff(l))
}

// addLinkAddr adds an address that the kernel chooses for nothing that leaves by another interface: of link scope in IPv4, deprecated
// in IPv6, which has no such scope for it. A kernel without IPv6 is no error.
func addLinkAddr(h *netlink.Handle, l netlink.Link, prefix netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(prefix), Scope: int(netlink.SCOPE_LINK)}
	if prefix.Addr().Is6() {
		a.Scope = 0
		a.Flags = unix.IFA_F_NODAD
		a.ValidLft, a.PreferedLft = forever, 0
	}
	err := h.AddrAdd(l, a)
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EOPNOTSUPP) && prefix.Addr().Is6():
		return nil
	}
	return err
}

// forever is the lifetime of an address that has no end (INFINITY_LIFE_TIME in linux/addrconf.h).
const forever = 1<<32 - 1
