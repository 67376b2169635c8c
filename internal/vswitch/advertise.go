package vswitch

import (
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/pipeline"
)

// Limits of a router advertisement: all of it fits a datagram of 1280 bytes.
const (
	maxAdvertised = 32
	maxRADNS      = 8
)

// advertisementOf returns what the network's gateway tells of it, or nil.
func advertisementOf(n *api.Network) *pipeline.Advertisement {
	if !n.RA {
		return nil
	}
	a := &pipeline.Advertisement{MTU: n.MTU, Default: !n.Internal, DNS: slices.Clone(n.RADNS)}
	for _, s := range n.Subnets {
		if isIPv6(s.Prefix) && s.Gateway.IsValid() {
			a.Prefixes = append(a.Prefixes, s.Prefix.Masked())
		}
	}
	return a
}

// checkAdvertisement refuses router advertisements that nobody could send, or that would say nothing that holds.
func checkAdvertisement(r *api.NetworkRequest) error {
	subnets := 0
	for _, p := range r.Subnets {
		if isIPv6(p) {
			subnets++
		}
	}
	switch {
	case !r.RA && len(r.RADNS) > 0:
		return invalid("resolvers for router advertisements, and no router advertisements: give it --ra too, or no --ra-dns")
	case !r.RA:
		return nil
	case subnets == 0 || r.NoGateway:
		return invalid("router advertisements need an IPv6 subnet with a gateway: give it --subnet, or no --ra")
	case subnets > maxAdvertised:
		return invalid("%d IPv6 subnets with router advertisements: use %d at most", subnets, maxAdvertised)
	case len(r.RADNS) > maxRADNS:
		return invalid("%d resolvers in router advertisements: use %d at most", len(r.RADNS), maxRADNS)
	}
	for _, a := range r.RADNS {
		if !a.Is6() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return invalid("resolver %v for router advertisements: use IPv6 addresses that hosts can reach", a)
		}
	}
	return nil
}
