package vswitch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vswitch/internal/api"
	"vswitch/router"
)

// Limits of static routes.
const (
	maxStaticRoutes = 10000 // of all routers
	maxNextHops     = 16    // of a route
)

// AddRoute gives a router a static route.
func (s *Switch) AddRoute(ctx context.Context, r api.RouteRequest) (api.RouteEntry, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	x, err := carryOne(ctx, s, (*draft).addRoute, &r)
	if err != nil {
		return api.RouteEntry{}, err
	}
	return s.describeRoute(x.route), nil
}

// DeleteRoute takes a static route away.
func (s *Switch) DeleteRoute(ctx context.Context, r api.RouteRequest) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	_, err := carryOne(ctx, s, (*draft).deleteRoute, &r)
	return err
}

func (d *draft) addRoute(r *api.RouteRequest) (outcome, error) {
	want, err := routeOf(r)
	if err != nil {
		return outcome{}, err
	}
	if have, ok := d.routes[want.Key()]; ok {
		switch {
		case !r.MayExist:
			return outcome{}, api.Errorf(api.CodeConflict, "router %s has a route to %v of metric %d already, via %s; delete it first, or give another --metric",
				have.Router, have.Prefix, have.Metric, hopsText(have.NextHops))
		case !slices.Equal(have.NextHops, want.NextHops):
			return outcome{}, api.Errorf(api.CodeConflict, "the route to %v of router %s goes via %s, not via %s; delete it first",
				have.Prefix, have.Router, hopsText(have.NextHops), hopsText(want.NextHops))
		}
		return outcome{unchanged: true, route: &have}, nil
	}
	if len(d.routes) >= maxStaticRoutes {
		return outcome{}, api.Errorf(api.CodeExhausted, "there are %d static routes, which is the limit; delete some first", maxStaticRoutes)
	}
	d.routes[want.Key()] = want
	return outcome{route: &want}, nil
}

func (d *draft) deleteRoute(r *api.RouteRequest) (outcome, error) {
	name := cmp.Or(r.Router, api.MainRouter)
	var found []api.RouteKey
	for k := range d.routes {
		if k.Router == name && k.Prefix == r.Prefix && (r.Metric == 0 || k.Metric == r.Metric) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return outcome{unchanged: true}, unless(r.IfExists, d.noRoute(name, r.Prefix))
	case 1:
		delete(d.routes, found[0])
		return outcome{}, nil
	}
	return outcome{}, invalid("router %s has %d routes to %v: say by --metric which one", name, len(found), r.Prefix)
}

func (d *draft) noRoute(router string, p netip.Prefix) error {
	hint := "'vsctl list-routes' names those there are"
	for k := range d.routes {
		if k.Router == router && p.Bits() == 0 && k.Prefix.Bits() == 0 { // of the other family
			hint = fmt.Sprintf("there is one to %v", k.Prefix)
		}
	}
	return api.Errorf(api.CodeNotFound, "router %.70s has no such static route to %v; %s", router, p, hint)
}

// routeOf checks a request for a route, and fills in its defaults.
func routeOf(r *api.RouteRequest) (api.StaticRoute, error) {
	out := api.StaticRoute{Router: cmp.Or(r.Router, api.MainRouter), RouteConfig: api.RouteConfig{
		Prefix: r.Prefix, NextHops: api.SortedHops(r.NextHops), Metric: max(r.Metric, 1)}}
	if err := api.CheckName("router", out.Router); err != nil {
		return out, err
	}
	switch p := r.Prefix; {
	case !p.IsValid():
		return out, invalid("the route has no prefix: use ADDRESS/LENGTH, 0.0.0.0/0 or ::/0 for all")
	case p.Masked() != p:
		return out, invalid("prefix %v has bits behind its length: use %v", p, p.Masked())
	case p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() || p.Addr().Is4In6():
		return out, invalid("prefix %v is not routed: use one of global or private addresses", p)
	case r.Metric > math.MaxInt32:
		return out, invalid("metric %d: use 1 to %d", r.Metric, math.MaxInt32)
	case len(out.NextHops) == 0 || len(out.NextHops) > maxNextHops:
		return out, invalid("the route to %v has %d next hops: use 1 to %d", p, len(out.NextHops), maxNextHops)
	}
	for i, a := range out.NextHops {
		switch {
		case a.Is4() != r.Prefix.Addr().Is4() || a.Zone() != "":
			return out, invalid("next hop %v is not of the family of %v", a, r.Prefix)
		case !a.IsGlobalUnicast():
			return out, invalid("next hop %v: use the address of a station in a subnet of the router", a)
		case i > 0 && a == out.NextHops[i-1]:
			return out, invalid("next hop %v is named twice", a)
		}
	}
	return out, nil
}

// newRoutes returns the routes of the draft that are not so at work.
func (c *carry) newRoutes() []api.StaticRoute { return otherRoutes(c.d.routes, c.s.routes, true) }

// goneRoutes returns the routes at work that the draft does not have.
func (c *carry) goneRoutes() []api.StaticRoute { return otherRoutes(c.s.routes, c.d.routes, false) }

// otherRoutes returns the routes of a that b does not have or, when hops count, has with other next hops.
func otherRoutes(a, b map[api.RouteKey]api.StaticRoute, hops bool) (list []api.StaticRoute) {
	for _, k := range slices.SortedFunc(maps.Keys(a), api.RouteKey.Compare) {
		if other, ok := b[k]; !ok || hops && !slices.Equal(other.NextHops, a[k].NextHops) {
			list = append(list, a[k])
		}
	}
	return list
}

// setRoutes gives the routers of the changed routes those that they have now. Callers hold verb.
func (s *Switch) setRoutes(changed []api.StaticRoute) {
	s.routing.Lock()
	defer s.routing.Unlock()
	done := make(map[string]bool)
	for _, c := range changed {
		if !done[c.Router] {
			done[c.Router] = true
			s.publishRoutes(c.Router)
		}
	}
}

// publishRoutes gives a router its static routes, and those that lead to legs. Callers hold routing.
func (s *Switch) publishRoutes(name string) {
	s.mu.RLock()
	static := s.routes
	s.mu.RUnlock()
	var routes []router.StaticRoute
	for _, k := range slices.SortedFunc(maps.Keys(static), api.RouteKey.Compare) {
		if r := static[k]; r.Router == name {
			routes = append(routes, router.StaticRoute{Prefix: r.Prefix, NextHops: r.NextHops, Metric: r.Metric})
		}
	}
	for _, leg := range slices.Sorted(maps.Keys(s.byLeg)) { // of equal metrics the first by name counts
		if l := s.byLeg[leg]; l.router == name {
			routes = append(routes, l.routes...)
		}
	}
	s.router(name).SetRoutes(routes)
}

func (s *Switch) loadRoutes() error {
	routes, err := s.store.Routes()
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, r := range routes {
		s.routes[r.Key()] = r
	}
	s.mu.Unlock()
	s.setRoutes(routes)
	return nil
}

// Routes lists the routes of one router or all, connected ones too.
func (s *Switch) Routes(_ context.Context, name string) ([]api.RouteEntry, error) {
	out := []api.RouteEntry{}
	known := false
	for _, r := range s.allRouters() {
		snap := r.Snapshot()
		if name != "" && name != r.Name() {
			continue
		}
		known = known || len(snap.Interfaces()) > 0 || len(snap.Routes()) > 0
		for _, route := range snap.Routes() {
			out = append(out, routeEntry(r.Name(), snap, route))
		}
	}
	if name != "" && !known {
		return nil, noRouter(name)
	}
	return out, nil
}

func noRouter(name string) error {
	return api.Errorf(api.CodeNotFound, "no router %.70q: one comes with the first network that has a gateway and joins it", name)
}

// allRouters returns the routers by name.
func (s *Switch) allRouters() []*router.Router {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.routers), func(a, b *router.Router) int { return strings.Compare(a.Name(), b.Name()) })
}

func routeEntry(name string, snap *router.Snapshot, r *router.Route) api.RouteEntry {
	e := api.RouteEntry{Origin: api.RouteConnected, Active: snap.Active(r), StaticRoute: api.StaticRoute{Router: name,
		RouteConfig: api.RouteConfig{Prefix: r.Prefix, NextHops: append([]netip.Addr{}, r.Wanted...), Metric: r.Metric}}}
	switch {
	case r.Link != "":
		e.Origin = api.RouteHost
		if i := snap.Interface(r.Link); i != nil && i.Uplink {
			e.Origin = api.RouteUplink
		}
	case r.Static:
		e.Origin = api.RouteStatic
	}
	for _, h := range r.Hops {
		if !slices.Contains(e.Networks, h.If.Name) {
			e.Networks = append(e.Networks, h.If.Name)
		}
	}
	return e
}

// describeRoute tells what has become of a static route. After a dry run it is in no router.
func (s *Switch) describeRoute(want *api.StaticRoute) api.RouteEntry {
	s.mu.RLock()
	r := s.routers[want.Router]
	s.mu.RUnlock()
	if r != nil {
		snap := r.Snapshot()
		for _, x := range snap.Routes() {
			if x.Static && x.Link == "" && x.Prefix == want.Prefix && x.Metric == want.Metric {
				return routeEntry(r.Name(), snap, x)
			}
		}
	}
	return api.RouteEntry{StaticRoute: *want, Origin: api.RouteStatic}
}

func routeText(r *api.StaticRoute) string {
	_, way, _ := strings.Cut(r.String(), " ")
	return way + ", router " + r.Router
}

func hopsText(hops []netip.Addr) string {
	var all []string
	for _, a := range hops {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

// Neighbors lists what the routers know of their neighbors, in one network or all.
func (s *Switch) Neighbors(_ context.Context, network string) ([]api.Neighbor, error) {
	if _, err := s.chosen(network); err != nil {
		return nil, err
	}
	out, now := []api.Neighbor{}, s.path.Now()
	for _, r := range s.allRouters() {
		for _, n := range r.Neighbors().List() {
			if network != "" && network != n.Interface {
				continue
			}
			row := api.Neighbor{Network: n.Interface, Address: n.Addr, State: n.State.String(), Waiting: n.Parked,
				Idle: int(max(0, time.Duration(now-n.Used)).Seconds())}
			if n.MAC != [6]byte{} {
				row.MAC = macString(n.MAC)
			}
			out = append(out, row)
		}
	}
	slices.SortStableFunc(out, func(a, b api.Neighbor) int { return strings.Compare(a.Network, b.Network) })
	return out, nil
}

// FlushNeighbors forgets the neighbors in one network or all: they are asked for again when they are needed.
func (s *Switch) FlushNeighbors(_ context.Context, network string) (int, error) {
	if _, err := s.chosen(network); err != nil {
		return 0, err
	}
	total := 0
	for _, r := range s.allRouters() {
		total += r.Neighbors().Flush(network)
	}
	return total, nil
}
