package vswitch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/reconcile"
)

// Apply makes the configuration be what c says, as one transaction: what it does not name is deleted, unless NoDelete is set.
func (s *Switch) Apply(ctx context.Context, c api.Config, o api.ApplyOptions) (api.Applied, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	out := api.Applied{DryRun: o.DryRun, Changes: []api.Change{}}
	haveNets, havePorts := s.present()
	have, want, err := s.sides(c, haveNets, havePorts)
	if err != nil {
		return out, err
	}
	changes := reconcile.Compare(have, want, o.NoDelete)
	if err := s.checkStrays(changes, want); err != nil {
		return out, err
	}
	operations := reconcile.Operations(changes, c, have, want)
	if len(operations) > 0 {
		if _, err := s.transact(ctx, api.Transaction{Operations: operations, DryRun: o.DryRun}); err != nil {
			return out, err
		}
	}
	for _, x := range changes {
		if x.Kind != api.KindFDB && x.Kind != api.KindRule || x.Action != api.ActionReplace { // what comes again with its port
			out.Changes = append(out.Changes, x.Change)
		}
	}
	return out, nil
}

// sides returns the configuration that is and the one that c asks for, both with all defaults filled in.
func (s *Switch) sides(c api.Config, nets map[string]*api.Network, ports map[string]*api.Port) (have, want reconcile.Config, err error) {
	for _, n := range nets {
		have.Networks = append(have.Networks, *n)
	}
	for _, p := range ports {
		if p.Network == "" && !named(c, p.Name) {
			continue // on no network: no file says so, or asks for its end
		}
		has := *p
		if e := s.ports[p.Name]; e.dev == nil {
			has.Status = api.PortStatus{State: api.StateError, Error: e.err}
		}
		have.Ports = append(have.Ports, has)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		nc := c.Networks[name]
		n, err := s.wantedNetwork(name, nc.NetworkRequest, nets[name])
		if err != nil {
			return have, want, err
		}
		want.Networks = append(want.Networks, *n)
		for _, port := range slices.Sorted(maps.Keys(nc.Ports)) {
			p, err := s.wantedPort(port, n, nc.Ports[port], ports[port])
			if err != nil {
				return have, want, err
			}
			want.Ports = append(want.Ports, *p)
		}
	}
	have.Routes = slices.Collect(maps.Values(s.routes))
	have.Uplinks = slices.Collect(maps.Values(s.uplinks))
	if want.Uplinks, err = wantedUplinks(c); err != nil {
		return have, want, err
	}
	if want.Routes, err = wantedRoutes(c); err != nil {
		return have, want, err
	}
	for _, owner := range slices.Sorted(maps.Keys(s.rules)) {
		kind, name, _ := strings.Cut(owner, ":")
		r := reconcile.Rules{Kind: kind, Name: name}
		for _, x := range s.rules[owner] {
			r.Texts = append(r.Texts, x.Text())
		}
		have.Rules = append(have.Rules, r)
	}
	want.Rules, err = s.wantedRules(c)
	return have, want, err
}

// wantedRules returns the rules of a configuration, by their networks and ports.
func (s *Switch) wantedRules(c api.Config) (list []reconcile.Rules, err error) {
	names := &wantedNames{have: &s.state, want: c}
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		n := c.Networks[name]
		if list, err = names.rules(list, api.KindNetwork, name, n.Rules); err != nil {
			return nil, err
		}
		for _, port := range slices.Sorted(maps.Keys(n.Ports)) {
			if list, err = names.rules(list, api.KindPort, port, n.Ports[port].Rules); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// wantedNames are those that there will be, or that there are.
type wantedNames struct {
	have *state
	want api.Config
}

func (n *wantedNames) has(kind, name string) bool {
	if kind == api.KindPort && named(n.want, name) {
		return true
	}
	_, ok := n.want.Networks[name]
	return kind == api.KindNetwork && ok || n.have.has(kind, name)
}

// rules adds those of one network or port to the list.
func (n *wantedNames) rules(list []reconcile.Rules, kind, name string, texts []string) ([]reconcile.Rules, error) {
	r := reconcile.Rules{Kind: kind, Name: name}
	seen := make(map[string]bool, len(texts))
	for _, text := range texts {
		rule, err := acl.Parse(acl.Owner(kind, name) + " " + text)
		if err == nil {
			rule, err = acl.Resolve(rule, n.has)
		}
		if err == nil && seen[rule.Text()] {
			err = invalid("rule '%.200s' is there twice", text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, name, err)
		}
		seen[rule.Text()] = true
		r.Texts = append(r.Texts, rule.Text())
	}
	if len(texts) > 0 {
		list = append(list, r)
	}
	return list, nil
}

// wantedRoutes returns the static routes of a configuration.
func wantedRoutes(c api.Config) (list []api.StaticRoute, err error) {
	seen := make(map[api.RouteKey]bool)
	for _, name := range slices.Sorted(maps.Keys(c.Routers)) {
		for _, conf := range c.Routers[name].Routes {
			r, err := routeOf(&api.RouteRequest{Router: name, Prefix: conf.Prefix, NextHops: conf.NextHops, Metric: conf.Metric})
			if err == nil && seen[r.Key()] {
				err = invalid("there are two routes to %v of metric %d", r.Prefix, r.Metric)
			}
			if err != nil {
				return nil, fmt.Errorf("router %s: %w", name, err)
			}
			seen[r.Key()] = true
			list = append(list, r)
		}
	}
	return list, nil
}

// named tells whether the configuration has a port of that name.
func named(c api.Config, port string) bool {
	for _, n := range c.Networks {
		if _, ok := n.Ports[port]; ok {
			return true
		}
	}
	return false
}

// checkStrays refuses to replace a network that has ports which nobody names or wants deleted.
func (s *Switch) checkStrays(changes []reconcile.Change, want reconcile.Config) error {
	handled := make(map[string]bool)
	for _, p := range want.Ports {
		handled[p.Name] = true
	}
	replaced := make(map[string]string)
	for _, x := range changes {
		switch {
		case x.Kind == api.KindPort:
			handled[x.Name] = true
		case x.Kind == api.KindNetwork && x.Action == api.ActionReplace:
			replaced[x.Name] = x.Detail
		}
	}
	for _, e := range s.endpoints() {
		if detail, ok := replaced[e.port.Network]; ok && !handled[e.port.Name] {
			err := api.Errorf(api.CodeConflict, "network %s has to be deleted and added again (%s), but port %s on it is not in the configuration; name the port, or delete it",
				e.port.Network, detail, e.port.Name)
			err.Object = e.port.Name
			return err
		}
	}
	return nil
}
