package vswitch

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
)

// present returns the configuration as it is.
func (s *Switch) present() (nets map[string]*api.Network, ports map[string]*api.Port) {
	nets, ports = make(map[string]*api.Network), make(map[string]*api.Port)
	for name, n := range s.networks {
		nets[name] = &n.Network
	}
	for name, e := range s.ports {
		ports[name] = &e.port
	}
	return nets, ports
}

// wantedNetwork fills in what the request leaves to defaults, as have has it where there are several.
func (s *Switch) wantedNetwork(name string, r api.NetworkRequest, have *api.Network) (*api.Network, error) {
	r.Name = name
	if err := checkNetworkRequest(&r); err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	if have == nil {
		n := s.networkOf(&r)
		for _, p := range r.Subnets {
			n.Subnets = append(n.Subnets, api.Subnet{Prefix: p})
		}
		if len(r.Subnets) == 0 && !r.NoSubnet {
			n.Subnets = []api.Subnet{{}}
		}
		return n, nil
	}
	if len(r.Subnets) == 0 && !r.NoSubnet {
		for _, sub := range have.Subnets {
			r.Subnets = append(r.Subnets, sub.Prefix)
		}
	}
	n := s.networkOf(&r)
	if r.NoSubnet || len(r.Subnets) == 0 {
		return n, nil
	}
	for i, p := range r.Subnets {
		if p.IsValid() && !p.Addr().IsUnspecified() {
			continue
		}
		if i >= len(have.Subnets) || p.IsValid() && p.Addr().Is4() != have.Subnets[i].Prefix.Addr().Is4() {
			n.Subnets = []api.Subnet{{}} // one is to be chosen
			return n, nil
		}
		r.Subnets = slices.Clone(r.Subnets)
		r.Subnets[i] = have.Subnets[i].Prefix
	}
	var err error
	if n.Subnets, err = ipam.Subnets(&r, nil, nil, nil); err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	return n, nil
}

// wantedPort fills in what the request leaves to defaults, as have has it where there are several.
func (s *Switch) wantedPort(name string, n *api.Network, c api.PortConfig, have *api.Port) (*api.Port, error) {
	r := c.PortRequest
	r.Name, r.Network = name, n.Name
	if have != nil && r.IfName == asText(have.IfName) {
		r.IfName = have.IfName
	}
	if err := checkPortRequest(&network{Network: *n}, &r); err != nil {
		return nil, fmt.Errorf("port %s: %w", name, err)
	}
	if err := checkIfName(r.IfName, have); err != nil {
		return nil, fmt.Errorf("port %s: %w", name, err)
	}
	p := portOf(n, &r)
	for _, row := range c.StaticFDB {
		mac, err := ipam.ParseMAC(row.MAC)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", name, err)
		}
		p.StaticFDB = append(p.StaticFDB, api.StaticMAC{VLAN: row.VLAN, MAC: macString(mac)})
	}
	if !r.Stage && p.Type != api.PortHost {
		p.Netns = &api.NetnsRef{Spec: placeOf(&r)}
	}
	if have == nil {
		return p, nil
	}
	p.ID = have.ID
	if r.Stage || s.samePlace(&r, have) {
		p.Netns, p.Stage = have.Netns, have.Stage
	}
	if r.Stage && r.IfName == "" {
		p.IfName = have.IfName
	}
	if p.Type == api.PortHost && have.Type == p.Type {
		p.Netns = have.Netns // it may have been moved
		if r.IfName == "" {
			p.IfName = hostIfName(have)
		}
	}
	p.IPs, p.Publish = wantedIPs(n, &r, have), wantedPublish(r.Publish, have.Publish)
	if p.MAC = have.MAC; r.MAC == ipam.MACFromIP {
		p.MAC = macOf(p.IPs)
	} else if r.MAC != "" && r.MAC != ipam.MACRandom {
		mac, err := ipam.ParseMAC(r.MAC)
		if err != nil {
			return nil, fmt.Errorf("port %s: %w", name, err)
		}
		p.MAC = macString(mac)
	}
	return p, nil
}

// placeOf is what the request calls its namespace.
func placeOf(r *api.PortRequest) string {
	if r.PID != 0 {
		return strconv.Itoa(r.PID)
	}
	return r.Netns
}

// samePlace tells whether the request means the namespace that the port is in.
func (s *Switch) samePlace(r *api.PortRequest, have *api.Port) bool {
	if have.Netns == nil {
		return false
	}
	path, err := s.netnsPath(&s.state, r)
	if err != nil {
		return have.Netns.Spec == placeOf(r) // its name is gone, but it may live on
	}
	id, err := link.Identify(path)
	return err == nil && id == link.NamespaceID{Dev: have.Netns.Dev, Inode: have.Netns.Inode}
}

// wantedIPs returns the addresses asked for and, of families of which none is asked for, those that the port has of the network. An
// invalid one stands for what is to be chosen.
func wantedIPs(n *api.Network, r *api.PortRequest, have *api.Port) (ips []netip.Prefix) {
	if r.NoIP {
		return nil
	}
	asked := make(map[bool]bool)
	for _, a := range r.IPs {
		bits := a.BitLen()
		if sub := subnetOf(n, a); sub.IsValid() {
			bits = sub.Bits()
		}
		asked[a.Is4()] = true
		ips = append(ips, netip.PrefixFrom(a, bits))
	}
	for _, ip := range have.IPs {
		if !asked[ip.Addr().Is4()] && subnetOf(n, ip.Addr()).IsValid() {
			ips = append(ips, ip)
		}
	}
	if len(ips) == 0 && len(n.Subnets) > 0 {
		ips = []netip.Prefix{{}}
	}
	return ips
}

// wantedPublish returns what is asked for, automatic ports as the port has them.
func wantedPublish(asked, have []api.Publish) (list []api.Publish) {
	for _, x := range asked {
		if i := slices.IndexFunc(have, func(h api.Publish) bool { return x.HostIP == h.HostIP && x.Asks(&h) }); x.HostPort == 0 && i >= 0 {
			x.HostPort = have[i].HostPort
			have = slices.Delete(slices.Clone(have), i, i+1)
		}
		list = append(list, x)
	}
	return list
}

// subnetOf returns the network's prefix that contains the address, or an invalid one.
func subnetOf(n *api.Network, a netip.Addr) netip.Prefix {
	for _, sub := range n.Subnets {
		if sub.Prefix.Contains(a) {
			return sub.Prefix
		}
	}
	return netip.Prefix{}
}
