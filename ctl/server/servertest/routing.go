package servertest

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"vswitch/internal/api"
)

func route(prefix string, metric uint32, hops ...string) api.StaticRoute {
	r := api.StaticRoute{Router: api.MainRouter, RouteConfig: api.RouteConfig{Prefix: netip.MustParsePrefix(prefix), Metric: metric}}
	for _, h := range hops {
		r.NextHops = append(r.NextHops, netip.MustParseAddr(h))
	}
	return r
}

// Routes returns the routes of a router.
func (b *Backend) Routes(_ context.Context, name string) (list []api.RouteEntry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.routes {
		if name == "" || name == r.Router {
			list = append(list, r)
		}
	}
	if name != "" && len(list) == 0 {
		err = missing("router", name)
	}
	return list, err
}

// AddRoute adds a route that is not there; those via 10.0.0.0/8 are active.
func (b *Backend) AddRoute(_ context.Context, r api.RouteRequest) (api.RouteEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := api.RouteEntry{Origin: api.RouteStatic, StaticRoute: api.StaticRoute{Router: cmp.Or(r.Router, api.MainRouter),
		RouteConfig: api.RouteConfig{Prefix: r.Prefix, NextHops: r.NextHops, Metric: max(r.Metric, 1)}}}
	if e.Active = netip.MustParsePrefix("10.0.0.0/8").Contains(r.NextHops[0]); e.Active {
		e.Networks = []string{"net1"}
	}
	if slices.ContainsFunc(b.routes, func(x api.RouteEntry) bool { return x.Key() == e.Key() }) && !r.MayExist {
		return e, taken("route", r.Prefix.String())
	}
	b.routes = append(b.routes, e)
	return e, nil
}

// DeleteRoute deletes the routes of a router to a prefix.
func (b *Backend) DeleteRoute(_ context.Context, r api.RouteRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.routes)
	b.routes = slices.DeleteFunc(b.routes, func(x api.RouteEntry) bool {
		return x.Origin == api.RouteStatic && x.Prefix == r.Prefix && x.Router == cmp.Or(r.Router, api.MainRouter)
	})
	if len(b.routes) == before && !r.IfExists {
		return missing("route", r.Prefix.String())
	}
	return nil
}

// Neighbors returns the neighbors in a network.
func (b *Backend) Neighbors(_ context.Context, network string) (list []api.Neighbor, err error) {
	for _, n := range b.Around {
		if network == "" || network == n.Network {
			list = append(list, n)
		}
	}
	return list, nil
}

// FlushNeighbors returns how many neighbors there are.
func (b *Backend) FlushNeighbors(ctx context.Context, network string) (int, error) {
	list, err := b.Neighbors(ctx, network)
	return len(list), err
}
