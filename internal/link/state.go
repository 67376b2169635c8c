package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vswitch/internal/api"
)

// State is what the kernel says of an interface.
type State struct {
	Index   int
	Name    string
	Kind    string // netlink's name of its type: "tuntap", "veth", "device", ...
	MAC     net.HardwareAddr
	MTU     int  // bytes of an L3 packet
	Up      bool // set up by its owner
	Carrier bool // somebody is at the other end
}

func stateOf(l netlink.Link) State {
	a := l.Attrs()
	return State{
		Index:   a.Index,
		Name:    a.Name,
		Kind:    l.Type(),
		MAC:     a.HardwareAddr,
		MTU:     a.MTU,
		Up:      a.RawFlags&unix.IFF_UP != 0,
		Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// Lookup returns the state of the interface of that name. An api.Error not_found says that there is none.
func Lookup(ns *Namespace, name string) (State, error) {
	h, err := ns.netlink()
	if err != nil {
		return State{}, err
	}
	l, err := h.LinkByName(name)
	if err != nil {
		return State{}, lookupError(ns, name, err)
	}
	return stateOf(l), nil
}

// LookupIndex returns the state of the interface of that index. An api.Error not_found says that there is none.
func LookupIndex(ns *Namespace, index int) (State, error) {
	l, err := linkByIndex(ns, index)
	if err != nil {
		return State{}, err
	}
	return stateOf(l), nil
}

func linkByIndex(ns *Namespace, index int) (netlink.Link, error) {
	h, err := ns.netlink()
	if err != nil {
		return nil, err
	}
	l, err := h.LinkByIndex(index)
	if err != nil {
		return nil, lookupError(ns, fmt.Sprintf("number %d", index), err)
	}
	return l, nil
}

func lookupError(ns *Namespace, name string, err error) error {
	return lookupErrorIn(ns.String(), name, err)
}

func lookupErrorIn(ns, name string, err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok || errors.Is(err, unix.ENODEV) {
		return api.Errorf(api.CodeNotFound, "interface %s: not in network namespace %s", name, ns)
	}
	return fmt.Errorf("look up interface %s in network namespace %s: %w", name, ns, err)
}

// Delete removes the interface of that index; for one end of a veth pair, both. That it is gone already is no error. It takes
// some 20 ms, which it waits for the kernel without a lock: deletions beside each other, over sockets of their own, wait at the
// same time.
func Delete(ns *Namespace, index int) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.fd), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in network namespace %s: %w", ns, err)
	}
	defer h.Close()
	err = h.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete interface number %d in network namespace %s: %w", index, ns, err)
	}
	return nil
}

// KernelDrops returns how many frames the device dropped, as its own namespace counts them: a TAP's tx are frames that the
// switch did not read in time, its rx frames that the switch wrote (struct rtnl_link_stats64 in linux/if_link.h).
func KernelDrops(ns *Namespace, index int) (rx, tx uint64, err error) {
	l, err := linkByIndex(ns, index)
	if err != nil {
		return 0, 0, err
	}
	return dropsOf(l)
}

func dropsOf(l netlink.Link) (rx, tx uint64, err error) {
	s := l.Attrs().Statistics
	if s == nil {
		return 0, 0, fmt.Errorf("interface %s has no counters", l.Attrs().Name)
	}
	return s.RxDropped, s.TxDropped, nil
}
