package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// opSetRules is an operation that no user can ask for: it makes the rules of a network or port those of a *Rules.
const opSetRules = "set-rules"

// Operations turns what Compare returned of have and want into the operations of a transaction: first all that goes, then all that changes or comes. A port that is replaced
// gets the addresses again that it had.
func Operations(changes []Change, c api.Config, have, want Config) []api.Operation {
	had, wanted := byName(have.Ports, portName), byName(want.Ports, portName)
	at := changesInPlace(changes, have, want)
	var gone, goneNets, come, ports, entries, routes, uplinks, rules []api.Operation
	for _, x := range changes {
		goes, comes := x.Action == api.ActionDelete || x.Action == api.ActionReplace, x.Action == api.ActionAdd || x.Action == api.ActionReplace
		switch x.Kind {
		case api.KindNetwork:
			if goes {
				goneNets = append(goneNets, api.Operation{Op: api.OpDelNetwork, Request: &api.DeleteRequest{Name: x.Name}})
			}
			if comes {
				r := c.Networks[x.Name].NetworkRequest
				r.Name = x.Name
				come = append(come, api.Operation{Op: api.OpAddNetwork, Request: &r})
			}
		case api.KindPort:
			if goes {
				gone = append(gone, api.Operation{Op: api.OpDelPort, Request: &api.DeleteRequest{Name: x.Name}})
			}
			if comes {
				r := c.Networks[x.Network].Ports[x.Name].PortRequest
				r.Name, r.Network = x.Name, x.Network
				if goes {
					keepAddresses(&r, had[x.Name], wanted[x.Name])
				}
				ports = append(ports, api.Operation{Op: api.OpAddPort, Request: &r})
			}
		case api.KindFDB:
			r := &api.FDBRequest{Network: x.Network, VLAN: x.Row.VLAN, MAC: x.Row.MAC, Port: x.Port}
			if x.Action == api.ActionDelete {
				gone = append(gone, api.Operation{Op: api.OpDelFDB, Request: r})
			} else {
				entries = append(entries, api.Operation{Op: api.OpAddFDB, Request: r})
			}
		case api.KindRule:
			if x.Rules != nil {
				rules = append(rules, api.Operation{Op: opSetRules, Request: x.Rules})
			}
		case api.KindRoute:
			r := &api.RouteRequest{Router: x.Route.Router, Prefix: x.Route.Prefix, NextHops: x.Route.NextHops, Metric: x.Route.Metric}
			if x.Action != api.ActionAdd {
				gone = append(gone, api.Operation{Op: api.OpDelRoute, Request: r})
			}
			if x.Action != api.ActionDelete {
				routes = append(routes, api.Operation{Op: api.OpAddRoute, Request: r})
			}
		case api.KindUplink:
			if goes {
				gone = append(gone, api.Operation{Op: api.OpDelUplink, Request: &api.DeleteRequest{Name: x.Name}})
			}
			if comes {
				r := c.Uplinks[x.Name].UplinkRequest
				r.Name = x.Name
				uplinks = append(uplinks, api.Operation{Op: api.OpAddUplink, Request: &r})
			}
		}
	}
	return slices.Concat(gone, goneNets, at.letGo, at.grow, come, at.become, at.shrink, byPlace(ports), entries, routes, uplinks, rules)
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
