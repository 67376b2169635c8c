package ctl

import (
	"context"

	"vswitch/internal/api"
)

// AddUplink adds an uplink.
func (c *Client) AddUplink(ctx context.Context, r api.UplinkRequest) (api.Uplink, error) {
	return get[api.Uplink](ctx, c, "POST", "/v1/uplinks", nil, r)
}

// DeleteUplink deletes an uplink: the host has its interface to itself again.
func (c *Client) DeleteUplink(ctx context.Context, name string) error {
	path, err := named("/v1/uplinks", "uplink", name)
	if err != nil {
		return err
	}
	return c.call(ctx, "DELETE", path, nil, nil, nil)
}

// Uplinks returns all uplinks.
func (c *Client) Uplinks(ctx context.Context) ([]api.Uplink, error) {
	return get[[]api.Uplink](ctx, c, "GET", "/v1/uplinks", nil, nil)
}

// Uplink returns the uplink of that name, or an error of code api.CodeNotFound.
func (c *Client) Uplink(ctx context.Context, name string) (api.Uplink, error) {
	path, err := named("/v1/uplinks", "uplink", name)
	if err != nil {
		return api.Uplink{}, err
	}
	return get[api.Uplink](ctx, c, "GET", path, nil, nil)
}
