package ctl

import (
	"context"
	"net/url"

	"vswitch/internal/api"
)

// Rules returns the rules of a network and its ports, of a port, or all for an empty name, in the order in which they are asked.
func (c *Client) Rules(ctx context.Context, on string) ([]api.RuleEntry, error) {
	return get[[]api.RuleEntry](ctx, c, "GET", "/v1/rules", only("on", on), nil)
}

// AddRule adds a rule. The answer tells its ID.
func (c *Client) AddRule(ctx context.Context, r api.RuleRequest) (api.RuleEntry, error) {
	return get[api.RuleEntry](ctx, c, "POST", "/v1/rules", nil, r)
}

// DeleteRule takes a rule away.
func (c *Client) DeleteRule(ctx context.Context, r api.RuleDeletion) error {
	_, err := forgive(r.IfExists, c.call(ctx, "DELETE", "/v1/rules/"+url.PathEscape(r.ID), nil, nil, nil))
	return err
}
