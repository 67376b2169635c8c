package vswitch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	l2switch "vswitch/switch"

	"vswitch/internal/api"
	"vswitch/internal/port"
	"vswitch/internal/reconcile"
	"vswitch/internal/store"
)

// Restore brings back what the stored intent wants, by the file descriptors that were kept, or by finding the devices again.
// Ports whose namespace died meanwhile are removed. Call it once, while Run runs. When ctx ends it stops between two ports:
// the next start takes up the rest.
func (s *Switch) Restore(ctx context.Context) error {
	s.verb.Lock()
	defer s.verb.Unlock()
	if err := s.loadNetworks(); err != nil {
		return err
	}
	if err := s.loadRoutes(); err != nil {
		return err
	}
	records, err := s.store.Ports()
	if err != nil {
		return err
	}
	byID := make(map[string]*store.PortRecord, len(records))
	var wanted []reconcile.Wanted
	for i := range records {
		byID[records[i].Port.ID] = &records[i]
		r := &records[i]
		wanted = append(wanted, reconcile.Wanted{ID: r.Port.ID, Phase: reconcile.Phase(r.Phase), Remake: r.Remake})
	}
	var ids []string
	for id := range s.held {
		ids = append(ids, id)
	}
	if err := s.loadRules(func(owner string) bool { return s.isOwner(owner, records) }); err != nil {
		return err
	}
	start := time.Now()
	for _, steps := range rounds(reconcile.Plan(wanted, ids), byID) {
		_ = abreast(steps, func(step reconcile.Step) error {
			if ctx.Err() == nil {
				s.carryOut(ctx, step, byID[step.ID], s.held[step.ID])
			}
			return nil
		})
	}
	if ctx.Err() != nil {
		return nil
	}
	s.held = nil
	s.judgeAll()
	if err := s.loadUplinks(); err != nil {
		return err
	}
	s.reachHost()
	s.startAll()
	if len(records) > 0 {
		s.log.Info("ports restored", "ports", len(s.endpoints()), "of", len(records), "took", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// rounds divides the steps into those that can be done abreast, in their order: a round has one operation, and no name twice.
func rounds(steps []reconcile.Step, byID map[string]*store.PortRecord) (list [][]reconcile.Step) {
	names := make(map[string]bool)
	for i, step := range steps {
		name := step.ID
		if rec := byID[step.ID]; rec != nil {
			name = rec.Port.Name
		}
		if i == 0 || steps[i-1].Op != step.Op || names[name] {
			list = append(list, nil)
			clear(names)
		}
		names[name] = true
		list[len(list)-1] = append(list[len(list)-1], step)
	}
	return list
}

// startAll begins to read the ports, now that all are there: what their containers sent meanwhile has waited.
func (s *Switch) startAll() {
	for _, e := range s.endpoints() {
		if e.dev == nil {
			continue
		}
		if err := s.path.Start(e.id); err != nil {
			s.log.Error("read a port", "port", e.port.Name, "err", err)
		}
		s.portUp(&e) // until now nobody could hear what came back
	}
}

func (s *Switch) loadNetworks() error {
	confs, err := s.store.Networks()
	if err != nil {
		return err
	}
	for i := range confs {
		n, err := newNetwork(&confs[i])
		if err == nil && s.networks[confs[i].Name] != nil {
			err = fmt.Errorf("there is another network %s", confs[i].Name)
		}
		if err != nil { // the other networks go on without it
			if err := s.store.SetNetworkAside(confs[i].ID, err); err != nil {
				return err
			}
			continue
		}
		s.mu.Lock()
		s.networks[n.Name] = n
		s.mu.Unlock()
		s.wire(n)
	}
	return nil
}

// carryOut does one step of the plan. A port that can't be restored is reported and shown, and keeps no other from it.
func (s *Switch) carryOut(ctx context.Context, step reconcile.Step, rec *store.PortRecord, held map[string]int) {
	log := s.log.With("port", step.ID, "step", step.Op.String())
	if rec != nil {
		log = s.log.With("port", rec.Port.Name, "step", step.Op.String())
	}
	s.passing("start." + step.Op.String())
	switch step.Op {
	case reconcile.Finish, reconcile.Rollback:
		s.discard(&rec.Port, held)
		log.Info("a change that was cut off is cleaned up")
	case reconcile.Drop:
		s.discard(&api.Port{ID: step.ID}, held)
		log.Info("a device without a record is removed")
	case reconcile.Adopt, reconcile.Reopen, reconcile.Remake:
		s.revive(ctx, log, step.Op, rec, held)
	}
}

// revive puts a port to work again.
func (s *Switch) revive(ctx context.Context, log *slog.Logger, op reconcile.Op, rec *store.PortRecord, held map[string]int) {
	p := &rec.Port
	changed := rec.Next != nil
	s.revert(log, rec)
	n := s.networks[p.Network]
	if n == nil && p.Network != "" {
		none, err := newNetwork(&api.Network{Name: p.Network}) // stands for it, and has no other port
		if err != nil {
			s.reject(log, p, held, err)
			return
		}
		s.mourn(log, none, p, held, fmt.Errorf("its network %s is not in the stored state: delete the port, or add the network again and restart vswitchd", p.Network))
		return
	}
	if _, err := s.endpoint(p.Name); err == nil {
		s.reject(log, p, held, fmt.Errorf("there is another port %s", p.Name))
		return
	}
	if err := checkRecord(p); err != nil {
		s.mourn(log, n, p, held, fmt.Errorf("its record makes no sense: %w; delete the port and add it again", err))
		return
	}
	if n != nil {
		if err := n.pools.Restore(p.Name, p.IPs); err != nil {
			log.Error("the port's addresses are taken", "err", err)
		}
		n.line.Stranger()
	}
	var e *endpoint
	var err error
	switch {
	case op == reconcile.Adopt:
		e, err = s.adopt(n, p, held)
	case op == reconcile.Remake:
		e, err = s.remake(n, p, held)
		held = nil
	case p.Type == api.PortVeth:
		e, err = s.recreate(n, p)
	default:
		e, err = s.reopen(ctx, n, p)
	}
	if err != nil {
		s.mourn(log, n, p, held, err)
		return
	}
	s.passing("start.revived")
	if n != nil && changed {
		if err := s.setCarrier(e.dev, true); err != nil {
			log.Error("give a port its carrier back", "err", err)
		}
	}
	s.locate(e)
	s.enter(e)
	s.restoreStatic(e)
	s.restorePublished(log, e)
}

// restorePublished makes a port publish again what it did.
func (s *Switch) restorePublished(log *slog.Logger, e *endpoint) {
	p := e.port
	v := s.viewFrom(e.net, &p)
	v.held = nil // who took a port while we were away has to do without
	s.mu.Lock()
	list, err := s.post(v, e.net, &p)
	if err == nil {
		s.enforce(p.Name, list)
	}
	s.mu.Unlock()
	if err != nil {
		log.Error("publish what a port did", "err", err)
	}
	s.observe(nil, list)
}

// checkRecord refuses what no verb can have written.
func checkRecord(p *api.Port) error {
	if _, err := net.ParseMAC(p.MAC); err != nil {
		return err
	}
	_, err := l2switch.NewMembership(p.VLAN, p.Trunk, p.Native)
	return err
}

// reject puts the record of a port aside that can't even be shown. Of its device only what was kept for it is let go: what is in
// the container may be the other port's.
func (s *Switch) reject(log *slog.Logger, p *api.Port, held map[string]int, why error) {
	if err := s.store.SetPortAside(p.ID, why); err != nil {
		log.Error("put a port's record aside", "err", err)
	}
	s.discardDevice(&api.Port{ID: p.ID}, held)
}

// mourn handles a port that can't be put to work: it is removed when its namespace or device is no more, else shown with the
// error until somebody deletes it.
func (s *Switch) mourn(log *slog.Logger, n *network, p *api.Port, held map[string]int, err error) {
	if api.HasCode(err, api.CodeNotFound) || errors.Is(err, port.ErrGone) {
		log.Info("port is gone", "why", err)
		n.release(p)
		s.discard(p, held)
		s.events.Publish("port.gone", p.Name, "its interface or namespace died while the daemon was away; its names and addresses are free again")
		return
	}
	log.Error("port can't be restored", "err", err)
	s.enter(&endpoint{port: *p, net: n, held: held, err: err.Error()})
	s.events.Publish("port.error", p.Name, err.Error())
}
