package vswitch

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

// SetPort changes a port at work; the change is on disk before the answer. After an error the port is what it was.
func (s *Switch) SetPort(_ context.Context, name string, r api.PortChange) (api.Port, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	e, err := s.working(name)
	if err != nil {
		return api.Port{}, err
	}
	next, given, err := s.altered(e, &r)
	if err != nil {
		return api.Port{}, err
	}
	was := e.port
	list, err := s.post(s.viewFrom(e.net, next), e.net, next)
	if err == nil && reflect.DeepEqual(&was, next) {
		return s.describe(e), nil
	}
	if err == nil {
		err = s.changePublished(e, e.net, next, list)
	}
	if err != nil {
		e.net.giveBack(given)
		return api.Port{}, err
	}
	s.repost(name, list)
	gone := was
	gone.IPs = slices.DeleteFunc(slices.Clone(was.IPs), func(p netip.Prefix) bool { return slices.Contains(next.IPs, p) })
	e.net.release(&gone)
	return s.describe(e), nil
}

// working returns the port of that name, if it has a device.
func (s *Switch) working(name string) (*endpoint, error) {
	s.mu.RLock()
	e := s.ports[name]
	s.mu.RUnlock()
	switch {
	case e == nil:
		return nil, noPort(name)
	case e.dev == nil:
		return nil, api.Errorf(api.CodeRefused, "port %s is not at work (%s): delete it and add it again", name, e.err)
	}
	return e, nil
}

// altered returns the port that the change asks for, and the addresses that it got on top; after an error they are given back.
func (st *state) altered(e *endpoint, r *api.PortChange) (*api.Port, []netip.Prefix, error) {
	next := e.port
	if err := refuseFixed(&next, r); err != nil {
		return nil, nil, err
	}
	if err := checkStorm(r.Storm); err != nil {
		return nil, nil, err
	}
	set(&next.MTU, r.MTU)
	set(&next.IfName, r.IfName)
	set(&next.Isolated, r.Isolated)
	set(&next.MACLimit, r.MACLimit)
	set(&next.SourceGuard, r.SourceGuard)
	next.Storm = meters(next.Storm, r.Storm)
	usual := portOf(&api.Network{}, &api.PortRequest{Name: next.Name, Type: next.Type})
	set(&next.DefaultRoute, r.DefaultRoute)
	set(&next.Metric, r.Metric)
	next.IfName, next.DefaultRoute = cmp.Or(next.IfName, usual.IfName), cmp.Or(next.DefaultRoute, usual.DefaultRoute)
	if next.MTU == 0 {
		next.MTU = e.net.portMTU()
	}
	next.Labels = mergeLabels(next.Labels, r.Labels)
	if err := setVLANs(&next, r); err != nil {
		return nil, nil, err
	}
	if err := setLists(&next, r); err != nil {
		return nil, nil, err
	}
	if err := setPublish(&next, r); err != nil {
		return nil, nil, err
	}
	if err := checkPortRequest(e.net, requestOf(&next)); err != nil {
		return nil, nil, err
	}
	if err := checkIfName(next.IfName, &e.port); err != nil {
		return nil, nil, err
	}
	given, err := e.net.reserve(next.Name, next.IPs, r.AddIPs)
	if err != nil {
		return nil, nil, err
	}
	next.IPs = append(slices.Clip(next.IPs), given...)
	if r.MAC != nil {
		var mac [6]byte
		if mac, err = ipam.ChooseMAC(*r.MAC, next.IPs, rand.Reader); err == nil {
			next.MAC = macString(mac)
			err = st.checkMAC(e.net, &next)
		}
	}
	if err != nil {
		e.net.giveBack(given)
	}
	return &next, given, err
}

// set changes what is to be changed.
func set[T any](v *T, to *T) {
	if to != nil {
		*v = *to
	}
}

// refuseFixed refuses to change what a port has for life.
func refuseFixed(p *api.Port, r *api.PortChange) error {
	switch {
	case r.Name != nil && *r.Name != p.Name:
		return api.Errorf(api.CodeRefused, "port %s can't be renamed: delete it and add it as %.70q, or give it that alias", p.Name, *r.Name)
	case r.Network != nil && *r.Network != p.Network:
		return api.Errorf(api.CodeRefused, "set-port does not move port %s to another network: 'vsctl disconnect %s', then 'vsctl connect %s NETWORK'",
			p.Name, p.Name, p.Name)
	case r.Type != nil && *r.Type != p.Type:
		return api.Errorf(api.CodeRefused, "port %s is a %s for life: delete it and add it with --type %.20s", p.Name, p.Type, *r.Type)
	case r.Netns != nil && (p.Netns == nil || *r.Netns != p.Netns.Spec):
		return api.Errorf(api.CodeRefused, "set-port does not move port %s: 'ip link set %s netns NAME' in its namespace does, and the port follows; or delete it and add it again",
			p.Name, p.IfName)
	}
	return nil
}

// setVLANs makes it an access port, a trunk, or another trunk.
func setVLANs(p *api.Port, r *api.PortChange) error {
	if r.VLAN != nil && (len(r.Trunk) > 0 || r.Native != nil || r.NoNative) {
		return invalid("an access VLAN and a trunk exclude each other: a port is one or the other")
	}
	if r.Native != nil && r.NoNative {
		return invalid("a native VLAN and none are both asked for")
	}
	if r.VLAN != nil {
		p.VLAN, p.Trunk, p.Native = *r.VLAN, nil, nil
	}
	if len(r.Trunk) > 0 {
		p.VLAN, p.Trunk = 0, r.Trunk
	}
	if r.Native != nil {
		p.Native = r.Native
	}
	if r.NoNative {
		p.Native = nil
	}
	return nil
}

// setLists removes and adds addresses, routes and aliases; addresses are only removed.
func setLists(p *api.Port, r *api.PortChange) error {
	p.IPs, p.Routes, p.Aliases = slices.Clone(p.IPs), slices.Clone(p.Routes), slices.Clone(p.Aliases)
	for _, a := range r.RemoveIPs {
		i := slices.IndexFunc(p.IPs, func(x netip.Prefix) bool { return x.Addr() == a })
		if i < 0 {
			return api.Errorf(api.CodeNotFound, "port %s has no address %v", p.Name, a)
		}
		p.IPs = slices.Delete(p.IPs, i, i+1)
	}
	for _, prefix := range r.RemoveRoutes {
		i := slices.IndexFunc(p.Routes, func(x api.Route) bool { return x.Prefix == prefix })
		if i < 0 {
			return api.Errorf(api.CodeNotFound, "port %s has no route to %v", p.Name, prefix)
		}
		p.Routes = slices.Delete(p.Routes, i, i+1)
	}
	for _, rt := range r.AddRoutes {
		p.Routes = slices.DeleteFunc(p.Routes, func(x api.Route) bool { return x.Prefix == rt.Prefix })
		p.Routes = append(p.Routes, rt)
	}
	for _, a := range r.RemoveAliases {
		i := slices.Index(p.Aliases, a)
		if i < 0 {
			return api.Errorf(api.CodeNotFound, "port %s has no alias %.70q", p.Name, a)
		}
		p.Aliases = slices.Delete(p.Aliases, i, i+1)
	}
	for _, a := range r.AddAliases {
		if !slices.Contains(p.Aliases, a) {
			p.Aliases = append(p.Aliases, a)
		}
	}
	if len(p.IPs) == 0 {
		p.IPs = nil
	}
	if len(p.Routes) == 0 {
		p.Routes = nil
	}
	if len(p.Aliases) == 0 {
		p.Aliases = nil
	}
	return nil
}

// mergeLabels returns the labels with the changes made: nil removes one.
func mergeLabels(labels map[string]string, changes map[string]*string) map[string]string {
	merged := maps.Clone(labels)
	for k, v := range changes {
		if v == nil {
			delete(merged, k)
			continue
		}
		if merged == nil {
			merged = make(map[string]string)
		}
		merged[k] = *v
	}
	if len(merged) == 0 {
		return nil
	}
	return merged
}

// requestOf asks for the port as it is, so that it is checked as a new one is. Where it is was checked when it came there.
func requestOf(p *api.Port) *api.PortRequest {
	return &api.PortRequest{
		Name: p.Name, Network: p.Network, Type: p.Type, Stage: p.Type != api.PortHost, IfName: p.IfName, MTU: p.MTU, VLAN: p.VLAN, Trunk: p.Trunk,
		Native: p.Native, Isolated: p.Isolated, MACLimit: p.MACLimit, Storm: p.Storm, NoConfig: p.NoConfig, DefaultRoute: p.DefaultRoute,
		Metric: p.Metric, Routes: p.Routes, Aliases: p.Aliases, Publish: p.Publish, Labels: p.Labels,
	}
}
