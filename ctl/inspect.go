package ctl

import (
	"context"

	"vswitch/internal/api"
)

// Flows returns the cached flows of frames that came in by a port, or by any for an empty name.
func (c *Client) Flows(ctx context.Context, port string) ([]api.Flow, error) {
	return get[[]api.Flow](ctx, c, "GET", "/v1/flows", only("port", port), nil)
}

// FlushFlows forgets all cached flows and returns how many. Nothing is lost by it: each is decided again at its next frame.
func (c *Client) FlushFlows(ctx context.Context) (int, error) {
	f, err := get[api.Flushed](ctx, c, "POST", "/v1/flows/flush", nil, nil)
	return f.Flushed, err
}

// Trace tells what would happen to a frame. Nothing is sent, learned or counted.
func (c *Client) Trace(ctx context.Context, r api.TraceRequest) (api.Trace, error) {
	return get[api.Trace](ctx, c, "POST", "/v1/trace", nil, r)
}

// Stats returns the counters of ports and workers.
func (c *Client) Stats(ctx context.Context) (api.Stats, error) {
	return get[api.Stats](ctx, c, "GET", "/v1/stats", nil, nil)
}

// Drops returns how many packets were dropped, by port and reason.
func (c *Client) Drops(ctx context.Context) ([]api.Drop, error) {
	return get[[]api.Drop](ctx, c, "GET", "/v1/drops", nil, nil)
}

// Show returns the daemon, its networks and its ports.
func (c *Client) Show(ctx context.Context) (api.Show, error) {
	return get[api.Show](ctx, c, "GET", "/v1/show", nil, nil)
}

// Daemon returns the daemon's version and what it uses of the kernel.
func (c *Client) Daemon(ctx context.Context) (api.Daemon, error) {
	return get[api.Daemon](ctx, c, "GET", "/v1/version", nil, nil)
}
