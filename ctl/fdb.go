package ctl

import (
	"context"
	"net/url"

	"vswitch/internal/api"
)

// FDB returns the MAC table of a network, or of all for an empty name.
func (c *Client) FDB(ctx context.Context, network string) ([]api.FDBEntry, error) {
	return get[[]api.FDBEntry](ctx, c, "GET", "/v1/fdb", only("network", network), nil)
}

// AddFDB adds a static entry to a network's MAC table.
func (c *Client) AddFDB(ctx context.Context, r api.FDBRequest) error {
	return c.call(ctx, "POST", "/v1/fdb", nil, r, nil)
}

// DeleteFDB deletes an entry, static or learned, of a network's MAC table. Its Port is ignored.
func (c *Client) DeleteFDB(ctx context.Context, r api.FDBRequest) error {
	return c.call(ctx, "DELETE", "/v1/fdb", nil, r, nil)
}

// FlushFDB forgets the learned MACs of a network, or of all for an empty name, and returns how many.
func (c *Client) FlushFDB(ctx context.Context, network string) (int, error) {
	f, err := get[api.Flushed](ctx, c, "POST", "/v1/fdb/flush", only("network", network), nil)
	return f.Flushed, err
}

// only is the query that narrows a list to one object, or no query for an empty name.
func only(kind, name string) url.Values {
	if name == "" {
		return nil
	}
	return url.Values{kind: {name}}
}
