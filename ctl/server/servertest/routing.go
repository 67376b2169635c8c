package servertest

import (
	"cmp"
	"context"
	"iter"
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

// Connections returns the connections of a network, port and protocol; other keys of the filter select nothing.
func (b *Backend) Connections(_ context.Context, f api.ConnectionFilter) iter.Seq2[api.Connection, error] {
	return func(yield func(api.Connection, error) bool) {
		for _, c := range b.tracked(f) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (b *Backend) tracked(f api.ConnectionFilter) (list []api.Connection) {
	known := api.ConnectionFilter{Network: f.Network, Port: f.Port, Proto: f.Proto}
	for _, c := range b.Tracked {
		if f == known && (f.Network == "" || f.Network == c.Network) && (f.Port == "" || f.Port == c.Port || f.Port == c.Peer) &&
			(f.Proto == 0 || api.ProtocolName(f.Proto) == c.Proto) {
			list = append(list, c)
		}
	}
	return list
}

// FlushConnections returns how many such connections there are.
func (b *Backend) FlushConnections(_ context.Context, f api.ConnectionFilter) (int, error) {
	return len(b.tracked(f)), nil
}

func tuple(src, dst string) api.Tuple {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return api.Tuple{Src: s.Addr(), SrcPort: s.Port(), Dst: d.Addr(), DstPort: d.Port()}
}

func tracked() []api.Connection {
	as, asked := tuple("10.2.0.1:40000", "10.2.0.2:5432"), tuple("[fd00:2::1]:17", "[fd00:2::2]:0")
	return []api.Connection{
		{Router: "main", Network: "net1", Port: "web", Peer: "db", Proto: "tcp", State: "established", Timeout: 7436, Age: 60, Idle: 4,
			Original: tuple("10.0.0.2:40000", "10.2.0.2:5432"), Translated: &as},
		{Router: "main", Network: "net1", Port: "web", Peer: "db", Proto: "icmp6", State: "new", Timeout: 59, Age: 1, Idle: 1,
			Original: tuple("[fd00:1::2]:17", "[fd00:2::2]:0"), Translated: &asked},
		{Router: "main", Network: "net2", Port: "db", Proto: "47", State: "new", Timeout: 600,
			Original: tuple("10.2.0.2:0", "10.0.0.2:0")},
	}
}
