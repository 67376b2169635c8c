package vswitch

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"vswitch/internal/acl"
	"vswitch/internal/api"
	"vswitch/internal/ipam"
	"vswitch/internal/link"
)

// Config returns the whole configuration as a user would have asked for it: without what has its default. Addresses are named, so
// that ports have the same ones again.
func (s *Switch) Config(context.Context) (api.Config, error) {
	s.mu.RLock()
	var nets []*api.Network
	for _, n := range s.networks {
		c := n.Network
		nets = append(nets, &c)
	}
	routers := routerConfigs(s.routes)
	rules := make(map[string][]string)
	for owner := range s.rules {
		rules[owner] = s.ruleTexts(owner)
	}
	s.mu.RUnlock()
	ports := s.endpoints()
	out := api.Config{Networks: make(map[string]api.NetworkConfig, len(nets)), Routers: routers, Uplinks: uplinkConfigs(s.uplinkIntents())}
	for _, n := range nets {
		c := api.NetworkConfig{NetworkRequest: s.networkRequest(n), Rules: rules[acl.Owner(api.KindNetwork, n.Name)]}
		for i := range ports {
			if p := &ports[i].port; p.Network == n.Name {
				if c.Ports == nil {
					c.Ports = make(map[string]api.PortConfig)
				}
				c.Ports[p.Name] = api.PortConfig{PortRequest: portRequest(n, p), StaticFDB: p.StaticFDB, Rules: rules[acl.Owner(api.KindPort, p.Name)]}
			}
		}
		out.Networks[n.Name] = c
	}
	return out, nil
}

// routerConfigs sorts the routes to their routers.
func routerConfigs(routes map[api.RouteKey]api.StaticRoute) (out map[string]api.RouterConfig) {
	for _, k := range slices.SortedFunc(maps.Keys(routes), api.RouteKey.Compare) {
		if out == nil {
			out = make(map[string]api.RouterConfig)
		}
		c := out[k.Router]
		c.Routes = append(c.Routes, routes[k].RouteConfig)
		out[k.Router] = c
	}
	return out
}

// networkRequest returns what one would ask for to get the network again.
func (s *Switch) networkRequest(n *api.Network) api.NetworkRequest {
	r := api.NetworkRequest{NoSubnet: len(n.Subnets) == 0}
	for _, sub := range n.Subnets {
		r.Subnets = append(r.Subnets, sub.Prefix)
	}
	usual := s.networkOf(&r)
	copySame(&r, n, usual)
	plain, err := ipam.Subnets(&api.NetworkRequest{Subnets: r.Subnets, NoSubnet: r.NoSubnet, NoGateway: n.NoGateway}, nil, nil, nil)
	for i, sub := range n.Subnets {
		if err == nil && sub.Gateway != plain[i].Gateway {
			r.Gateways = append(r.Gateways, sub.Gateway)
		}
		if sub.Range.IsValid() {
			r.Ranges = append(r.Ranges, sub.Range)
		}
	}
	if n.NoICC {
		r.ICC = new(bool)
	}
	r.Name = ""
	return r
}

// portRequest returns what one would ask for to get the port again.
func portRequest(n *api.Network, p *api.Port) api.PortRequest {
	r := api.PortRequest{NoIP: len(p.IPs) == 0 && len(n.Subnets) > 0}
	usual := portOf(n, &api.PortRequest{Name: p.Name, Type: p.Type})
	if usual.Type = api.PortTAP; p.Stage {
		usual.IfName = link.DeviceName(p.ID)
	} else if p.Type == api.PortHost {
		usual.IfName = hostIfName(p)
	}
	copySame(&r, p, usual)
	for _, ip := range p.IPs {
		r.IPs = append(r.IPs, ip.Addr())
	}
	if p.MAC == macOf(p.IPs) {
		r.MAC = ""
	}
	if ref := p.Netns; ref != nil {
		r.Netns = ref.Spec
		if pid, err := strconv.Atoi(ref.Spec); err == nil && strings.HasPrefix(ref.Path, "/proc/") {
			r.Netns, r.PID = "", pid
		}
	}
	r.Name, r.Network, r.IfName = "", "", asText(r.IfName)
	return r
}

// asText returns the name of an interface as JSON and YAML can have it.
func asText(ifName string) string { return strings.ToValidUTF8(ifName, "\ufffd") }

// macOf returns the MAC address that a port with these addresses gets by default, or "" when that is a random one.
func macOf(ips []netip.Prefix) string {
	for _, ip := range ips {
		if ip.Addr().Is4() {
			return macString(ipam.MACFromIPv4(ip.Addr()))
		}
	}
	return ""
}

// copySame sets the fields of a request that the object has too, by the same name and type, but for those that are as usual.
func copySame(request, object, usual any) {
	to, from, but := reflect.ValueOf(request).Elem(), reflect.ValueOf(object).Elem(), reflect.ValueOf(usual).Elem()
	for i := range to.NumField() {
		name := to.Type().Field(i).Name
		f := from.FieldByName(name)
		if f.IsValid() && f.Type() == to.Field(i).Type() && !reflect.DeepEqual(f.Interface(), but.FieldByName(name).Interface()) {
			to.Field(i).Set(f)
		}
	}
}
