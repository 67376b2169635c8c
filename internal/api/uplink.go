package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AutoUplink is the interface of an uplink that follows the host's default route.
const AutoUplink = "auto"

// Modes of an uplink.
const (
	UplinkShared    = "shared"    // it uses the host's own addresses, beside the host
	UplinkDedicated = "dedicated" // it has a MAC and addresses of its own on the interface's segment
)

// Uplink is a way from a router to the outside by an interface of the host: what the user asked for, with defaults filled in.
type Uplink struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Interface string    `json:"interface"` // a name, or auto
	Mode      string    `json:"mode"`
	Router    string    `json:"router"`
	Metric    uint32    `json:"metric"`    // of its default routes
	NATPorts  PortRange `json:"nat_ports"` // which ports masqueraded connections get

	IPs      []netip.Prefix `json:"ips,omitempty"`      // of a dedicated one: its addresses, with the lengths of their subnets
	Gateways []netip.Addr   `json:"gateways,omitempty"` // of a dedicated one: the next hops of its default routes, one of each family at most

	Status UplinkStatus `json:"status,omitzero"`
}

// States of an uplink.
const (
	UplinkUp   = "up"
	UplinkDown = "down" // no interface, no carrier, or not shared: Problem says it
)

// UplinkStatus is what there is of an uplink.
type UplinkStatus struct {
	State     string         `json:"state"`
	Interface string         `json:"interface,omitempty"` // its name now
	Addresses []netip.Prefix `json:"addresses,omitempty"` // the host's, or those of a dedicated one
	MAC       string         `json:"mac,omitempty"`       // of a dedicated one
	MTU       int            `json:"mtu,omitempty"`
	Attached  string         `json:"attached,omitempty"` // how the host's frames are told from the switch's: tcx, clsact; packet: by their MAC
	Device    string         `json:"device,omitempty"`   // the switch's, in the host's namespace
	Problem   string         `json:"problem,omitempty"`
}

// UplinkRequest asks for an uplink. Zero values ask for the defaults.
type UplinkRequest struct {
	Name      string    `json:"name,omitempty"` // by default the interface's
	Interface string    `json:"interface,omitempty"`
	Mode      string    `json:"mode,omitempty"`
	Router    string    `json:"router,omitempty"`
	Metric    uint32    `json:"metric,omitempty"` // by default 100
	NATPorts  PortRange `json:"nat_ports,omitzero"`
	MayExist  bool      `json:"may_exist,omitempty"`

	IPs      []netip.Prefix `json:"ips,omitempty"`      // of a dedicated one
	Gateways []netip.Addr   `json:"gateways,omitempty"` // likewise; each in the subnet of an address, or link-local
}

// PortRange is a range of ports, written as "61000-65535" or, where it is one, "8080". The zero range is none.
type PortRange struct{ First, Last uint16 }

// String writes the range.
func (r PortRange) String() string {
	switch {
	case r == PortRange{}:
		return ""
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParsePortRange reads what String writes.
func ParsePortRange(s string) (r PortRange, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return r, Errorf(CodeInvalid, "ports %.40q: use a port from 1 to 65535, or a range such as 61000-65535", s)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PortRange) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*r = PortRange{}
		return nil
	}
	*r, err = ParsePortRange(string(b))
	return err
}
