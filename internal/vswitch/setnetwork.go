package vswitch

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/nat"
)

// SetNetwork changes a network at work; the change is on disk before the answer, and its ports heed it from then on.
func (s *Switch) SetNetwork(_ context.Context, name string, r api.NetworkChange) (api.Network, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	n, err := s.network(name)
	if err != nil {
		return api.Network{}, err
	}
	next, err := s.reconceive(&s.state, n, &r)
	if err != nil {
		return api.Network{}, err
	}
	pools, err := n.pools.Change(next.Subnets)
	if err != nil {
		return api.Network{}, err
	}
	if reflect.DeepEqual(*next, n.Network) {
		return s.describeNetwork(n), nil
	}
	published, err := s.republished(n, &network{Network: *next})
	if err != nil {
		return api.Network{}, err
	}
	var come []*nat.Publication
	for name, list := range published {
		_, more := changesOf(s.published[name], list)
		come = append(come, more...)
	}
	undo, err := s.listen(come)
	if err != nil {
		return api.Network{}, err
	}
	if err = s.fail.at("set-network.checked"); err == nil {
		err = s.store.PutNetwork(*next)
	}
	if err != nil {
		undo()
		return api.Network{}, err
	}
	s.passing("set-network.recorded")
	was := n.Network
	s.mu.Lock()
	n.Network, n.pools = *next, pools
	s.mu.Unlock()
	s.heed(n, &was)
	for name, list := range published {
		s.repost(name, list)
	}
	s.reachHost()
	return s.describeNetwork(n), nil
}

// heed makes the bridge do what is new of the network, and tells of it.
func (s *Switch) heed(n *network, was *api.Network) {
	n.line.Bridge.FDB().SetLimits(limitsOf(&n.Network))
	s.wire(n)
	s.forgetRouters()
	s.events.Publish("network.changed", n.Name, changesText(was, &n.Network))
}

// reconceive returns the network that the change asks for, if the ports that st has on it can live with it.
func (s *Switch) reconceive(st *state, n *network, r *api.NetworkChange) (*api.Network, error) {
	next := n.Network
	switch {
	case r.Name != nil && *r.Name != n.Name:
		return nil, api.Errorf(api.CodeRefused, "network %s can't be renamed: add network %.70q and move the ports there with 'vsctl disconnect' and 'vsctl connect'", n.Name, *r.Name)
	case r.Driver != nil && *r.Driver != n.Driver:
		return nil, api.Errorf(api.CodeRefused, "network %s is a %s for life: delete it and add it with --driver %.20s", n.Name, n.Driver, *r.Driver)
	}
	set(&next.MTU, r.MTU)
	set(&next.Internal, r.Internal)
	set(&next.NoGateway, r.NoGateway)
	set(&next.Router, r.Router)
	set(&next.Masquerade, r.Masquerade)
	set(&next.RA, r.RA)
	set(&next.RADNS, r.RADNS)
	set(&next.Age, r.Age)
	set(&next.MACLimit, r.MACLimit)
	if r.ICC != nil {
		next.NoICC = !*r.ICC
	}
	next.Router, next.Masquerade = cmp.Or(next.Router, "main"), cmp.Or(next.Masquerade, "auto")
	next.Age, next.MACLimit = cmp.Or(next.Age, int(l2switch.DefaultAge/time.Second)), cmp.Or(next.MACLimit, l2switch.DefaultMACs)
	next.Labels = mergeLabels(next.Labels, r.Labels)
	others, host, err := s.takenPrefixes(st, &next)
	if err != nil {
		return nil, err
	}
	next.Subnets, err = ipam.Change(n.Subnets, r, next.NoGateway, others, host, rand.Reader)
	if err != nil {
		return nil, err
	}
	if next.MTU == 0 {
		next.MTU = s.hostMTU(slices.ContainsFunc(next.Subnets, func(s api.Subnet) bool { return isIPv6(s.Prefix) }))
	}
	request := api.NetworkRequest{
		Name: next.Name, Driver: next.Driver, MTU: next.MTU, Router: next.Router, Masquerade: next.Masquerade, Age: next.Age,
		MACLimit: next.MACLimit, Labels: next.Labels, NoGateway: next.NoGateway, RA: next.RA, RADNS: next.RADNS,
	}
	for _, sub := range next.Subnets {
		request.Subnets = append(request.Subnets, sub.Prefix)
	}
	if err := checkNetworkRequest(&request); err != nil {
		return nil, err
	}
	return &next, st.checkPorts(n, &next)
}

// checkPorts refuses changes that a port of the network leans against. Each can be told to let go.
func (st *state) checkPorts(n *network, next *api.Network) error {
	ipv6 := slices.ContainsFunc(next.Subnets, func(s api.Subnet) bool { return isIPv6(s.Prefix) })
	for _, name := range slices.Sorted(maps.Keys(st.ports)) {
		e := st.ports[name]
		if e.net != n {
			continue
		}
		p := &e.port
		for _, ip := range p.IPs {
			if !slices.ContainsFunc(next.Subnets, func(s api.Subnet) bool { return s.Prefix.Contains(ip.Addr()) }) {
				return inUse(p.Name, "port %s has address %v of the subnet: 'vsctl set-port %s --ip %v-' first, or delete it", p.Name, ip, p.Name, ip.Addr())
			}
		}
		switch was, will := ipam.Gateways(&n.Network, p), ipam.Gateways(next, p); {
		case p.MTU > next.MTU:
			return inUse(p.Name, "port %s has an MTU of %d, more than %d: 'vsctl set-port %s --mtu %d' first", p.Name, p.MTU, next.MTU, p.Name, next.MTU)
		case ipv6 && p.MTU < minMTUIPv6:
			return inUse(p.Name, "port %s has an MTU of %d, and IPv6 needs %d (RFC 8200): 'vsctl set-port %s --mtu %d' first", p.Name, p.MTU, minMTUIPv6, p.Name, minMTUIPv6)
		case !slices.Equal(was, will):
			return inUse(p.Name, "the default route of port %s leads to the gateway: 'vsctl set-port %s --default-route=no' first, and --default-route=auto afterwards", p.Name, p.Name)
		}
	}
	return nil
}

// inUse says that a port stands in the way.
func inUse(port, format string, args ...any) error {
	err := api.Errorf(api.CodeConflict, format, args...)
	err.Object = port
	return err
}

// changesText tells for people what two states of an object differ in.
func changesText(was, is any) string {
	old, now := fields(was), fields(is)
	keys := maps.Clone(old)
	maps.Copy(keys, now)
	var list []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if a, b := string(old[k]), string(now[k]); a != b {
			list = append(list, fmt.Sprintf("%s %s -> %s", k, besides(a, b), besides(b, a)))
		}
	}
	return strings.Join(list, ", ")
}

// besides is how a value is shown whose other state is given: false and what else is empty are left out of the API's objects.
func besides(value, other string) string {
	if other == "true" {
		other = "false"
	} else {
		other = "none"
	}
	return cmp.Or(value, other)
}

func fields(object any) map[string]json.RawMessage {
	b, _ := json.Marshal(object) // plain types of the API
	m := make(map[string]json.RawMessage)
	_ = json.Unmarshal(b, &m)
	return m
}
