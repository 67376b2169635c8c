package ctl

import (
	"context"

	"vswitch/internal/api"
)

// AddPort makes a port and returns it with its addresses and defaults filled in.
func (c *Client) AddPort(ctx context.Context, r api.PortRequest) (api.Port, error) {
	return get[api.Port](ctx, c, "POST", "/v1/ports", nil, r)
}

// SetPort changes a port and returns it as it is then.
func (c *Client) SetPort(ctx context.Context, name string, r api.PortChange) (api.Port, error) {
	return c.changePort(ctx, "PATCH", name, "", r)
}

// Connect puts a port that is on no network on one.
func (c *Client) Connect(ctx context.Context, name string, r api.ConnectRequest) (api.Port, error) {
	return c.changePort(ctx, "POST", name, "/connect", r)
}

// Disconnect takes a port off its network; its interface stays in its namespace. That it is on none is an error of code
// api.CodeNotFound.
func (c *Client) Disconnect(ctx context.Context, name string, r api.DisconnectRequest) (api.Port, error) {
	return c.changePort(ctx, "POST", name, "/disconnect", r)
}

func (c *Client) changePort(ctx context.Context, method, name, below string, r any) (api.Port, error) {
	path, err := named("/v1/ports", "port", name)
	if err != nil {
		return api.Port{}, err
	}
	return get[api.Port](ctx, c, method, path+below, nil, r)
}

// DeletePort deletes a port and its device.
func (c *Client) DeletePort(ctx context.Context, name string) error {
	path, err := named("/v1/ports", "port", name)
	if err != nil {
		return err
	}
	return c.call(ctx, "DELETE", path, nil, nil, nil)
}

// Ports returns all ports.
func (c *Client) Ports(ctx context.Context) ([]api.Port, error) {
	return get[[]api.Port](ctx, c, "GET", "/v1/ports", nil, nil)
}

// Port returns the port of that name, or an error of code api.CodeNotFound.
func (c *Client) Port(ctx context.Context, name string) (api.Port, error) {
	path, err := named("/v1/ports", "port", name)
	if err != nil {
		return api.Port{}, err
	}
	return get[api.Port](ctx, c, "GET", path, nil, nil)
}
