package ctl

import (
	"context"

	"vswitch/internal/api"
)

// Operate carries out one operation by the path of its verb.
func (c *Client) Operate(ctx context.Context, o api.Operation) (r api.OperationResult, err error) {
	r = api.OperationResult{Op: o.Op, Object: o.Object()}
	switch request := o.Request.(type) {
	case *api.NetworkRequest:
		n, e := c.AddNetwork(ctx, *request)
		r.Network, err = &n, e
	case *api.PortRequest:
		p, e := c.AddPort(ctx, *request)
		r.Port, err = &p, e
	case *api.DeleteRequest:
		switch o.Op {
		case api.OpDelNetwork:
			err = c.DeleteNetwork(ctx, request.Name, request.Force)
		case api.OpDelUplink:
			err = c.DeleteUplink(ctx, request.Name)
		default:
			err = c.DeletePort(ctx, request.Name)
		}
		r.Unchanged, err = forgive(request.IfExists, err)
	case *api.NetworkChange:
		change := *request
		change.Name = nil
		n, e := c.SetNetwork(ctx, o.Object(), change)
		r.Network, err = &n, e
	case *api.PortChange:
		change := *request
		change.Name = nil
		p, e := c.SetPort(ctx, o.Object(), change)
		r.Port, err = &p, e
	case *api.NamedConnect:
		p, e := c.Connect(ctx, request.Name, request.ConnectRequest)
		r.Port, err = &p, e
	case *api.NamedDisconnect:
		_, err = c.Disconnect(ctx, request.Name, request.DisconnectRequest)
		r.Unchanged, err = forgive(request.IfExists, err)
	case *api.FDBRequest:
		if o.Op == api.OpAddFDB {
			err = c.AddFDB(ctx, *request)
		} else {
			err = c.DeleteFDB(ctx, *request)
		}
	case *api.RouteRequest:
		if o.Op == api.OpAddRoute {
			e, bad := c.AddRoute(ctx, *request)
			r.Route, err = &e, bad
		} else {
			err = c.DeleteRoute(ctx, *request)
		}
	case *api.PublishRequest:
		p, e := c.Publish(ctx, *request)
		r.Published, err = &p, e
	case *api.UnpublishRequest:
		err = c.Unpublish(ctx, *request)
		r.Unchanged, err = forgive(request.IfExists, err)
	case *api.UplinkRequest:
		u, e := c.AddUplink(ctx, *request)
		r.Uplink, err = &u, e
	case *api.RuleRequest:
		e, bad := c.AddRule(ctx, *request)
		r.Rule, err = &e, bad
	case *api.RuleDeletion:
		r.Unchanged, err = forgive(request.IfExists, c.DeleteRule(ctx, api.RuleDeletion{ID: request.ID}))
	default:
		err = api.Errorf(api.CodeInvalid, "%q is no operation", o.Op)
	}
	return r, err
}

// forgive tells that there was nothing to do, if that is what err says and if it is forgiven.
func forgive(mayLack bool, err error) (nothing bool, rest error) {
	if mayLack && api.HasCode(err, api.CodeNotFound) {
		return true, nil
	}
	return false, err
}

// Transact carries out several operations: all, or none and then the error says which one failed.
func (c *Client) Transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error) {
	return get[api.TransactionResult](ctx, c, "POST", "/v1/transaction", nil, t)
}
