package ctl

import (
	"context"
	"encoding/json"
	"iter"

	"vswitch/internal/api"
)

// Routes returns the routes of a router, or of all for an empty name.
func (c *Client) Routes(ctx context.Context, router string) ([]api.RouteEntry, error) {
	return get[[]api.RouteEntry](ctx, c, "GET", "/v1/routes", only("router", router), nil)
}

// AddRoute gives a router a static route.
func (c *Client) AddRoute(ctx context.Context, r api.RouteRequest) (api.RouteEntry, error) {
	return get[api.RouteEntry](ctx, c, "POST", "/v1/routes", nil, r)
}

// DeleteRoute takes a static route away. Its NextHops are ignored.
func (c *Client) DeleteRoute(ctx context.Context, r api.RouteRequest) error {
	return c.call(ctx, "DELETE", "/v1/routes", nil, r, nil)
}

// Published returns what a port publishes, or what all do for an empty name.
func (c *Client) Published(ctx context.Context, port string) ([]api.PublishedPort, error) {
	return get[[]api.PublishedPort](ctx, c, "GET", "/v1/published", only("port", port), nil)
}

// Publish publishes ports of a container. The answer tells the port that was chosen, if none was given.
func (c *Client) Publish(ctx context.Context, r api.PublishRequest) (api.PublishedPort, error) {
	return get[api.PublishedPort](ctx, c, "POST", "/v1/published", nil, r)
}

// Unpublish takes published ports back, and ends the connections that came by them.
func (c *Client) Unpublish(ctx context.Context, r api.UnpublishRequest) error {
	return c.call(ctx, "DELETE", "/v1/published", nil, r, nil)
}

// Neighbors returns what routers know of their neighbors in a network, or in all for an empty name.
func (c *Client) Neighbors(ctx context.Context, network string) ([]api.Neighbor, error) {
	return get[[]api.Neighbor](ctx, c, "GET", "/v1/neighbors", only("network", network), nil)
}

// FlushNeighbors forgets the neighbors in a network, or in all for an empty name, and returns how many.
func (c *Client) FlushNeighbors(ctx context.Context, network string) (int, error) {
	f, err := get[api.Flushed](ctx, c, "POST", "/v1/neighbors/flush", only("network", network), nil)
	return f.Flushed, err
}

// Connections yields the connections that the filter selects, in no order, as the daemon sends them. An error is its last element.
func (c *Client) Connections(ctx context.Context, f api.ConnectionFilter) iter.Seq2[api.Connection, error] {
	return func(yield func(api.Connection, error) bool) {
		answer, err := c.send(ctx, "GET", "/v1/connections", f.Query(), nil)
		if err != nil {
			yield(api.Connection{}, err)
			return
		}
		defer answer.Body.Close()
		d := json.NewDecoder(answer.Body)
		if _, err = d.Token(); err == nil { // [
			for d.More() {
				var row api.Connection
				if err = d.Decode(&row); err != nil || !yield(row, nil) {
					break
				}
			}
		}
		if err == nil && !d.More() {
			_, err = d.Token() // ]
		}
		if err != nil {
			yield(api.Connection{}, c.misread(ctx, err, "GET", "/v1/connections"))
		}
	}
}

// FlushConnections ends the connections that the filter selects, and returns how many.
func (c *Client) FlushConnections(ctx context.Context, f api.ConnectionFilter) (int, error) {
	n, err := get[api.Flushed](ctx, c, "POST", "/v1/connections/flush", f.Query(), nil)
	return n.Flushed, err
}
