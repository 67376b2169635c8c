package vswitch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
)

// aspect is something that a request with --may-exist asks of an object that exists.
type aspect struct {
	name       string
	same       bool // or not asked for
	asked, has any
}

// one is the aspect of a value whose zero value asks for nothing.
func one[T comparable](name string, asked, has T) aspect {
	var zero T
	return aspect{name, asked == zero || asked == has, asked, has}
}

// each is the aspect of a list of which all must be there.
func each[T any](name string, asked, has []T, same func(a, h T) bool) aspect {
	all := true
	for _, a := range asked {
		all = all && slices.ContainsFunc(has, func(h T) bool { return same(a, h) })
	}
	return aspect{name, all, asked, has}
}

func equal[T comparable](a, b T) bool { return a == b }

// firstDifference is the error that an object is not what was asked for; verb would change it.
func firstDifference(kind, name, verb string, aspects []aspect) error {
	for _, a := range aspects {
		if a.same {
			continue
		}
		err := api.Errorf(api.CodeConflict, "%s %s exists, but its %s is %v and not %v: change it with 'vsctl %s', or do not ask for that",
			kind, name, a.name, cmp.Or(fmt.Sprint(a.has), "none"), a.asked, verb)
		err.Object = name
		return err
	}
	return nil
}

func labelAspect(asked, has map[string]string) aspect {
	same := true
	for k, v := range asked {
		got, ok := has[k]
		same = same && ok && got == v
	}
	return aspect{"set of labels", same, asked, has}
}

func stormAspect(asked, has map[string]int) aspect {
	same := true
	for kind, rate := range asked {
		same = same && has[kind] == rate
	}
	return aspect{"set of storm meters", same, asked, has}
}

// addressAspect is about the addresses of a port.
func addressAspect(asked []netip.Addr, none bool, p *api.Port) aspect {
	if none {
		return aspect{"address", len(p.IPs) == 0, "none", p.IPs}
	}
	var has []netip.Addr
	for _, ip := range p.IPs {
		has = append(has, ip.Addr())
	}
	return each("address", asked, has, equal)
}

// sameNetwork tells whether the network is what the request asks for, as far as it does.
func sameNetwork(n *api.Network, r *api.NetworkRequest) error {
	var prefixes, ranges []netip.Prefix
	var gateways []netip.Addr
	for _, s := range n.Subnets {
		prefixes, gateways, ranges = append(prefixes, s.Prefix), append(gateways, s.Gateway), append(ranges, s.Range)
	}
	subnets := each("subnet", r.Subnets, prefixes, func(a, h netip.Prefix) bool {
		fromDefaults := !a.IsValid() || a.Addr().IsUnspecified()
		return fromDefaults || a == h
	})
	if r.NoSubnet {
		subnets = aspect{"subnet", len(prefixes) == 0, "none", prefixes}
	} else if len(r.Subnets) > 0 && len(r.Subnets) != len(prefixes) {
		subnets.same = false
	}
	aspects := []aspect{
		one("driver", r.Driver, n.Driver), subnets,
		each("gateway", r.Gateways, gateways, equal), each("IP range", r.Ranges, ranges, equal),
		one("lack of a gateway", r.NoGateway, n.NoGateway), one("MTU", r.MTU, n.MTU), one("internal", r.Internal, n.Internal),
		one("router", r.Router, n.Router), one("masquerade", r.Masquerade, n.Masquerade), one("age", r.Age, n.Age),
		one("router advertisements", r.RA, n.RA), each("ra-dns", r.RADNS, n.RADNS, equal), one("MAC limit", r.MACLimit, n.MACLimit), labelAspect(r.Labels, n.Labels),
	}
	if r.ICC != nil {
		aspects = append(aspects, aspect{"icc", *r.ICC == !n.NoICC, *r.ICC, !n.NoICC})
	}
	return firstDifference("network", n.Name, "set-network", aspects)
}

// samePort tells whether the port is what the request asks for, as far as it does.
func (s *Switch) samePort(st *state, p *api.Port, r *api.PortRequest) error {
	mac := aspect{name: "MAC", same: true}
	if m, err := ipam.ParseMAC(r.MAC); err == nil { // else any is asked for, or nonsense
		mac = one("MAC", macString(m), p.MAC)
	}
	aspects := []aspect{
		one("network", r.Network, cmp.Or(p.Network, "none")), s.placeAspect(st, p, r), one("type", r.Type, p.Type),
		one("staging", r.Stage, p.Stage), one("interface", r.IfName, p.IfName), mac, addressAspect(r.IPs, r.NoIP, p),
		one("MTU", r.MTU, p.MTU), one("VLAN", r.VLAN, p.VLAN),
		{"trunk", len(r.Trunk) == 0 || slices.Equal(r.Trunk, p.Trunk), r.Trunk, p.Trunk},
		one("isolated", r.Isolated, p.Isolated), one("MAC limit", r.MACLimit, p.MACLimit), one("no-config", r.NoConfig, p.NoConfig),
		one("source guard", r.SourceGuard, p.SourceGuard), stormAspect(r.Storm, p.Storm),
		one("default route", r.DefaultRoute, p.DefaultRoute), one("metric", r.Metric, p.Metric),
		each("route", r.Routes, p.Routes, equal), each("alias", r.Aliases, p.Aliases, equal),
		each("published port", r.Publish, p.Publish, func(a, h api.Publish) bool { return a.Asks(&h) }), labelAspect(r.Labels, p.Labels),
	}
	if r.Native != nil {
		aspects = append(aspects, aspect{"native VLAN", p.Native != nil && *r.Native == *p.Native, *r.Native, p.Native != nil})
	}
	return firstDifference("port", p.Name, "set-port", aspects)
}

// placeAspect is about the namespace, which may be called by another name.
func (s *Switch) placeAspect(st *state, p *api.Port, r *api.PortRequest) aspect {
	if r.Netns == "" && r.PID == 0 {
		return aspect{same: true}
	}
	asked := cmp.Or(r.Netns, fmt.Sprint(r.PID))
	if p.Netns == nil {
		return aspect{"namespace", false, asked, "not known yet"}
	}
	path, err := s.netnsPath(st, r)
	var id link.NamespaceID
	if err == nil {
		id, err = link.Identify(path)
	}
	return aspect{"namespace", err == nil && id == link.NamespaceID{Dev: p.Netns.Dev, Inode: p.Netns.Inode}, asked, p.Netns.Spec}
}
