package servertest

import (
	"context"
	"maps"
	"slices"

	"vswitch/internal/api"
)

// Config returns the names of networks and ports, and little more.
func (b *Backend) Config(ctx context.Context) (api.Config, error) {
	c := api.Config{Networks: map[string]api.NetworkConfig{}}
	networks, _ := b.Networks(ctx)
	ports, _ := b.Ports(ctx)
	for _, n := range networks {
		nc := api.NetworkConfig{NetworkRequest: api.NetworkRequest{Labels: n.Labels}, Ports: map[string]api.PortConfig{}}
		for _, s := range n.Subnets {
			nc.Subnets = append(nc.Subnets, s.Prefix)
		}
		for _, p := range ports {
			if p.Network == n.Name && p.Netns != nil {
				nc.Ports[p.Name] = api.PortConfig{PortRequest: api.PortRequest{Netns: p.Netns.Spec, Trunk: p.Trunk}}
			}
		}
		c.Networks[n.Name] = nc
	}
	return c, nil
}

// Apply adds and deletes networks, by their names alone.
func (b *Backend) Apply(ctx context.Context, c api.Config, o api.ApplyOptions) (api.Applied, error) {
	out := api.Applied{DryRun: o.DryRun, Changes: []api.Change{}}
	networks, _ := b.Networks(ctx)
	there := map[string]bool{}
	for _, n := range networks {
		there[n.Name] = true
		if _, wanted := c.Networks[n.Name]; wanted || o.NoDelete {
			continue
		}
		out.Changes = append(out.Changes, api.Change{Action: api.ActionDelete, Kind: api.KindNetwork, Name: n.Name})
		if !o.DryRun {
			_ = b.DeleteNetwork(ctx, n.Name, true)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		n := c.Networks[name]
		if err := api.CheckName("network", name); err != nil {
			return out, err
		}
		if there[name] {
			if n.MTU != 0 {
				out.Changes = append(out.Changes, api.Change{Action: api.ActionChange, Kind: api.KindNetwork, Name: name, Detail: "mtu 1500 -> 1400"})
			}
			continue
		}
		out.Changes = append(out.Changes, api.Change{Action: api.ActionAdd, Kind: api.KindNetwork, Name: name, Detail: "no subnet"})
		if !o.DryRun {
			_, _ = b.AddNetwork(ctx, api.NetworkRequest{Name: name})
		}
	}
	return out, nil
}
