package link

import (
	"errors"
	"net/netip"
)

// HostPrefixes returns the prefixes of the host's addresses and routes, of which no pool may take a part.
func HostPrefixes() ([]netip.Prefix, error) { return nil, errors.ErrUnsupported }

// HostMTU returns the MTU of the host's default route in bytes, or 0 without one.
func HostMTU() (int, error) { return 0, errors.ErrUnsupported }
