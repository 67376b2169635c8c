package servertest

import (
	"context"
	"slices"

	"vswitch/internal/api"
)

// numbered gives automatic ports the number 20000.
func numbered(list []api.Publish) []api.Publish {
	list = slices.Clone(list)
	for i := range list {
		if list[i].HostPort == 0 {
			list[i].HostPort = 20000
		}
	}
	return list
}

// Published returns what a port publishes, or all do. Ports without an address rest.
func (b *Backend) Published(ctx context.Context, port string) (list []api.PublishedPort, err error) {
	if port != "" {
		if _, err := b.Port(ctx, port); err != nil {
			return nil, err
		}
	}
	ports, _ := b.Ports(ctx)
	for i := range ports {
		if p := &ports[i]; port == "" || port == p.Name {
			for _, x := range p.Publish {
				list = append(list, published(p, x))
			}
		}
	}
	return list, nil
}

func published(p *api.Port, x api.Publish) api.PublishedPort {
	row := api.PublishedPort{Port: p.Name, Network: p.Network, Router: api.MainRouter, Publish: x}
	for _, ip := range p.IPs {
		row.To = append(row.To, ip.Addr())
	}
	if len(p.IPs) == 0 {
		row.Why = "port " + p.Name + " has no address"
	}
	return row
}

// Publish lets a port publish something on top.
func (b *Backend) Publish(_ context.Context, r api.PublishRequest) (api.PublishedPort, error) {
	x := numbered([]api.Publish{r.Publish})[0]
	p, err := b.change(r.Port, func(p *api.Port) error {
		if slices.ContainsFunc(p.Publish, x.Equal) && !r.MayExist {
			return taken("published-port", x.String())
		}
		p.Publish = append(slices.Clip(p.Publish), x)
		return nil
	})
	if err != nil {
		return api.PublishedPort{}, err
	}
	return published(&p, x), nil
}

// Unpublish takes back what a port publishes.
func (b *Backend) Unpublish(_ context.Context, r api.UnpublishRequest) error {
	_, err := b.change(r.Port, func(p *api.Port) error {
		before := len(p.Publish)
		p.Publish = slices.DeleteFunc(slices.Clone(p.Publish), func(x api.Publish) bool { return r.Publish == nil || r.Publish.Asks(&x) })
		if len(p.Publish) == before && !r.IfExists {
			return missing("published-port", r.Port)
		}
		return nil
	})
	return err
}
