package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"vswitch/internal/api"
)

const yamlType = "application/yaml"

// Config returns the whole configuration.
func (c *Client) Config(ctx context.Context) (api.Config, error) {
	return get[api.Config](ctx, c, "GET", "/v1/config", nil, nil)
}

// ConfigYAML returns the whole configuration as YAML, for a file.
func (c *Client) ConfigYAML(ctx context.Context) (string, error) {
	answer, err := c.sendBody(ctx, "GET", "/v1/config", nil, nil, http.Header{"Accept": {yamlType}})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", c.broken(ctx, err)
	}
	return string(b), nil
}

// Apply makes the configuration be what config says.
func (c *Client) Apply(ctx context.Context, config api.Config, o api.ApplyOptions) (api.Applied, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return api.Applied{}, fmt.Errorf("encode the configuration: %w", err)
	}
	return c.ApplyFile(ctx, b, o)
}

// ApplyFile makes the configuration be that of a file in YAML or JSON. What is wrong with the file is told with line and column.
func (c *Client) ApplyFile(ctx context.Context, file []byte, o api.ApplyOptions) (api.Applied, error) {
	query := url.Values{}
	if o.DryRun {
		query.Set("dry_run", "true")
	}
	if o.NoDelete {
		query.Set("no_delete", "true")
	}
	answer, err := c.sendBody(ctx, "POST", "/v1/config", query, bytes.NewReader(file), http.Header{"Content-Type": {yamlType}})
	if err != nil {
		return api.Applied{}, err
	}
	var out api.Applied
	return out, c.read(ctx, answer, "POST", "/v1/config", &out)
}
