package reconcile

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
)

// Config is a configuration with all defaults filled in.
type Config struct {
	Networks []api.Network
	Ports    []api.Port
	Routes   []api.StaticRoute // next hops sorted
	Uplinks  []api.Uplink
	Rules    []Rules
}

// Rules are all rules of a network or port, in their order.
type Rules struct {
	Kind, Name string
	Texts      []string
}

// Change is a step from one configuration to another.
type Change struct {
	api.Change
	Keys  []string        // what differs, as keys of JSON: of a network or port that is changed or replaced
	Row   api.StaticMAC   // of an FDB entry
	Port  string          // behind which that entry is
	Route api.StaticRoute // as it is wanted; of one that goes as it is
	Rules *Rules          // all that are wanted; of one of the changes of their owner
}

// Compare returns the steps from one configuration to another, in a fixed order: first what goes (uplinks, routes, entries, ports,
// networks), then what changes or comes (networks, ports, entries, routes, uplinks, rules), each by name. A network or port is replaced when a key of it differs that it has
// for life, and a port also when its network is replaced or it does not work. Entries of a port that goes or is replaced need no
// step to go. With noDelete nothing goes that the other configuration does not name.
func Compare(have, want Config, noDelete bool) []Change {
	c := comparison{
		haveNets: byName(have.Networks, networkName),
		wantNets: byName(want.Networks, networkName),
		have:     byName(have.Ports, portName),
		want:     byName(want.Ports, portName),
		replaced: make(map[string]bool),
	}
	for name := range c.wantNets {
		c.network(name)
	}
	for name := range c.want {
		c.port(name)
	}
	if !noDelete {
		c.deletions()
	}
	c.entries(noDelete)
	c.routes(have.Routes, want.Routes, noDelete)
	c.uplinks(have.Uplinks, want.Uplinks, noDelete)
	c.rules(have.Rules, want.Rules, noDelete)
	slices.SortStableFunc(c.changes, inOrder)
	return c.changes
}

func byName[T any](list []T, name func(*T) string) map[string]*T {
	m := make(map[string]*T, len(list))
	for i := range list {
		m[name(&list[i])] = &list[i]
	}
	return m
}

// comparison is a Compare under way.
type comparison struct {
	haveNets, wantNets map[string]*api.Network
	have, want         map[string]*api.Port
	replaced           map[string]bool // networks
	changes            []Change
}

func (c *comparison) add(action, kind, name, network, detail string, keys []string) {
	c.changes = append(c.changes, Change{Change: api.Change{Action: action, Kind: kind, Name: name, Network: network, Detail: detail}, Keys: keys})
}

func (c *comparison) network(name string) {
	have, want := c.haveNets[name], c.wantNets[name]
	if have == nil {
		c.add(api.ActionAdd, api.KindNetwork, name, "", text(reflect.ValueOf(want.Subnets)), nil)
		return
	}
	keys, detail := differences(have, want)
	switch {
	case len(keys) == 0:
	case hasForLife(api.NetworkChange{}, keys) || overlap(have, want):
		c.replaced[name] = true
		c.add(api.ActionReplace, api.KindNetwork, name, "", detail, keys)
	default:
		c.add(api.ActionChange, api.KindNetwork, name, "", detail, keys)
	}
}

func (c *comparison) port(name string) {
	have, want := c.have[name], c.want[name]
	if have == nil {
		place := "staged"
		if want.Type == api.PortHost {
			place = "of the host"
		} else if want.Netns != nil {
			place = "in " + want.Netns.Spec
		}
		c.add(api.ActionAdd, api.KindPort, name, want.Network, place, nil)
		return
	}
	keys, detail := differences(have, want)
	if have.Status.State == api.StateError {
		keys, detail = append(keys, "status"), strings.TrimPrefix(detail+", it does not work: "+have.Status.Error, ", ")
	}
	if c.replaced[want.Network] && have.Network == want.Network {
		keys, detail = append(keys, "network"), strings.TrimPrefix(detail+", its network is replaced", ", ")
	}
	switch {
	case len(keys) == 0:
	case hasForLife(api.PortChange{}, keys) || slices.Contains(want.IPs, netip.Prefix{}): // nobody chooses for a port at work
		c.add(api.ActionReplace, api.KindPort, name, want.Network, detail, keys)
	default:
		c.add(api.ActionChange, api.KindPort, name, want.Network, detail, keys)
	}
}

func (c *comparison) deletions() {
	for name := range c.haveNets {
		if c.wantNets[name] == nil {
			c.add(api.ActionDelete, api.KindNetwork, name, "", "", nil)
		}
	}
	for name, p := range c.have {
		if c.want[name] == nil {
			c.add(api.ActionDelete, api.KindPort, name, p.Network, "", nil)
		}
	}
}

// entries compares static FDB entries of the ports that are wanted.
func (c *comparison) entries(noDelete bool) {
	anew := make(map[string]bool)
	for _, x := range c.changes {
		anew[x.Name] = anew[x.Name] || x.Kind == api.KindPort && x.Action == api.ActionReplace
	}
	for name, want := range c.want {
		var had []api.StaticMAC
		if have := c.have[name]; have != nil {
			had = have.StaticFDB
		}
		rows := want.StaticFDB
		for _, row := range had {
			switch {
			case slices.Contains(rows, row):
			case noDelete && anew[name]:
				rows = append(slices.Clone(rows), row)
			case !noDelete && !anew[name]:
				c.entry(api.ActionDelete, want, row)
			}
		}
		for _, row := range rows {
			if !slices.Contains(had, row) {
				c.entry(api.ActionAdd, want, row)
			} else if anew[name] {
				c.entry(api.ActionReplace, want, row)
			}
		}
	}
}

// routes compares static routes. One whose next hops differ changes in place.
func (c *comparison) routes(have, want []api.StaticRoute, noDelete bool) {
	key := func(r *api.StaticRoute) string { return fmt.Sprint(r.Key()) }
	had, wanted := byName(have, key), byName(want, key)
	for k, r := range wanted {
		switch old := had[k]; {
		case old == nil:
			c.route(api.ActionAdd, r, r.String())
		case !slices.Equal(old.NextHops, r.NextHops):
			c.route(api.ActionChange, r, fmt.Sprintf("%v -> %v", old, r))
		}
	}
	for k, r := range had {
		if wanted[k] == nil && !noDelete {
			c.route(api.ActionDelete, r, r.String())
		}
	}
}

func (c *comparison) route(action string, r *api.StaticRoute, detail string) {
	c.changes = append(c.changes, Change{
		Change: api.Change{Action: action, Kind: api.KindRoute, Name: r.Prefix.String(), Detail: detail + ", router " + r.Router}, Route: *r,
	})
}

// uplinks compares uplinks. One that differs is replaced.
func (c *comparison) uplinks(have, want []api.Uplink, noDelete bool) {
	name := func(u *api.Uplink) string { return u.Name }
	had, wanted := byName(have, name), byName(want, name)
	for k, u := range wanted {
		old := had[k]
		if old == nil {
			c.add(api.ActionAdd, api.KindUplink, k, "", "by "+u.Interface, nil)
			continue
		}
		if keys, detail := differences(old, u); len(keys) > 0 {
			c.add(api.ActionReplace, api.KindUplink, k, "", detail, keys)
		}
	}
	for k := range had {
		if wanted[k] == nil && !noDelete {
			c.add(api.ActionDelete, api.KindUplink, k, "", "", nil)
		}
	}
}

func (c *comparison) entry(action string, p *api.Port, row api.StaticMAC) {
	detail := "at " + p.Name
	if row.VLAN != 0 {
		detail = fmt.Sprintf("in VLAN %d at %s", row.VLAN, p.Name)
	}
	c.changes = append(c.changes, Change{
		Change: api.Change{Action: action, Kind: api.KindFDB, Name: row.MAC, Network: p.Network, Detail: detail}, Row: row, Port: p.Name,
	})
}

// inOrder is the fixed order.
func inOrder(a, b Change) int {
	return cmp.Or(rank(a)-rank(b), strings.Compare(a.Network, b.Network), strings.Compare(a.Name, b.Name), int(a.Row.VLAN)-int(b.Row.VLAN),
		a.Route.Key().Compare(b.Route.Key()))
}

func rank(c Change) int {
	kinds := []string{api.KindNetwork, api.KindPort, api.KindFDB, api.KindRoute, api.KindUplink, api.KindRule}
	i := slices.Index(kinds, c.Kind)
	if c.Action == api.ActionDelete {
		return -i
	}
	return len(kinds) + i
}

// overlap tells whether a subnet that comes overlaps one that goes: then the one can't come before the other goes.
func overlap(have, want *api.Network) bool {
	for _, h := range have.Subnets {
		for _, w := range want.Subnets {
			if !w.Prefix.IsValid() || h.Prefix != w.Prefix && h.Prefix.Overlaps(w.Prefix) {
				return true
			}
		}
	}
	return len(have.Subnets) == 0 && slices.Contains(want.Subnets, api.Subnet{})
}
