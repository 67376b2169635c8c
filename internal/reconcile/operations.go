package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// opSetRules is an operation that no user can ask for: it makes the rules of a network or port those of a *Rules.
const opSetRules = "set-rules"

// Operations turns what Compare returned of have and want into the operations of a transaction: first all that goes, then all that
// changes or comes. A port that is replaced gets the addresses again that it had.
func Operations(changes []Change, c api.Config, have, want Config) []api.Operation {
	had, wanted := byName(have.Ports, portName), byName(want.Ports, portName)
	at := changesInPlace(changes, have, want)
	var gone, goneNets, nets, ports, entries, routes, uplinks, rules []api.Operation
	add := func(list *[]api.Operation, when bool, op string, request any) {
		if when {
			*list = append(*list, api.Operation{Op: op, Request: request})
		}
	}
	for _, x := range changes {
		goes := x.Action == api.ActionDelete || x.Action == api.ActionReplace
		comes := x.Action == api.ActionAdd || x.Action == api.ActionReplace
		name := &api.DeleteRequest{Name: x.Name}
		switch x.Kind {
		case api.KindNetwork:
			r := c.Networks[x.Name].NetworkRequest
			r.Name = x.Name
			add(&goneNets, goes, api.OpDelNetwork, name)
			add(&nets, comes, api.OpAddNetwork, &r)
		case api.KindPort:
			r := c.Networks[x.Network].Ports[x.Name].PortRequest
			r.Name, r.Network = x.Name, x.Network
			if goes && comes {
				keepAddresses(&r, had[x.Name], wanted[x.Name])
			}
			add(&gone, goes, api.OpDelPort, name)
			add(&ports, comes, api.OpAddPort, &r)
		case api.KindFDB: // one of a port that is replaced goes with it
			r := &api.FDBRequest{Network: x.Network, VLAN: x.Row.VLAN, MAC: x.Row.MAC, Port: x.Port}
			add(&gone, x.Action == api.ActionDelete, api.OpDelFDB, r)
			add(&entries, comes, api.OpAddFDB, r)
		case api.KindRoute:
			r := &api.RouteRequest{Router: x.Route.Router, Prefix: x.Route.Prefix, NextHops: x.Route.NextHops, Metric: x.Route.Metric}
			add(&gone, x.Action != api.ActionAdd, api.OpDelRoute, r)
			add(&routes, x.Action != api.ActionDelete, api.OpAddRoute, r)
		case api.KindUplink:
			r := c.Uplinks[x.Name].UplinkRequest
			r.Name = x.Name
			add(&gone, goes, api.OpDelUplink, name)
			add(&uplinks, comes, api.OpAddUplink, &r)
		case api.KindRule:
			add(&rules, x.Rules != nil, opSetRules, x.Rules)
		}
	}
	return slices.Concat(gone, goneNets, at.letGo, at.grow, nets, at.become, at.shrink, byPlace(ports), entries, routes, uplinks, rules)
}

// keepAddresses asks for the addresses that the port had, as far as they are wanted.
func keepAddresses(r *api.PortRequest, have, want *api.Port) {
	if slices.Equal(have.IPs, want.IPs) && r.MAC == "" && have.Network == want.Network {
		r.MAC = have.MAC
	}
	r.IPs, r.Publish = nil, want.Publish
	for _, ip := range want.IPs {
		if ip.IsValid() {
			r.IPs = append(r.IPs, ip.Addr())
		}
	}
}

// byPlace orders new ports so that one that goes where another is comes after it.
func byPlace(ports []api.Operation) []api.Operation {
	of := make(map[string]string)
	for _, o := range ports {
		r := o.Request.(*api.PortRequest)
		if other, ok := strings.CutPrefix(r.Netns, "container:"); ok {
			of[r.Name] = other
		}
	}
	depth := func(o api.Operation) (n int) {
		for name := o.Object(); n <= len(ports); n++ { // more: a circle, which adding them will complain about
			next, ok := of[name]
			if !ok {
				break
			}
			name = next
		}
		return n
	}
	slices.SortStableFunc(ports, func(a, b api.Operation) int { return cmp.Compare(depth(a), depth(b)) })
	return ports
}
