package servertest

import (
	"context"
	"fmt"

	"vswitch/internal/api"
)

// Transact carries out the operations one after the other, and stops at the first that fails. It undoes nothing.
func (b *Backend) Transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error) {
	out := api.TransactionResult{DryRun: t.DryRun, Results: []api.OperationResult{}}
	for i := range t.Operations {
		o := &t.Operations[i]
		r, err := b.operate(ctx, o)
		if err != nil {
			return out, fmt.Errorf("operation %d of %d (%s %s): %w; nothing was changed", i+1, len(t.Operations), o.Op, o.Object(), err)
		}
		out.Results = append(out.Results, r)
	}
	return out, nil
}

func (b *Backend) operate(ctx context.Context, o *api.Operation) (r api.OperationResult, err error) {
	r = api.OperationResult{Op: o.Op, Object: o.Object()}
	switch request := o.Request.(type) {
	case *api.NetworkRequest:
		n, e := b.AddNetwork(ctx, *request)
		r.Network, err = &n, e
	case *api.PortRequest:
		p, e := b.AddPort(ctx, *request)
		r.Port, err = &p, e
	case *api.DeleteRequest:
		switch o.Op {
		case api.OpDelNetwork:
			err = b.DeleteNetwork(ctx, request.Name, request.Force)
		case api.OpDelUplink:
			err = b.DeleteUplink(ctx, request.Name)
		default:
			err = b.DeletePort(ctx, request.Name)
		}
	case *api.NetworkChange:
		n, e := b.SetNetwork(ctx, o.Object(), *request)
		r.Network, err = &n, e
	case *api.PortChange:
		p, e := b.SetPort(ctx, o.Object(), *request)
		r.Port, err = &p, e
	case *api.NamedConnect:
		p, e := b.Connect(ctx, request.Name, request.ConnectRequest)
		r.Port, err = &p, e
	case *api.NamedDisconnect:
		p, e := b.Disconnect(ctx, request.Name, request.DisconnectRequest)
		r.Port, err = &p, e
	case *api.FDBRequest:
		if o.Op == api.OpAddFDB {
			err = b.AddFDB(ctx, *request)
		} else {
			err = b.DeleteFDB(ctx, *request)
		}
	case *api.RouteRequest:
		if o.Op == api.OpAddRoute {
			e, bad := b.AddRoute(ctx, *request)
			r.Route, err = &e, bad
		} else {
			err = b.DeleteRoute(ctx, *request)
		}
	case *api.PublishRequest:
		p, e := b.Publish(ctx, *request)
		r.Published, err = &p, e
	case *api.UnpublishRequest:
		err = b.Unpublish(ctx, *request)
	case *api.UplinkRequest:
		u, e := b.AddUplink(ctx, *request)
		r.Uplink, err = &u, e
	case *api.RuleRequest:
		e, bad := b.AddRule(ctx, *request)
		r.Rule, err = &e, bad
	case *api.RuleDeletion:
		err = b.DeleteRule(ctx, *request)
	}
	return r, err
}
