package vswitch

import (
	"context"
	"errors"

	"vswitch/internal/acl"
	"vswitch/internal/api"
)

// Transact carries out all operations or none: what can be refused is refused before anything is changed, and what fails after
// that is undone. With DryRun it ends where changes would begin.
func (s *Switch) Transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error) {
	s.verb.Lock()
	defer s.verb.Unlock()
	return s.transact(ctx, t)
}

// transact is Transact. Callers hold verb.
func (s *Switch) transact(ctx context.Context, t api.Transaction) (api.TransactionResult, error) {
	out := api.TransactionResult{DryRun: t.DryRun, Results: []api.OperationResult{}}
	d, err := s.draft(t.Operations)
	if err != nil {
		return out, err
	}
	if !t.DryRun {
		err = s.carryThrough(ctx, d)
	}
	if t.DryRun || err != nil {
		d.cancel()
	}
	if err != nil {
		return out, err
	}
	for i := range t.Operations {
		out.Results = append(out.Results, s.resultOf(d, &t.Operations[i], d.results[i]))
	}
	return out, nil
}

// carryOne carries out an operation on its own, unless it changes nothing. Callers hold verb.
func carryOne[R any](ctx context.Context, s *Switch, operate func(*draft, *R) (outcome, error), r *R) (outcome, error) {
	d := s.newDraft(nil)
	x, err := operate(d, r)
	if err == nil && !x.unchanged {
		err = s.carryThrough(ctx, d)
	}
	return x, err
}

// plainly returns the api.Error in err, so that its text is not cut off by what wraps it.
func plainly(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	return err
}

// outcome is what became of an operation: the object it made, if it made one.
type outcome struct {
	unchanged bool
	network   *network
	port      *api.Port
	route     *api.StaticRoute
	published *api.PublishedPort
	uplink    *api.Uplink
	rule      *acl.Rule
}

// resultOf tells the outcome of an operation as things are now, or, after a dry run, as they would be.
func (s *Switch) resultOf(d *draft, o *api.Operation, x outcome) api.OperationResult {
	r := api.OperationResult{Op: o.Op, Object: o.Object(), Unchanged: x.unchanged}
	if x.network != nil {
		n := x.network.Network
		for _, e := range d.ports {
			if e.port.Network == n.Name {
				n.Ports++
			}
		}
		r.Network = &n
	}
	if x.port != nil {
		p := *x.port
		if e, err := s.endpoint(p.Name); err == nil && e.port.ID == p.ID {
			p = s.describe(&e)
		}
		r.Port = &p
	}
	if x.route != nil {
		e := s.describeRoute(x.route)
		r.Route = &e
	}
	r.Published = x.published
	if x.uplink != nil {
		u := s.describeUplink(x.uplink)
		r.Uplink = &u
	}
	if x.rule != nil {
		e := s.describeRule(x.rule)
		r.Rule = &e
	}
	return r
}
