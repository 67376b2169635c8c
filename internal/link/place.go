package link

import (
	"errors"
	"net"
	"net/netip"

	"vswitch/internal/api"
)

// PlaceConfig says how an interface is to be found in its namespace.
type PlaceConfig struct {
	IfName   string
	MAC      net.HardwareAddr // nil: as it is
	MTU      int              // bytes; 0: as it is
	NoConfig bool             // only move and rename; the rest below is not looked at
	Addrs    []netip.Prefix   // address and length of its subnet
	Gateways []netip.Addr     // of the default routes, at most one for each family
	Routes   []api.Route
	Metric   int // of all these routes; 0: the kernel's default
}

// Place moves an interface from its namespace into another (or the same), renames, addresses and sets it up. It fails whole:
// after an error the interface is where it was. undo moves it back.
func Place(from *Namespace, index int, to *Namespace, c PlaceConfig) (s State, undo func() error, err error) {
	return State{}, nil, errors.ErrUnsupported
}
