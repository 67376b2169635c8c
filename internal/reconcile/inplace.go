package reconcile

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"vswitch/internal/api"
	"vswitch/internal/ipam"
)

// inPlace makes the operations that change networks and ports at work, in an order in which each is allowed:
//
//  1. ports let go of addresses, and of gateways that change
//  2. networks grow: subnets come, a larger MTU
//  3. ports become what is wanted
//  4. networks shrink
//
// New networks and ports come after 2 and 4.
type inPlace struct {
	letGo, grow, become, shrink []api.Operation
}

func (x *inPlace) network(have, want *api.Network, keys []string) {
	grow, shrink := &api.NetworkChange{Name: &want.Name}, &api.NetworkChange{Name: &want.Name}
	setKeys(grow, want, keys)
	grow.Labels = labelChange(have.Labels, want.Labels)
	if have.NoICC != want.NoICC {
		icc := !want.NoICC
		grow.ICC = &icc
	}
	if want.MTU < have.MTU {
		grow.MTU, shrink.MTU = nil, &want.MTU
	}
	old := make(map[netip.Prefix]api.Subnet)
	for _, s := range have.Subnets {
		old[s.Prefix] = s
	}
	for _, s := range want.Subnets {
		was, kept := old[s.Prefix]
		if !kept {
			grow.AddSubnets = append(grow.AddSubnets, s.Prefix)
		}
		if s.Gateway.IsValid() && s.Gateway != was.Gateway {
			grow.Gateways = append(grow.Gateways, s.Gateway)
		}
		if s.Range.IsValid() && s.Range != was.Range {
			grow.Ranges = append(grow.Ranges, s.Range)
		} else if was.Range.IsValid() && !s.Range.IsValid() {
			grow.Ranges = append(grow.Ranges, s.Prefix)
		}
		delete(old, s.Prefix)
	}
	for _, s := range have.Subnets {
		if _, goes := old[s.Prefix]; goes {
			shrink.RemoveSubnets = append(shrink.RemoveSubnets, s.Prefix)
		}
	}
	x.add(&x.grow, api.OpSetNetwork, grow)
	x.add(&x.shrink, api.OpSetNetwork, shrink)
}

func (x *inPlace) port(have, want *api.Port, keys []string) {
	letGo, become := &api.PortChange{Name: &want.Name}, &api.PortChange{Name: &want.Name}
	setKeys(become, want, keys)
	become.Labels = labelChange(have.Labels, want.Labels)
	for _, ip := range have.IPs {
		if !slices.Contains(want.IPs, ip) {
			letGo.RemoveIPs = append(letGo.RemoveIPs, ip.Addr())
		}
	}
	for _, ip := range want.IPs {
		if !slices.Contains(have.IPs, ip) {
			become.AddIPs = append(become.AddIPs, ip.Addr())
		}
	}
	become.AddRoutes = missingFrom(have.Routes, want.Routes)
	for _, r := range missingFrom(want.Routes, have.Routes) {
		if !slices.ContainsFunc(want.Routes, func(w api.Route) bool { return w.Prefix == r.Prefix }) {
			become.RemoveRoutes = append(become.RemoveRoutes, r.Prefix)
		}
	}
	become.AddAliases, become.RemoveAliases = missingFrom(have.Aliases, want.Aliases), missingFrom(want.Aliases, have.Aliases)
	letGo.RemovePublish = api.OtherPublish(have.Publish, want.Publish)
	become.AddPublish = api.OtherPublish(want.Publish, have.Publish)
	become.Storm = stormChange(have.Storm, want.Storm)
	become.VLAN, become.Trunk, become.Native = nil, nil, nil
	switch {
	case !slices.ContainsFunc(keys, func(k string) bool { return k == "vlan" || k == "trunk" || k == "native" }):
	case len(want.Trunk) == 0:
		become.VLAN = &want.VLAN
	default:
		become.Trunk, become.Native, become.NoNative = want.Trunk, want.Native, want.Native == nil
	}
	x.add(&x.letGo, api.OpSetPort, letGo)
	x.add(&x.become, api.OpSetPort, become)
}

// gateway lets a port that stays go of its gateway, and take the new one, if its network gets another.
func (x *inPlace) gateway(have, want *api.Port, was, is *api.Network) {
	if slices.Equal(ipam.Gateways(was, have), ipam.Gateways(is, have)) {
		return
	}
	no, again := "no", want.DefaultRoute
	x.add(&x.letGo, api.OpSetPort, &api.PortChange{Name: &want.Name, DefaultRoute: &no})
	x.add(&x.become, api.OpSetPort, &api.PortChange{Name: &want.Name, DefaultRoute: &again})
}

// add adds a change, unless it changes nothing but says a name.
func (x *inPlace) add(to *[]api.Operation, op string, change any) {
	v := reflect.ValueOf(change).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Name != "Name" && !v.Field(i).IsZero() {
			*to = append(*to, api.Operation{Op: op, Request: change})
			return
		}
	}
}

// setKeys asks in a change for what an object has, as far as the keys name it and both have it in the same form.
func setKeys(change, object any, keys []string) {
	to, from := reflect.ValueOf(change).Elem(), reflect.ValueOf(object).Elem()
	for i := range to.NumField() {
		f := to.Type().Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		value := from.FieldByName(f.Name)
		if slices.Contains(keys, key) && value.IsValid() && f.Type == reflect.PointerTo(value.Type()) {
			p := reflect.New(value.Type())
			p.Elem().Set(value)
			to.Field(i).Set(p)
		}
	}
}

func labelChange(have, want map[string]string) map[string]*string {
	m := make(map[string]*string)
	for k := range have {
		if _, ok := want[k]; !ok {
			m[k] = nil
		}
	}
	for k, v := range want {
		if had, ok := have[k]; !ok || had != v {
			m[k] = &v
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

func stormChange(have, want map[string]int) map[string]int {
	m := make(map[string]int)
	for kind, rate := range want {
		if have[kind] != rate {
			m[kind] = rate
		}
	}
	for kind := range have {
		if want[kind] == 0 {
			m[kind] = 0
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// missingFrom returns what of want is not in have, in its order.
func missingFrom[T comparable](have, want []T) (list []T) {
	has := make(map[T]bool, len(have)) // there may be thousands
	for _, h := range have {
		has[h] = true
	}
	for _, w := range want {
		if !has[w] {
			list = append(list, w)
		}
	}
	return list
}

// changesInPlace makes the operations of all changes in place.
func changesInPlace(changes []Change, have, want Config) (x inPlace) {
	hadNets, nets, had, ports := byName(have.Networks, networkName), byName(want.Networks, networkName), byName(have.Ports, portName), byName(want.Ports, portName)
	anew := make(map[string]bool)
	for _, c := range changes {
		anew[c.Name] = anew[c.Name] || c.Kind == api.KindPort && c.Action == api.ActionReplace
	}
	for _, c := range changes {
		switch {
		case c.Action != api.ActionChange:
		case c.Kind == api.KindPort:
			x.port(had[c.Name], ports[c.Name], c.Keys)
		case c.Kind == api.KindNetwork:
			was, is := hadNets[c.Name], nets[c.Name]
			for i := range want.Ports {
				if p := &want.Ports[i]; p.Network == c.Name && had[p.Name] != nil && !anew[p.Name] {
					x.gateway(had[p.Name], p, was, is)
				}
			}
			x.network(was, is, c.Keys)
		}
	}
	return x
}

func networkName(n *api.Network) string { return n.Name }
func portName(p *api.Port) string       { return p.Name }
