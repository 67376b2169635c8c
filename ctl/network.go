package ctl

import (
	"context"
	"net/url"

	"vswitch/internal/api"
)

// AddNetwork makes a network and returns it with its defaults filled in.
func (c *Client) AddNetwork(ctx context.Context, r api.NetworkRequest) (api.Network, error) {
	return get[api.Network](ctx, c, "POST", "/v1/networks", nil, r)
}

// SetNetwork changes a network and returns it as it is then.
func (c *Client) SetNetwork(ctx context.Context, name string, r api.NetworkChange) (api.Network, error) {
	path, err := named("/v1/networks", "network", name)
	if err != nil {
		return api.Network{}, err
	}
	return get[api.Network](ctx, c, "PATCH", path, nil, r)
}

// DeleteNetwork deletes a network. One that has ports is refused with api.CodeConflict, unless force deletes them too.
func (c *Client) DeleteNetwork(ctx context.Context, name string, force bool) error {
	var query url.Values
	if force {
		query = url.Values{"force": {"true"}}
	}
	path, err := named("/v1/networks", "network", name)
	if err != nil {
		return err
	}
	return c.call(ctx, "DELETE", path, query, nil, nil)
}

// Networks returns all networks.
func (c *Client) Networks(ctx context.Context) ([]api.Network, error) {
	return get[[]api.Network](ctx, c, "GET", "/v1/networks", nil, nil)
}

// Network returns the network of that name, or an error of code api.CodeNotFound.
func (c *Client) Network(ctx context.Context, name string) (api.Network, error) {
	path, err := named("/v1/networks", "network", name)
	if err != nil {
		return api.Network{}, err
	}
	return get[api.Network](ctx, c, "GET", path, nil, nil)
}
